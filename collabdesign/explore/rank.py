"""Rank correlation of two measurements of the same networks, and how sure it is."""

from __future__ import annotations

from collections.abc import Callable
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

    ranks = [rankdata(np.asarray(side, np.float64), axis=-1) for side in (first, second)]
    return _cosine(*(side - side.mean(axis=-1, keepdims=True) for side in ranks))


def kendall(first: ArrayLike, second: ArrayLike) -> Rows:
    """Kendall's tau-b along the last axis; where one side is all equal 0."""
    sides = [np.asarray(side, np.float64) for side in (first, second)]
    signs = [np.sign(side[..., :, None] - side[..., None, :]) for side in sides]
    return _cosine(*(side.reshape(*side.shape[:-2], -1) for side in signs))


def estimate(
    statistic: Callable[[ArrayLike, ArrayLike], Rows],
    first: ArrayLike,
    second: ArrayLike,
    seed: int = 0,
) -> Estimate:
    """A rank correlation with its percentile bootstrap interval over the networks.

    The networks are drawn anew with replacement. That knows nothing of networks unlike those
    that were measured, and of a handful of them, all in the same order, it is too sure.

    Args:
        statistic: :func:`spearman` or :func:`kendall`.
        first: One measurement a network, at least 2; ``second`` likewise, in the same order.
        seed: Of the draws.
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    assert one.shape == two.shape and len(one) >= 2, (one.shape, two.shape)
    drawn = np.random.default_rng(seed).integers(len(one), size=(RESAMPLES, len(one)))
    low, high = np.percentile(statistic(one[drawn], two[drawn]), [2.5, 97.5])
    return Estimate(float(statistic(one, two)), float(low), float(high))


def _cosine(one: Rows, two: Rows) -> Rows:
    scale = np.sqrt((one**2).sum(axis=-1) * (two**2).sum(axis=-1))
    products, zeros = (one * two).sum(axis=-1), np.zeros_like(scale)
    found: Rows = np.divide(products, scale, out=zeros, where=scale > 0)
    return found
