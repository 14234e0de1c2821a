"""The posterior of a Gaussian process's hyperparameters, given the observations.

They are the logarithms of relevances and variances. The prior on relevance falls with the number
of parameters, so that one prior serves 5 of them and 400 (Hvarfner et al., arXiv 2402.02229). Few
observations fit several hyperparameters; with the most probable ones alone predictions are too sure
of themselves, and a search may not leave a poor region. So some are drawn, by Hamiltonian Monte
Carlo (Neal, arXiv 1206.1901).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.linalg import LinAlgError
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from collabdesign.sampler.encoding import Columns
from collabdesign.sampler.proposal_space import Floats

_JITTER = 1e-5

# Of the mean of the diagonal, one after the other.
_JITTERS = (0.0, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2)

# Prior means and deviations of logarithms.
_RELEVANCE = (0.0, 2.0)  # the mean is less the logarithm of the number of parameters
_LINEAR = (-1.0, 1.5)
_MATERN = (0.0, 1.0)
_NOISE = (-3.0, 1.5)

# Further from the prior's mean, in its deviations, a search meets numbers that no kernel holds.
_BOUND = 4.0

# A draw is the end of so many trajectories after the last, each of so many steps; of about so many
# of the prior's deviations at first, then so that about so many trajectories are accepted.
_TRAJECTORIES = 3
_STEPS = 6
_STEP = 0.25
_ACCEPTED = 0.7


def _matern(squares: Floats) -> tuple[Floats, Floats]:
    """Matern 5/2 of squared distances, and its derivative by them."""
    root = np.sqrt(5.0 * np.maximum(squares, 0.0))
    decay = np.exp(-root)
    return (1 + root + root * root / 3) * decay, (-5 / 6) * (1 + root) * decay


def covariance(theta: Floats, products: Floats, squares: Floats) -> tuple[Floats, Floats, Floats]:
    """The kernel without noise, from the products of weighted rows and their squared distances;
    its Matern values; their derivatives by the squared distances. Each has the arguments' shape."""
    linear, smooth = np.exp(theta[-3:-1])
    value, slope = _matern(squares)
    return linear * (1 + products) + smooth * value, value, slope


def add_noise(kernel: Floats, theta: Floats) -> Floats:
    """The kernel, [n, n], with the noise of each observation, in place."""
    linear, smooth, noise = np.exp(theta[-3:])
    kernel[np.diag_indices_from(kernel)] += noise + _JITTER * (1 + linear + smooth)
    return kernel


def factor_of(kernel: Floats) -> Floats:
    """Lower Cholesky factor of a kernel, [n, n], its upper triangle of no meaning; with a little
    more on the diagonal where rounding has left the kernel indefinite."""
    for more in _JITTERS:
        try:
            if more:
                kernel = kernel + more * kernel.trace() / len(kernel) * np.eye(len(kernel))
            out: Floats = cho_factor(kernel, lower=True, check_finite=False)[0]
        except LinAlgError:
            continue
        return out
    raise LinAlgError("a kernel must be positive definite, and is not within its rounding")


