"""What training would show, predicted with its uncertainty from what it showed so far.

A Gaussian process on parameters and known costs. A parameter's columns share one relevance. The
kernel is a linear part, for smooth additive structure, and a Matern 5/2 part, for interactions,
both on the columns so weighted. Outliers, such as networks that died, are clipped, and those that
leave-one-out prediction does not explain get so much variance that they do not count.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular

from collabdesign.sampler.encoding import Columns
from collabdesign.sampler.posterior import JITTER, Posterior, factor_of, matern

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Beyond so many observations hyperparameters are found on a part of them, and predictions on
# another: the cost of both grows with the third power.
_MOST_TO_FIT = 200
_MOST_TO_KNOW = 500

# Deviations by which a target is worse than its leave-one-out prediction when it is an outlier,
# and the variance that it then has, where all targets have 1.
_OUTLIER_DEVIATIONS = 3.0
_OUTLIER_VARIANCE = 100.0
# One in ten may be an outlier: the negative logarithm of that.
_OUTLIER_ENERGY = math.log(10)
# Share of pairs, an outlier and another one, whose order leave-one-out prediction has to get right
# for the outliers to be due to a choice and not to chance.
_PREDICTABLE = 0.75

# Of the distance between the outer tenths, as much is none between the quartiles.
_SAME = 1e-3

# Of so few observations hyperparameters are drawn, too: later there is hardly a difference, and
# it costs more.
_FEW = 100
_DRAWS = 4


class Inquisitor:
    """One objective's predictor.

    Args:
        rows: [n, d], encoded.
        columns: Of the rows.
        targets: [n], less is better.
        theta: Hyperparameters as :func:`fit` finds them, on the first of these rows; where None,
            the most probable ones of all of them.
        outliers: Whether there may be any among high targets.
    """

    _weighted_rows: Floats
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
        outliers: bool = True,
    ) -> None:
        self._groups = np.asarray(columns.group_of)
        self._middle, self._centre, self._spread, scaled = _scaled(rows, targets, outliers)
        self._theta = fit(rows, columns, targets, outliers=outliers)[0] if theta is None else theta
        known = _subset(scaled, _MOST_TO_KNOW)
        self._condition(rows[known], scaled[known], outliers)

    def predict(self, rows: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the target without its noise, each [n]."""
        weighted = self._weighted(rows)
        cross = self._kernel(weighted, self._weighted_rows)
        half = solve_triangular(self._cholesky, cross.T, lower=True, check_finite=False)
        linear, smooth = np.exp(self._theta[-3:-1])
        own = linear * (1 + (weighted * weighted).sum(1)) + smooth
        variance = own - np.einsum("ij,ij->j", half, half)
        mean = self._centre + self._spread * (cross @ self._alpha)
        variance = self._spread**2 * np.maximum(variance, 1e-9)
        return mean, np.sqrt(variance)

    def add_pending(self, rows: Floats) -> None:
        """Go on as if these, [n, d], at least one, had been observed as predicted: the mean stays,
        and the uncertainty near them is spent (the Kriging believer of Ginsbourger et al. 2010,
        doi 10.1007/978-3-642-10701-6_6)."""
        weighted = self._weighted(rows)
        cross = self._kernel(weighted, self._weighted_rows)
        expected = cross @ self._alpha
        half = solve_triangular(self._cholesky, cross.T, lower=True, check_finite=False)
        corner = factor_of(self._noisy(self._kernel(weighted, weighted)) - half.T @ half)
        above = np.zeros((len(self._scaled), len(rows)))
        self._cholesky = np.block([[self._cholesky, above], [half.T, corner]])
        self._weighted_rows = np.vstack([self._weighted_rows, weighted])
        self._scaled = np.append(self._scaled, expected)
        self._alpha = cho_solve((self._cholesky, True), self._scaled, check_finite=False)

    @property
    def noise(self) -> float:
        """Standard deviation of one observation about the truth."""
        return float(np.exp(self._theta[-1] / 2)) * self._spread

    def _condition(self, rows: Floats, scaled: Floats, outliers: bool) -> None:
        """On these observations."""
        self._scaled = scaled
        self._weighted_rows = self._weighted(rows)
        kernel = self._noisy(self._kernel(self._weighted_rows, self._weighted_rows))
        self._cholesky = factor_of(kernel)
        found = _outliers(self._cholesky, scaled) if outliers else np.zeros(len(rows), dtype=bool)
        if found.any():
            kernel[np.diag_indices_from(kernel)] += _OUTLIER_VARIANCE * found
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

    def _kernel(self, a: Floats, b: Floats) -> Floats:
        """Between weighted rows."""
        linear, smooth = np.exp(self._theta[-3:-1])
        product = a @ b.T
        squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * product
        out: Floats = linear * (1 + product) + smooth * matern(squares)[0]
        return out


