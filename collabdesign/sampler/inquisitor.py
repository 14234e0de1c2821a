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
from collabdesign.sampler.posterior import Posterior, add_noise, covariance, factor_of
from collabdesign.sampler.proposal_space import Floats

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
        theta: Hyperparameters as :func:`fit` finds them, on the first of these rows.
        outliers: Whether there may be any among high targets.
    """

    def __init__(
        self,
        rows: Floats,
        columns: Columns,
        targets: Floats,
        theta: Floats,
        *,
        outliers: bool = True,
    ) -> None:
        self._groups = np.asarray(columns.group_of)
        self._theta = theta
        self._middle, self._centre, self._spread, scaled = _scaled(rows, targets, outliers)
        known = _subset(scaled, _MOST_TO_KNOW)
        self._scaled = scaled[known]
        self._weighted_rows = self._weighted(rows[known])
        kernel = add_noise(self._kernel(self._weighted_rows, self._weighted_rows), theta)
        self._cholesky = factor_of(kernel)
        if outliers and (found := _outliers(self._cholesky, self._scaled)).any():
            kernel[np.diag_indices_from(kernel)] += _OUTLIER_VARIANCE * found
            self._cholesky = factor_of(kernel)
        self._alpha = cho_solve((self._cholesky, True), self._scaled, check_finite=False)

    def predict(self, rows: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the target without its noise, each [n]."""
        weighted = self._weighted(rows)
        cross, half = self._cross(weighted)
        linear, smooth = np.exp(self._theta[-3:-1])
        own = linear * (1 + (weighted * weighted).sum(1)) + smooth
        variance = own - np.einsum("ij,ij->j", half, half)
        mean = self._centre + self._spread * (cross @ self._alpha)
        return mean, np.sqrt(self._spread**2 * np.maximum(variance, 1e-9))

    def add_pending(self, rows: Floats) -> None:
        """Go on as if these, [n, d], at least one, had been observed as predicted: the mean stays,
        and the uncertainty near them is spent (the Kriging believer of Ginsbourger et al. 2010,
        doi 10.1007/978-3-642-10701-6_6)."""
        weighted = self._weighted(rows)
        cross, half = self._cross(weighted)
        kernel = add_noise(self._kernel(weighted, weighted), self._theta)
        corner = factor_of(kernel - half.T @ half)
        above = np.zeros((len(self._scaled), len(rows)))
        self._cholesky = np.block([[self._cholesky, above], [half.T, corner]])
        self._weighted_rows = np.vstack([self._weighted_rows, weighted])
        self._scaled = np.append(self._scaled, cross @ self._alpha)
        self._alpha = cho_solve((self._cholesky, True), self._scaled, check_finite=False)

    @property
    def noise(self) -> float:
        """Standard deviation of one observation about the truth."""
        return float(np.exp(self._theta[-1] / 2)) * self._spread

    def _weighted(self, rows: Floats) -> Floats:
        weighted: Floats = (rows - self._middle) * np.exp(self._theta[:-3] / 2)[self._groups]
        return weighted

    def _cross(self, weighted: Floats) -> tuple[Floats, Floats]:
        """The kernel [n, known] to what is known, and its product with the factor's inverse."""
        cross = self._kernel(weighted, self._weighted_rows)
        return cross, solve_triangular(self._cholesky, cross.T, lower=True, check_finite=False)

    def _kernel(self, a: Floats, b: Floats) -> Floats:
        """Between weighted rows."""
        product = a @ b.T
        squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * product
        return covariance(self._theta, product, squares)[0]


def fit(rows: Floats, columns: Columns, targets: Floats, *, outliers: bool = True) -> list[Floats]:
    """Hyperparameters: first the most probable ones, then, where there are few observations, some
    drawn from their posterior. Arguments as of :class:`Inquisitor`."""
    middle, _, _, scaled = _scaled(rows, targets, outliers)
    some = _subset(scaled, _MOST_TO_FIT)
    observed = rows[some] - middle, columns, scaled[some]
    none = np.zeros(len(some), dtype=bool)
    found = _fit(*observed, none, outliers)
    clipped = (targets > upper_fence(targets))[some] if outliers else none
    if clipped.any() and not _predictable(*found[1:], scaled[some], clipped):
        # Many outliers are together explained by noise, which then hides them: fit again
        # without them, and believe what is more probable.
        found = min(found, _fit(*observed, clipped, outliers), key=lambda each: each[0])
    _, posterior, best = found
    several = [best]
    if len(some) <= _FEW:
        several += posterior.draws(best, _DRAWS, np.random.default_rng(len(some)))
    return [posterior.theta(each) for each in several]


