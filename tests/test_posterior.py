"""What few observations leave open: the gradient, the draws, and numbers at the edge."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from collabdesign.sampler.encoding import Columns
from collabdesign.sampler.posterior import Posterior, factor_of

PARAMETERS = 6


def posterior_of(count: int, seed: int) -> Posterior:
    rng = np.random.default_rng(seed)
    rows = rng.random((count, PARAMETERS)) - 0.5
    targets = 3 * rows[:, 0] + 0.3 * rng.standard_normal(count)
    targets = (targets - targets.mean()) / targets.std()
    columns = Columns((0, 1, 2, 3, 4, 4), (5,) * 5)
    return Posterior(rows, columns, targets, np.where(np.arange(count) == 1, 100.0, 0.0))


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_is_that_of_the_energy(seed: int) -> None:
    posterior = posterior_of(25, seed)
    z = np.random.default_rng(seed).standard_normal(8)
    slope = approx_fprime(z, lambda at: posterior.energy(at)[0], 1e-6)
    assert posterior.energy(z)[1] == pytest.approx(slope, rel=1e-3, abs=1e-3)


def test_draws_are_of_the_posterior() -> None:
    """Against the mean and the deviation of many weighted draws from the prior."""
    posterior, rng = posterior_of(12, 0), np.random.default_rng(1)
    some = rng.standard_normal((20_000, 8))
    some = some[np.abs(some).max(axis=1) < 4]
    energy = np.array([posterior.energy(z)[0] - 0.5 * z @ z for z in some])
    weights = np.exp(energy.min() - energy)
    weights /= weights.sum()
    mean = weights @ some
    deviation = np.sqrt(weights @ (some - mean) ** 2)
    found = np.array(posterior.draws(posterior.most_probable(), 1500, rng))
    assert found.mean(axis=0) == pytest.approx(mean, abs=0.2)
    assert found.std(axis=0) == pytest.approx(deviation, abs=0.2)
    assert np.abs(mean).max() > 0.4  # The observations say something.


def test_no_corner_of_the_bounds_ends_a_search() -> None:
    posterior, rng = posterior_of(80, 2), np.random.default_rng(3)
    for _ in range(60):
        energy, slope = posterior.energy(rng.choice([-4.0, 4.0], 8))
        assert np.isfinite(energy) and np.isfinite(slope).all()


def test_a_kernel_that_rounding_left_indefinite_has_a_factor() -> None:
    rows = np.random.default_rng(4).random((50, 2))
    kernel = rows @ rows.T  # of rank 2
    factor = np.tril(factor_of(kernel))
    assert np.abs(factor @ factor.T - kernel).max() < 1e-3