def fit(rows: Floats, columns: Columns, targets: Floats, *, outliers: bool = True) -> list[Floats]:
    """Hyperparameters: first the most probable ones, then, where there are few observations, some
    drawn from their posterior. Arguments as of :class:`Inquisitor`."""
    middle, _, _, scaled = _scaled(rows, targets, outliers)
    some = _subset(scaled, _MOST_TO_FIT)
    centred = rows[some] - middle
    none = np.zeros(len(some), dtype=bool)
    found = _fit(centred, columns, scaled[some], none, outliers)
    clipped = (targets > _upper_fence(targets))[some] if outliers else none
    if clipped.any() and not _predictable(*found[1:], scaled[some], clipped):
        # Many outliers are together explained by noise, which then hides them: fit again
        # without them, and believe what is more probable.
        again = _fit(centred, columns, scaled[some], clipped, outliers)
        found = min(found, again, key=lambda each: each[0])
    _, posterior, best = found
    several = [best]
    if len(some) <= _FEW:
        several += posterior.draws(best, _DRAWS, np.random.default_rng(len(some)))
    return [posterior.theta(each) for each in several]


def _fit(
    rows: Floats, columns: Columns, targets: Floats, excluded: Mask, outliers: bool
) -> tuple[float, Posterior, Floats]:
    """The most probable hyperparameters, the outliers by them, and again without these.

    Args:
        rows: [n, d], less their middle.
        columns: Of the rows.
        targets: [n], scaled.
        excluded: [n], outliers at first.
        outliers: Whether others may be.

    Returns:
        The negative logarithm of how probable it all is; the posterior; its most probable ``z``.
    """
    extra = np.where(excluded, _OUTLIER_VARIANCE, 0.0)
    posterior = Posterior(rows, columns, targets, extra)
    best = posterior.most_probable()
    if outliers:
        found = _outliers(factor_of(posterior.kernel(posterior.theta(best))), targets)
        if (found != excluded).any():
            excluded = found
            posterior = Posterior(
                rows, columns, targets, np.where(excluded, _OUTLIER_VARIANCE, 0.0)
            )
            best = posterior.most_probable()
    energy = posterior.energy(best)[0] + _OUTLIER_ENERGY * float(excluded.sum())
    return energy, posterior, best


def _predictable(posterior: Posterior, z: Floats, targets: Floats, high: Mask) -> bool:
    """Whether leave-one-out prediction mostly tells which targets are the high ones: then they are
    due to a choice, and no outliers."""
    factor = factor_of(posterior.kernel(posterior.theta(z)))
    predicted = targets - leave_one_out(factor, targets, np.arange(len(targets)))[0]
    return float((predicted[high][:, None] > predicted[~high]).mean()) > _PREDICTABLE


def _scaled(rows: Floats, targets: Floats, clip: bool) -> tuple[Floats, float, float, Floats]:
    """Middle of the rows; centre and spread of the targets; the targets so scaled."""
    clipped = clip_high(targets) if clip else targets
    centre, spread = float(clipped.mean()), float(clipped.std()) or 1.0
    return rows.mean(axis=0), centre, spread, (clipped - centre) / spread


def spread_of(targets: Floats) -> float:
    """The distance between the quartiles; where these are the same, as where most networks reach
    100 %, a quarter of that between the outer tenths, so that the others are no outliers."""
    lowest, low, high, highest = np.quantile(targets, (0.1, 0.25, 0.75, 0.9))
    same = high - low <= _SAME * (highest - lowest)
    return float((highest - lowest) / 4 if same else high - low)


def clip_high(targets: Floats) -> Floats:
    """Targets (less is better), at most the upper fence: beyond it they say "bad", not how bad."""
    out: Floats = np.minimum(targets, _upper_fence(targets))
    return out


def _upper_fence(targets: Floats) -> float:
    spread = spread_of(targets)
    return float(np.median(targets)) + 3.0 * spread if spread else math.inf


def _subset(targets: Floats, most: int) -> NDArray[np.int64]:
    """Indices of at most so many: the best half, and the others evenly."""
    if len(targets) <= most:
        return np.arange(len(targets))
    order = np.argsort(targets, kind="stable")
    rest = np.sort(order[most // 2 :])
    others = rest[np.linspace(0, len(rest) - 1, most - most // 2).astype(int)]
    return np.sort(np.concatenate([order[: most // 2], others]))


def _outliers(cholesky: Floats, targets: Floats) -> Mask:
    """Which targets (less is better) are far worse than their leave-one-out prediction: a training
    that died tells nothing of similar networks.

    Args:
        cholesky: [n, n], lower factor of the kernel with noise.
        targets: [n], scaled.
    """
    out = np.zeros(len(targets), dtype=bool)
    bad = np.flatnonzero(targets > 1)
    if len(bad):
        beyond, deviation = leave_one_out(cholesky, targets, bad)
        out[bad] = beyond / deviation > _OUTLIER_DEVIATIONS
    return out


def leave_one_out(
    cholesky: Floats, targets: Floats, places: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Targets at some places less what all others predict there, and the deviation of that
    prediction, each [places] (Rasmussen and Williams 2006, equations 5.10 to 5.12). Arguments as
    of :func:`_outliers`."""
    unit = np.zeros((len(targets), len(places)))
    unit[places, np.arange(len(places))] = 1.0
    half = solve_triangular(cholesky, unit, lower=True, check_finite=False)
    precision = (half * half).sum(axis=0)
    alpha = cho_solve((cholesky, True), targets, check_finite=False)[places]
    return alpha / precision, 1 / np.sqrt(precision)