def _fit(
    rows: Floats, columns: Columns, targets: Floats, excluded: Mask, outliers: bool
) -> tuple[float, Posterior, Floats]:
    """How improbable it all is, as a negative logarithm; the posterior; its most probable ``z``,
    found again without the targets that are outliers by the first.

    Rows [n, d] are less their middle, targets [n] scaled, outliers at first [n] excluded."""

    def without(excluded: Mask) -> tuple[Posterior, Floats]:
        posterior = Posterior(rows, columns, targets, np.where(excluded, _OUTLIER_VARIANCE, 0.0))
        return posterior, posterior.most_probable()

    posterior, best = without(excluded)
    if outliers and ((found := _outliers(posterior.factor(best), targets)) != excluded).any():
        excluded = found
        posterior, best = without(excluded)
    energy = posterior.energy(best)[0] + _OUTLIER_ENERGY * float(excluded.sum())
    return energy, posterior, best


def _predictable(posterior: Posterior, z: Floats, targets: Floats, high: Mask) -> bool:
    """Whether leave-one-out prediction mostly tells which targets are the high ones: then they are
    due to a choice, and no outliers."""
    beyond, _ = leave_one_out(posterior.factor(z), targets, np.arange(len(targets)))
    predicted = targets - beyond
    return float((predicted[high][:, None] > predicted[~high]).mean()) > _PREDICTABLE


def _scaled(rows: Floats, targets: Floats, clip: bool) -> tuple[Floats, float, float, Floats]:
    """Middle of the rows; centre and spread of the targets; the targets so scaled."""
    # Beyond the fence they say "bad", not how bad.
    clipped = np.minimum(targets, upper_fence(targets)) if clip else targets
    centre, spread = float(clipped.mean()), float(clipped.std()) or 1.0
    return rows.mean(axis=0), centre, spread, (clipped - centre) / spread


def upper_fence(targets: Floats, ranges: float = 3.0) -> float:
    """So many interquartile ranges above the median, endless where all targets are the same.

    Where the quartiles are the same, as where most networks reach 100 %, a quarter of the distance
    between the outer tenths counts as the range, so that the others are no outliers.
    """
    lowest, low, high, highest = np.quantile(targets, (0.1, 0.25, 0.75, 0.9))
    same = high - low <= _SAME * (highest - lowest)
    spread = float((highest - lowest) / 4 if same else high - low)
    return float(np.median(targets)) + ranges * spread if spread else math.inf


def _subset(targets: Floats, most: int) -> NDArray[np.int64]:
    """Indices of at most so many: the best half, and the others evenly."""
    if len(targets) <= most:
        return np.arange(len(targets))
    order = np.argsort(targets, kind="stable")
    rest = np.sort(order[most // 2 :])
    others = rest[np.linspace(0, len(rest) - 1, most - most // 2).astype(int)]
    return np.sort(np.concatenate([order[: most // 2], others]))


def _outliers(cholesky: Floats, targets: Floats) -> Mask:
    """Which scaled targets [n] are far worse than their leave-one-out prediction: a training that
    died tells nothing of similar networks."""
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
    prediction, each [places] (Rasmussen and Williams 2006, equations 5.10 to 5.12).

    Args:
        cholesky: [n, n], lower factor of the kernel with noise.
        targets: [n], scaled.
        places: Indices of targets.
    """
    unit = np.zeros((len(targets), len(places)))
    unit[places, np.arange(len(places))] = 1.0
    half = solve_triangular(cholesky, unit, lower=True, check_finite=False)
    precision = (half * half).sum(axis=0)
    alpha = cho_solve((cholesky, True), targets, check_finite=False)[places]
    return alpha / precision, 1 / np.sqrt(precision)
