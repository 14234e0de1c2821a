"""Rank correlation of two measurements of the same networks, and how sure it is.

Both coefficients are cosines over pairs of networks, of the differences of their ranks (Spearman)
or of these differences' signs (Kendall): Daniels, Biometrika 33 (1944), 129-135. So either can be
had among some of the pairs alone, such as networks of about the same cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rows = NDArray[np.float64]
Pairs = NDArray[np.bool_]

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A statistic of a few networks with its 95 % interval."""

    value: float
    low: float
    high: float


class Statistic(Protocol):
    """:func:`spearman` or :func:`kendall`."""

    def __call__(self, first: ArrayLike, second: ArrayLike, among: Pairs | None = None) -> Rows:
        """Along the last axis, among some of the pairs or all of them."""


def spearman(first: ArrayLike, second: ArrayLike, among: Pairs | None = None) -> Rows:
    """Spearman's rank correlation along the last axis, equal values sharing their mean rank.

    Among some of the pairs the ranks are still those among all. Where one side is all equal it
    ranks nothing: 0.
    """
    # Late: it takes a second, and who only reads what was found needs it not.
    from scipy.stats import rankdata

    ranks = [rankdata(np.asarray(side, np.float64), axis=-1) for side in (first, second)]
    if among is None:
        return _cosine(*(side - side.mean(axis=-1, keepdims=True) for side in ranks))
    return _cosine(*(_flat(_differences(side) * among) for side in ranks))


def kendall(first: ArrayLike, second: ArrayLike, among: Pairs | None = None) -> Rows:
    """Kendall's tau-b along the last axis; where one side is all equal 0.

    Where no two are equal, of the pairs the share in the same order less that in the other.
    """
    signs = [np.sign(_differences(np.asarray(side, np.float64))) for side in (first, second)]
    return _cosine(*(_flat(side if among is None else side * among) for side in signs))


def about_equal(values: ArrayLike, factor: float) -> Pairs:
    """Which pairs of values are within a factor of each other; none is a pair with itself."""
    rows = np.asarray(values, np.float64)
    one, other = rows[:, None], rows[None, :]
    near: Pairs = np.maximum(one, other) <= factor * np.minimum(one, other)
    return near & ~np.eye(len(rows), dtype=np.bool_)


def estimate(
    statistic: Statistic,
    first: ArrayLike,
    second: ArrayLike,
    seed: int = 0,
    among: Pairs | None = None,
) -> Estimate:
    """A rank correlation with its percentile bootstrap interval over the networks.

    The networks are drawn anew with replacement. That knows nothing of networks unlike those
    that were measured, and of a handful of them, all in the same order, it is too sure.

    Args:
        statistic: :func:`spearman` or :func:`kendall`.
        first: One measurement a network, at least 2; ``second`` likewise, in the same order.
        seed: Of the draws.
        among: The pairs that count; all where None.
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    assert one.shape == two.shape and len(one) >= 2, (one.shape, two.shape)
    drawn = np.random.default_rng(seed).integers(len(one), size=(RESAMPLES, len(one)))
    redrawn = None if among is None else among[drawn[:, :, None], drawn[:, None, :]]
    low, high = np.percentile(statistic(one[drawn], two[drawn], redrawn), [2.5, 97.5])
    return Estimate(float(statistic(one, two, among)), float(low), float(high))


def _differences(rows: Rows) -> Rows:
    """Of each pair."""
    found: Rows = rows[..., :, None] - rows[..., None, :]
    return found


def _flat(pairs: Rows) -> Rows:
    return pairs.reshape(*pairs.shape[:-2], -1)


def _cosine(one: Rows, two: Rows) -> Rows:
    scale = np.sqrt((one**2).sum(axis=-1) * (two**2).sum(axis=-1))
    products, zeros = (one * two).sum(axis=-1), np.zeros_like(scale)
    found: Rows = np.divide(products, scale, out=zeros, where=scale > 0)
    return found
