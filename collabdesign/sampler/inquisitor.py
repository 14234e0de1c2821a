"""What training would show, predicted with its uncertainty from what it showed so far.

A Gaussian process on parameters and known costs. A parameter's columns share one relevance. The
kernel is a linear part, for smooth additive structure, and a Matern 5/2 part, for interactions,
both on the columns so weighted. Low outliers, such as networks that died, are drawn in to a fence.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular

from collabdesign.sampler.encoding import Columns
from collabdesign.sampler.posterior import JITTER, Posterior, factor_of, matern

Floats = NDArray[np.float64]

# Beyond so many observations relevance is found on a part of them, and predictions on another:
# the cost of both grows with the third power.
_MOST_TO_FIT = 200
_MOST_TO_KNOW = 500

# Deviations by which a target is worse than the others let one expect when it is taken to tell
# nothing of its neighbours, and the variance that it then has, of a spread of 1.
_FAR = 3.0
_ASTRAY = 100.0
# One in ten may be astray: the negative logarithm of that.
_RARE = math.log(10)
# Pairs of a doubted and another one that are to be told apart for a choice to be the reason.
_TELLING = 0.75

# Of the distance between the outer tenths, as much is none between the quartiles.
_SAME = 1e-3

# Of so few observations several explanations are drawn: later there is hardly a difference, and
# it costs more.
_FEW = 100
_DRAWS = 4


class Inquisitor:
    """One objective's predictor.

    Args:
        rows: [n, d], encoded.
        columns: Of the rows.
        targets: [n], less is better.
        theta: Logarithms of relevances and variances, one of what :func:`find_fit` found on the
            first of these rows; where None, the most probable ones.
        fenced: Whether high targets that lie far from most say "bad" and not how bad, and one alone
            nothing of its neighbours.
    """

    _rows: Floats
    _scaled: Floats
    _cholesky: Floats
    _alpha: Floats

    def __init__(
        self,
        rows: Floats,
        columns: Columns,
        targets: Floats,
        theta: Floats | None = None,
        *,
        fenced: bool = True,
    ) -> None:
        self._groups = np.asarray(columns.group_of)
        self._middle, self._centre, self._spread, scaled = _scaled(rows, targets, fenced)
        if theta is None:
            theta = find_fit(rows, columns, targets, fenced=fenced)[0]
        self._theta = theta
        known = _spread_out(scaled, _MOST_TO_KNOW)
        self._condition(rows[known], scaled[known], fenced)

    def predict(self, rows: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the target without its noise, each [n]."""
        cross = self._kernel(rows, self._rows)
        half = solve_triangular(self._cholesky, cross.T, lower=True, check_finite=False)
        variance = self._self_kernel(rows) - np.einsum("ij,ij->j", half, half)
        mean = self._centre + self._spread * (cross @ self._alpha)
        variance = self._spread**2 * np.maximum(variance, 1e-9)
        return mean, np.sqrt(variance)

    def take_as_expected(self, rows: Floats) -> None:
        """Go on as if these had been observed and had come as expected: [n, d], at least one."""
        cross = self._kernel(rows, self._rows)
        expected = cross @ self._alpha
        half = solve_triangular(self._cholesky, cross.T, lower=True, check_finite=False)
        rest = self._noisy(self._kernel(rows, rows)) - half.T @ half
        corner = factor_of(rest)
        size, more = len(self._rows), len(rows)
        grown = np.zeros((size + more, size + more))
        grown[:size, :size], grown[size:, :size], grown[size:, size:] = (
            self._cholesky,
            half.T,
            corner,
        )
        self._cholesky = grown
        self._rows = np.vstack([self._rows, rows])
        self._scaled = np.append(self._scaled, expected)
        self._alpha = cho_solve((grown, True), self._scaled, check_finite=False)

    @property
    def noise(self) -> float:
        """Standard deviation of one observation about the truth."""
        return float(np.exp(self._theta[-1] / 2)) * self._spread

    def _condition(self, rows: Floats, scaled: Floats, fenced: bool) -> None:
        """On these observations."""
        self._rows = rows
        self._scaled = scaled
        kernel = self._noisy(self._kernel(rows, rows))
        self._cholesky = factor_of(kernel)
        astray = _astray(self._cholesky, scaled) if fenced else np.zeros(len(rows), dtype=bool)
        if astray.any():
            kernel[np.diag_indices_from(kernel)] += _ASTRAY * astray
            self._cholesky = factor_of(kernel)
        self._alpha = cho_solve((self._cholesky, True), scaled, check_finite=False)

    def _noisy(self, kernel: Floats) -> Floats:
        """With the noise of each observation, in place."""
        linear, smooth, noise = np.exp(self._theta[-3:])
        kernel[np.diag_indices_from(kernel)] += noise + JITTER * (1 + linear + smooth)
        return kernel

    def _weighted(self, rows: Floats) -> Floats:
        weighted: Floats = (rows - self._middle) * np.exp(self._theta[:-3] / 2)[self._groups]
        return weighted

    def _kernel(self, one: Floats, other: Floats) -> Floats:
        a, b = self._weighted(one), self._weighted(other)
        linear, smooth = np.exp(self._theta[-3:-1])
        product = a @ b.T
        squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * product
        out: Floats = linear * (1 + product) + smooth * matern(squares)[0]
        return out

    def _self_kernel(self, rows: Floats) -> Floats:
        a = self._weighted(rows)
        linear, smooth = np.exp(self._theta[-3:-1])
        out: Floats = linear * (1 + (a * a).sum(1)) + smooth
        return out


