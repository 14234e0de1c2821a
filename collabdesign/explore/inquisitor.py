"""What training would show, predicted with its uncertainty from what it showed so far.

A Gaussian process on parameters and known costs. A parameter's columns share one relevance,
found with the noise by maximum a posteriori. The kernel is a linear part, for smooth additive
structure, and a Matern 5/2 part, for interactions, both on the columns so weighted. The prior on
relevance falls with the number of parameters, so that one prior serves 5 of them and 400
(Hvarfner et al., arXiv 2402.02229). Low outliers, such as networks that died, are drawn in to a
fence.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

from collabdesign.explore.encoding import Columns

Floats = NDArray[np.float64]

# Beyond so many observations relevance is found on a part of them, and predictions on another:
# the cost of both grows with the third power.
_MOST_TO_FIT = 200
_MOST_TO_KNOW = 500

_JITTER = 1e-5

# Deviations by which a target is worse than the others let one expect when it is taken to tell
# nothing of its neighbours, and the variance that it then has, of a spread of 1.
_FAR = 3.0
_ASTRAY = 100.0

# Prior means and deviations of logarithms.
_RELEVANCE = (0.0, 2.0)  # the mean is less the logarithm of the number of parameters
_LINEAR = (-1.0, 1.5)
_MATERN = (0.0, 1.0)
_NOISE = (-3.0, 1.5)


# What is found seldom, and kept while observations come in: logarithms of each group's relevance,
# and of three variances, of the linear part, the Matern part and the noise.
Fit = NDArray[np.float64]


class Inquisitor:
    """One objective's predictor.

    Args:
        rows: [n, d], encoded.
        columns: Of the rows.
        targets: [n], less is better.
        fit: From :func:`find_fit` on the first of these rows, where it was found already.
        fenced: Whether high targets that lie far from most say "bad" and not how bad.
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
        fit: Fit | None = None,
        *,
        fenced: bool = True,
    ) -> None:
        self._groups = np.asarray(columns.group_of)
        self._middle, self._centre, self._spread, scaled = _scaled(rows, targets, fenced)
        self._theta = find_fit(rows, columns, targets, fenced=fenced) if fit is None else fit
        known = _spread_out(scaled, _MOST_TO_KNOW)
        self._condition(rows[known], scaled[known])

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
        corner = cho_factor(rest, lower=True, check_finite=False)[0]
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

    def _condition(self, rows: Floats, scaled: Floats) -> None:
        """On these observations."""
        self._rows = rows
        self._scaled = scaled
        kernel = self._noisy(self._kernel(rows, rows))
        self._cholesky = cho_factor(kernel, lower=True, check_finite=False)[0]
        astray = _astray(self._cholesky, scaled)
        if astray.any():
            kernel[np.diag_indices_from(kernel)] += _ASTRAY * astray
            self._cholesky = cho_factor(kernel, lower=True, check_finite=False)[0]
        self._alpha = cho_solve((self._cholesky, True), scaled, check_finite=False)

    def _noisy(self, kernel: Floats) -> Floats:
        """With the noise of each observation, in place."""
        linear, matern, noise = np.exp(self._theta[-3:])
        kernel[np.diag_indices_from(kernel)] += noise + _JITTER * (1 + linear + matern)
        return kernel

    def _weighted(self, rows: Floats) -> Floats:
        weighted: Floats = (rows - self._middle) * np.exp(self._theta[:-3] / 2)[self._groups]
        return weighted

    def _kernel(self, one: Floats, other: Floats) -> Floats:
        a, b = self._weighted(one), self._weighted(other)
        linear, matern = np.exp(self._theta[-3:-1])
        product = a @ b.T
        squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * product
        out: Floats = linear * (1 + product) + matern * _matern(squares)[0]
        return out

    def _self_kernel(self, rows: Floats) -> Floats:
        a = self._weighted(rows)
        linear, matern = np.exp(self._theta[-3:-1])
        out: Floats = linear * (1 + (a * a).sum(1)) + matern
        return out


def find_fit(rows: Floats, columns: Columns, targets: Floats, *, fenced: bool = True) -> Fit:
    """Relevances and variances by maximum a posteriori; arguments as of :class:`Inquisitor`."""
    middle, _, _, scaled = _scaled(rows, targets, fenced)
    some = _spread_out(scaled, _MOST_TO_FIT)
    centred = rows[some] - middle
    theta, kernel = _fit(centred, columns, scaled[some], np.zeros(len(some)))
    astray = _astray(cho_factor(kernel, lower=True, check_finite=False)[0], scaled[some])
    if astray.any():
        theta, _ = _fit(centred, columns, scaled[some], np.where(astray, _ASTRAY, 0.0))
    return theta


def _scaled(rows: Floats, targets: Floats, fenced: bool) -> tuple[Floats, float, float, Floats]:
    """Middle of the rows; centre and spread of the targets; the targets so scaled."""
    drawn_in = _draw_in(targets) if fenced else targets
    centre, spread = float(drawn_in.mean()), float(drawn_in.std()) or 1.0
    return rows.mean(axis=0), centre, spread, (drawn_in - centre) / spread


