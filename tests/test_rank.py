"""Rank correlations with their intervals, by arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from collabdesign.explore.rank import Estimate, about_equal, estimate, kendall, spearman


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


def test_pairs_of_about_the_same_cost() -> None:
    near = about_equal([100, 130, 131, 170], 1.3)
    pairs = [(one, other) for one in range(4) for other in range(4) if near[one, other]]
    assert pairs == [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)]


def test_rank_correlation_among_some_pairs_by_hand() -> None:
    first, second = [0.1, 0.2, 0.3, 0.4], [0.6, 0.5, 0.9, 0.7]
    some = about_equal([100, 100, 200, 200], 1.3)  # the first two, and the last two
    # Both pairs are in the other order, four of the six in the same.
    assert float(kendall(first, second, some)) == -1
    assert float(kendall(first, second)) == pytest.approx((4 - 2) / 6)
    assert float(spearman(first, second, some)) == pytest.approx(-1)
    three = about_equal([100, 100, 100, 200], 1.3)
    # Ranks 1 2 3 and 2 1 4: differences 1 1 2 and -1 3 2, so 6 / sqrt(6 * 14).
    assert float(spearman(first, second, three)) == pytest.approx(6 / math.sqrt(84))
    assert float(kendall(first, second, three)) == pytest.approx((2 - 1) / 3)
    # Twice as far apart in their ranks, two networks weigh more.
    none = about_equal([1, 10, 100, 1000], 1.3)
    assert float(spearman(first, second, none)) == float(kendall(first, second, none)) == 0


def test_among_all_pairs_it_is_the_plain_one() -> None:
    first, second = np.random.default_rng(0).integers(5, size=(2, 50, 12))
    everyone = ~np.eye(12, dtype=np.bool_)
    for statistic in (spearman, kendall):
        assert np.allclose(statistic(first, second, everyone), statistic(first, second))
        one, two = first[0], second[0]
        plain, among = estimate(statistic, one, two), estimate(statistic, one, two, 0, everyone)
        assert (plain.low, plain.high) == pytest.approx((among.low, among.high))


def test_an_order_by_cost_alone_is_none_at_the_same_cost() -> None:
    """Groups of equal cost, measured accuracies of which only the groups are in order."""
    rng = np.random.default_rng(0)
    costs = np.repeat([1.0, 2.0, 4.0, 8.0], 10)
    first, second = np.log(costs) + 0.1 * rng.normal(size=(2, 40))
    near = about_equal(costs, 1.3)
    assert near.sum() == 4 * 10 * 9
    assert float(spearman(first, second)) > 0.9
    among = estimate(spearman, first, second, 0, near)
    assert among.low < 0 < among.high