class Posterior:
    """The posterior of each group's relevance, then of the linear, Matern and noise variances, all
    as logarithms, ``theta``. ``z`` are these as deviations from the prior's mean, in units of its
    standard deviation; both [groups + 3].

    Args:
        rows: [n, d], encoded, less their middle.
        columns: Of the rows.
        targets: [n], of mean 0 and deviation 1.
        extra: [n], variance that each target has beside the noise.
    """

    def __init__(self, rows: Floats, columns: Columns, targets: Floats, extra: Floats) -> None:
        self._rows, self._targets, self._extra = rows, targets, extra
        self._squared = rows * rows
        self._groups = np.asarray(columns.group_of, dtype=np.int64)
        self._number = len(columns.sort_size)
        prior: Floats = np.array([*[_RELEVANCE] * self._number, _LINEAR, _MATERN, _NOISE])
        self._centre, self._width = prior[:, 0], prior[:, 1]
        self._centre[:-3] -= np.log(columns.sort_size)

    def theta(self, z: Floats) -> Floats:
        """The hyperparameters at ``z``."""
        return self._centre + self._width * z

    def most_probable(self) -> Floats:
        """``z`` of the maximum a posteriori, as far as 40 iterations find it."""
        found = minimize(
            self.energy,
            np.zeros(len(self._centre)),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-_BOUND, _BOUND)] * len(self._centre),
            options={"maxiter": 40},
        )
        return np.asarray(found.x, dtype=np.float64)

    def draws(self, start: Floats, count: int, rng: np.random.Generator) -> list[Floats]:
        """So many ``z``, drawn by a chain that begins at ``start``."""
        z, (energy, gradient) = start, self.energy(start)
        found, step = [], _STEP
        for _ in range(count):
            for _ in range(_TRAJECTORIES):
                momentum = rng.standard_normal(len(z))
                before = energy + 0.5 * float(momentum @ momentum)
                end, momentum, (ended, end_gradient) = self._trajectory(
                    z, gradient, momentum, step * (0.5 + rng.random())
                )
                gain = before - (ended + 0.5 * float(momentum @ momentum))
                accepted = 0.0 if math.isnan(gain) else math.exp(min(0.0, gain))
                if rng.random() < accepted:
                    z, energy, gradient = end, ended, end_gradient
                step *= math.exp(0.5 * (accepted - _ACCEPTED))
            found.append(z)
        return found

    def energy(self, z: Floats) -> tuple[float, Floats]:
        """The negative logarithm of the posterior, but for a constant, and its gradient."""
        theta, rows, targets = self.theta(z), self._rows, self._targets
        linear, smooth, noise = np.exp(theta[-3:])
        kernel, product, value, slope = self._covariance(theta)
        kernel[np.diag_indices_from(kernel)] += self._extra
        factor = factor_of(kernel)
        alpha = cho_solve((factor, True), targets, check_finite=False)
        inverse = cho_solve((factor, True), np.eye(len(rows)), check_finite=False)
        inner = inverse - np.outer(alpha, alpha)
        total = 0.5 * targets @ alpha + np.log(np.diag(factor)).sum() + 0.5 * z @ z
        weighted = smooth * (inner * slope)
        by_column = linear * (rows * (inner @ rows)).sum(0) + 2 * (
            self._squared.T @ weighted.sum(1) - (rows * (weighted @ rows)).sum(0)
        )
        weights = np.exp(theta[:-3])[self._groups]
        by_theta = np.append(
            np.bincount(self._groups, weights * by_column, self._number),
            [
                linear * (inner * (1 + product)).sum(),
                smooth * (inner * value).sum(),
                noise * np.trace(inner),
            ],
        )
        return float(total), 0.5 * self._width * by_theta + z

    def factor(self, z: Floats) -> Floats:
        """As of :func:`factor_of`, of the kernel with the noise, without the extra variance."""
        return factor_of(self._covariance(self.theta(z))[0])

    def _trajectory(
        self, z: Floats, gradient: Floats, momentum: Floats, step: float
    ) -> tuple[Floats, Floats, tuple[float, Floats]]:
        """Position and momentum after the leapfrog steps, and the energy and gradient there: an
        endless energy where they leave the bounds."""
        energy = math.inf
        for _ in range(_STEPS):
            momentum = momentum - 0.5 * step * gradient
            z = z + step * momentum
            if not np.abs(z).max() <= _BOUND:  # nor a number any more
                return z, momentum, (math.inf, gradient)
            energy, gradient = self.energy(z)
            momentum = momentum - 0.5 * step * gradient
        return z, momentum, (energy, gradient)

    def _covariance(self, theta: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """The kernel with noise, and what it is made of: products of the weighted rows, Matern
        values and their derivatives; each [n, n]."""
        weighted = self._rows * np.sqrt(np.exp(theta[:-3])[self._groups])
        product = weighted @ weighted.T
        norms = np.diag(product)
        squares = norms[:, None] + norms[None, :] - 2 * product
        kernel, value, slope = covariance(theta, product, squares)
        return add_noise(kernel, theta), product, value, slope
