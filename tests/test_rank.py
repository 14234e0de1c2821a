"""Rank correlations with their intervals, by arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from collabdesign.explore.rank import Estimate, estimate, kendall, spearman


def test_rank_correlation_by_hand() -> None:
    # Ranks differ by 1, 1, 0, 0: 1 - 6 * 2 / (4 * 15). One pair of six is in the other order.
    first, second = [0.1, 0.2, 0.3, 0.4], [0.6, 0.5, 0.7, 0.9]
    assert float(spearman(first, second)) == pytest.approx(1 - 12 / 60)
    assert float(kendall(first, second)) == pytest.approx((5 - 1) / 6)


def test_rank_correlation_is_scipys_also_with_ties() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(5, size=(2, 50, 12))
    for row, (one, two) in enumerate(zip(first, second, strict=True)):
        rho, tau = spearman(first, second)[row], kendall(first, second)[row]
        assert rho == pytest.approx(spearmanr(one, two).statistic)
        assert tau == pytest.approx(kendalltau(one, two).statistic)


def test_what_is_all_equal_ranks_nothing() -> None:
    assert float(spearman([0.5, 0.5, 0.5], [1, 2, 3])) == 0
    assert float(kendall([1, 2, 3], [0.5, 0.5, 0.5])) == 0


def test_interval_covers_as_often_as_it_says() -> None:
    """Of pairs from a normal distribution whose rank correlation is known."""
    rng = np.random.default_rng(0)
    rho = 0.5
    known = 6 / math.pi * math.asin(rho / 2)
    covered = 0
    for draw in range(200):
        first, noise = rng.normal(size=(2, 20))
        found = estimate(spearman, first, rho * first + math.sqrt(1 - rho**2) * noise, seed=draw)
        assert found.low <= found.value <= found.high
        covered += found.low <= known <= found.high
    assert 0.85 <= covered / 200 <= 0.99


def test_an_interval_is_a_function_of_its_seed() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 12))
    assert estimate(kendall, first, second, 3) == estimate(kendall, first, second, 3)
    assert estimate(spearman, first, first) == Estimate(1.0, 1.0, 1.0)