def _draw_in(targets: Floats) -> Floats:
    """Bring far high targets (less is better) to the upper fence: they say "bad", not how bad."""
    lowest, low, middle, high, highest = np.quantile(targets, (0.1, 0.25, 0.5, 0.75, 0.9))
    # Where most are alike, such as all that reach 100 %, the others are no outliers.
    spread = max(high - low, (highest - lowest) / 4)
    fence = middle + 3.0 * spread if spread > 0 else targets.max()
    out: Floats = np.minimum(targets, fence)
    return out


def _spread_out(targets: Floats, most: int) -> NDArray[np.int64]:
    """Indices of at most so many: the best half, and the others evenly."""
    if len(targets) <= most:
        return np.arange(len(targets))
    order = np.argsort(targets, kind="stable")
    rest = np.sort(order[most // 2 :])
    others = rest[np.linspace(0, len(rest) - 1, most - most // 2).astype(int)]
    return np.sort(np.concatenate([order[: most // 2], others]))


def _matern(squares: Floats) -> tuple[Floats, Floats]:
    """Matern 5/2 of squared distances, and its derivative by them."""
    root = np.sqrt(5.0 * np.maximum(squares, 0.0))
    decay = np.exp(-root)
    return (1 + root + root * root / 3) * decay, (-5 / 6) * (1 + root) * decay


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
        unit = np.zeros((len(targets), len(bad)))
        unit[bad, np.arange(len(bad))] = 1.0
        half = solve_triangular(cholesky, unit, lower=True, check_finite=False)
        certainty = (half * half).sum(axis=0)
        # What leaving one out would predict for it differs by this over the certainty.
        pull = cho_solve((cholesky, True), targets, check_finite=False)[bad]
        out[bad] = pull / np.sqrt(certainty) > _FAR
    return out


def _fit(rows: Floats, columns: Columns, targets: Floats, unsure: Floats) -> tuple[Floats, Floats]:
    """Logarithms of each group's relevance and of the linear, Matern and noise variances; the
    kernel with them, [n, n], without what is added for ``unsure``, [n]."""
    groups = np.asarray(columns.group_of, dtype=np.int64)
    number = len(columns.crowd_of)
    centre = np.full(number + 3, _RELEVANCE[0])
    width = np.full(number + 3, _RELEVANCE[1])
    centre[:-3] -= np.log(columns.crowd_of)
    centre[-3:], width[-3:] = zip(_LINEAR, _MATERN, _NOISE, strict=True)
    squared = rows * rows
    identity = np.eye(len(rows))

    def loss(theta: Floats) -> tuple[float, Floats]:
        linear, matern, noise = np.exp(theta[-3:])
        kernel, product, value, slope = _covariance(rows, groups, theta)
        factor = cho_factor(kernel + np.diag(unsure), lower=True, check_finite=False)
        alpha = cho_solve(factor, targets, check_finite=False)
        inner = cho_solve(factor, identity, check_finite=False) - np.outer(alpha, alpha)
        pull = (theta - centre) / width
        total = 0.5 * targets @ alpha + np.log(np.diag(factor[0])).sum() + 0.5 * pull @ pull
        bent = matern * (inner * slope)
        by_column = linear * (rows * (inner @ rows)).sum(0) + 2 * (
            squared.T @ bent.sum(1) - (rows * (bent @ rows)).sum(0)
        )
        weights = np.exp(theta[:-3])[groups]
        by_group = np.bincount(groups, weights * by_column, number) if number else np.zeros(0)
        by_rest = [
            linear * (inner * (1 + product)).sum(),
            matern * (inner * value).sum(),
            noise * np.trace(inner),
        ]
        return float(total), 0.5 * np.concatenate([by_group, by_rest]) + pull / width

    found = minimize(
        loss,
        centre,
        jac=True,
        method="L-BFGS-B",
        # Further out a step of the search meets numbers that no kernel holds.
        bounds=list(zip(centre - 4 * width, centre + 4 * width, strict=True)),
        options={"maxiter": 40},
    )
    theta = np.asarray(found.x, dtype=np.float64)
    return theta, _covariance(rows, groups, theta)[0]


def _covariance(
    rows: Floats, groups: NDArray[np.int64], theta: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Of the rows the kernel with noise, and what it is made of: products of the weighted rows,
    Matern values and their derivatives; each [n, n]."""
    linear, matern, noise = np.exp(theta[-3:])
    weighted = rows * np.sqrt(np.exp(theta[:-3])[groups])
    product = weighted @ weighted.T
    norms = np.diag(product)
    value, slope = _matern(norms[:, None] + norms[None, :] - 2 * product)
    kernel = linear * (1 + product) + matern * value
    kernel[np.diag_indices_from(kernel)] += noise + _JITTER * (1 + linear + matern)
    return kernel, product, value, slope