def find_fit(
    rows: Floats, columns: Columns, targets: Floats, *, fenced: bool = True
) -> list[Floats]:
    """What relevances and variances may be: first the most probable ones, then, where there are
    few observations, some drawn from the posterior. Arguments as of :class:`Inquisitor`."""
    middle, _, _, scaled = _scaled(rows, targets, fenced)
    some = _spread_out(scaled, _MOST_TO_FIT)
    centred = rows[some] - middle
    none = np.zeros(len(some), dtype=bool)
    look = _explained(centred, columns, scaled[some], none, fenced)
    doubted = (targets > _fence(targets))[some] if fenced else none
    if doubted.any() and not _foretold(*look[1:], scaled[some], doubted):
        # Many that died are together explained by noise, which then hides them: another look
        # begins without them, and what is more probable is believed.
        look = min(
            look,
            _explained(centred, columns, scaled[some], doubted, fenced),
            key=lambda each: each[0],
        )
    _, posterior, best = look
    found = [best]
    if len(some) <= _FEW:
        found += posterior.draws(best, _DRAWS, np.random.default_rng(len(some)))
    return [posterior.theta(each) for each in found]


def _explained(
    rows: Floats, columns: Columns, targets: Floats, doubted: NDArray[np.bool_], fenced: bool
) -> tuple[float, Posterior, Floats]:
    """The most probable relevances and variances, which targets are astray by them, and again with
    these told apart.

    Args:
        rows: [n, d], less their middle.
        columns: Of the rows.
        targets: [n], scaled.
        doubted: [n], what the first look takes to tell nothing.
        fenced: Whether any may be astray.

    Returns:
        How improbable it all is, as a negative logarithm; the posterior; its most probable ``z``.
    """
    posterior = Posterior(rows, columns, targets, np.where(doubted, _ASTRAY, 0.0))
    best = posterior.most_probable()
    if fenced:
        astray = _astray(factor_of(posterior.kernel(posterior.theta(best))), targets)
        if (astray != doubted).any():
            doubted = astray
            posterior = Posterior(rows, columns, targets, np.where(doubted, _ASTRAY, 0.0))
            best = posterior.most_probable()
    return posterior.energy(best)[0] + _RARE * float(doubted.sum()), posterior, best


def _foretold(posterior: Posterior, z: Floats, targets: Floats, doubted: NDArray[np.bool_]) -> bool:
    """Whether the others mostly tell which are doubted: then a choice is what networks die of."""
    factor = factor_of(posterior.kernel(posterior.theta(z)))
    told = targets - _left_out(factor, targets, np.arange(len(targets)))[0]
    return float((told[doubted][:, None] > told[~doubted]).mean()) > _TELLING


def _scaled(rows: Floats, targets: Floats, fenced: bool) -> tuple[Floats, float, float, Floats]:
    """Middle of the rows; centre and spread of the targets; the targets so scaled."""
    drawn_in = _draw_in(targets) if fenced else targets
    centre, spread = float(drawn_in.mean()), float(drawn_in.std()) or 1.0
    return rows.mean(axis=0), centre, spread, (drawn_in - centre) / spread


def spread_of(targets: Floats) -> float:
    """The distance between the quartiles; where these are the same, as where most networks reach
    100 %, a quarter of that between the outer tenths, so that the others are no outliers."""
    lowest, low, high, highest = np.quantile(targets, (0.1, 0.25, 0.75, 0.9))
    same = high - low <= _SAME * (highest - lowest)
    return float((highest - lowest) / 4 if same else high - low)


def _draw_in(targets: Floats) -> Floats:
    """Bring far high targets (less is better) to the upper fence: they say "bad", not how bad."""
    out: Floats = np.minimum(targets, _fence(targets))
    return out


def _fence(targets: Floats) -> float:
    spread = spread_of(targets)
    return float(np.median(targets)) + 3.0 * spread if spread else math.inf


def _spread_out(targets: Floats, most: int) -> NDArray[np.int64]:
    """Indices of at most so many: the best half, and the others evenly."""
    if len(targets) <= most:
        return np.arange(len(targets))
    order = np.argsort(targets, kind="stable")
    rest = np.sort(order[most // 2 :])
    others = rest[np.linspace(0, len(rest) - 1, most - most // 2).astype(int)]
    return np.sort(np.concatenate([order[: most // 2], others]))


def _astray(cholesky: Floats, targets: Floats) -> NDArray[np.bool_]:
    """Which targets (less is better) are far worse than all others let one expect of them: a
    training that died tells nothing of its neighbours.

    Args:
        cholesky: [n, n], lower factor of the kernel with noise.
        targets: [n], scaled.
    """
    out = np.zeros(len(targets), dtype=bool)
    bad = np.flatnonzero(targets > 1)
    if len(bad):
        beyond, deviation = _left_out(cholesky, targets, bad)
        out[bad] = beyond / deviation > _FAR
    return out


def _left_out(
    cholesky: Floats, targets: Floats, places: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """By how much some targets are above what all others let one expect, and the deviation of
    that, each [places]. Arguments as of :func:`_astray`."""
    unit = np.zeros((len(targets), len(places)))
    unit[places, np.arange(len(places))] = 1.0
    half = solve_triangular(cholesky, unit, lower=True, check_finite=False)
    certainty = (half * half).sum(axis=0)
    pull = cho_solve((cholesky, True), targets, check_finite=False)[places]
    return pull / certainty, 1 / np.sqrt(certainty)
