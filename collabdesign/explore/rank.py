"""Rank correlation of two measurements of the same networks, and how sure it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rows = NDArray[np.float64]

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A statistic of a few networks with its 95 % interval."""

    value: float
    low: float
    high: float


def spearman(first: ArrayLike, second: ArrayLike) -> Rows:
    """Spearman's rank correlation along the last axis, equal values sharing their mean rank.

    Where one side is all equal it ranks nothing: 0.
    """
    # Late: it takes a second, and who only reads what was found needs it not.
    from scipy.stats import rankdata

    centred = []
    for values in (first, second):
        ranks = rankdata(np.asarray(values, dtype=np.float64), axis=-1)
        centred.append(ranks - ranks.mean(axis=-1, keepdims=True))
    one, two = centred
    return _ratio((one * two).sum(-1), (one**2).sum(-1) * (two**2).sum(-1))


def kendall(first: ArrayLike, second: ArrayLike) -> Rows:
    """Kendall's tau-b along the last axis; where one side is all equal 0."""
    signs = []
    for values in (first, second):
        row = np.asarray(values, dtype=np.float64)
        signs.append(np.sign(row[..., :, None] - row[..., None, :]))
    one, two = signs
    axes = (-2, -1)
    return _ratio((one * two).sum(axes), (one**2).sum(axes) * (two**2).sum(axes))


def estimate(
    statistic: Callable[[ArrayLike, ArrayLike], Rows],
    first: Sequence[float],
    second: Sequence[float],
    seed: int = 0,
) -> Estimate:
    """A rank correlation with its percentile bootstrap interval over the networks.

    The networks are drawn anew with replacement. That knows nothing of networks unlike those
    that were measured, and of a handful of them, all in the same order, it is too sure.

    Args:
        statistic: :func:`spearman` or :func:`kendall`.
        first: One measurement a network, at least 2.
        second: Another of the same networks, in the same order.
        seed: Of the draws.
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    assert one.shape == two.shape and len(one) >= 2, (one.shape, two.shape)
    drawn = np.random.default_rng(seed).integers(len(one), size=(RESAMPLES, len(one)))
    low, high = np.percentile(statistic(one[drawn], two[drawn]), [2.5, 97.5])
    return Estimate(float(statistic(one, two)), float(low), float(high))


def pooled_deviation(groups: Sequence[Sequence[float]]) -> float:
    """Standard deviation within groups, each about its own mean; groups of one tell nothing.

    Args:
        groups: At least one of two or more.
    """
    squares = sum(float(((np.asarray(g) - np.mean(g)) ** 2).sum()) for g in groups if len(g) > 1)
    freedom = sum(len(group) - 1 for group in groups if len(group) > 1)
    assert freedom >= 1, groups
    return float(np.sqrt(squares / freedom))


def _ratio(product: Rows, squares: Rows) -> Rows:
    scale = np.sqrt(squares)
    return np.divide(product, scale, out=np.zeros_like(scale), where=scale > 0)
