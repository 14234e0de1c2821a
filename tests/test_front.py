"""Dominance, hypervolume and scores, beside counting by brute force and by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collabdesign.design.cost import Cost
from collabdesign.explore.front import (
    Scale,
    directions_of,
    front,
    hypervolume,
    netscore,
    values_of,
    wilson_interval,
)

COST = Cost(macs=2_000, params=300, weight_bytes=1_200, peak_activation_bytes=512)

# Small whole numbers: equal points and equal coordinates come often, and volumes are exact.
POINTS = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.tuples(*[st.integers(0, 5)] * width), min_size=1, max_size=8)
)


def dominates(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other


def test_objectives_in_their_own_direction() -> None:
    names = ("accuracy", "peak_activation_bytes", "macs")
    assert values_of(names, 0.75, COST) == (0.75, 512.0, 2_000.0)
    assert directions_of(names) == ["maximize", "minimize", "minimize"]


def test_front_by_hand() -> None:
    #    a       b       c: beaten by b   d: as a   e
    points = [[1, 5], [3, 3], [4, 3], [1, 5], [5, 1]]
    assert front(np.array(points, float)) == [0, 1, 4]


@given(POINTS)
def test_front_is_what_no_other_dominates(points: list[tuple[int, ...]]) -> None:
    kept = front(np.array(points, float))
    expected = [
        index
        for index, point in enumerate(points)
        if not any(dominates(other, point) for other in points) and point not in points[:index]
    ]
    assert kept == expected


def test_hypervolume_by_hand() -> None:
    # Two boxes of 3 x 1 and 1 x 3 below (4, 4) that share 1 x 1.
    assert hypervolume(np.array([[1.0, 3.0], [3.0, 1.0]]), [4, 4]) == 3 + 3 - 1
    # A cube of 2, and one of 1 x 1 x 4 that sticks out by 2.
    assert hypervolume(np.array([[2.0, 2, 2], [3, 3, 0]]), [4, 4, 4]) == 8 + 2
    assert hypervolume(np.array([[1.0]]), [4]) == 3
    # On the border or outside nothing is gained.
    assert hypervolume(np.array([[4.0, 0.0], [5.0, 5.0]]), [4, 4]) == 0


@given(POINTS, st.integers(1, 6))
def test_hypervolume_counts_the_dominated_cells(points: list[tuple[int, ...]], bound: int) -> None:
    width = len(points[0])
    cells = sum(
        any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in points)
        for cell in itertools.product(range(bound), repeat=width)
    )
    assert hypervolume(np.array(points, float), [bound] * width) == cells


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), max_size=6))
def test_hypervolume_by_inclusion_and_exclusion(points: list[tuple[float, float, float]]) -> None:
    expected = 0.0
    for size in range(1, len(points) + 1):
        for chosen in itertools.combinations(points, size):
            shared = math.prod(1 - max(point[axis] for point in chosen) for axis in range(3))
            expected += shared if size % 2 else -shared
    found = hypervolume(np.array(points, float).reshape(-1, 3), [1, 1, 1])
    assert found == pytest.approx(expected, abs=1e-9)


SCALE = Scale(("accuracy", "macs"), 0.1, {"macs": 1e3}, {"macs": 1e5})


def test_scale_by_hand() -> None:
    # From guessing one in ten to 1: 0.55 is half way. From 100k down to 1k: 10k is half way.
    assert SCALE.losses([]).shape == (0, 2)
    scaled = SCALE.losses([(0.55, 1e4), (1.0, 1e3), (0.1, 1e5)])
    assert scaled == pytest.approx(np.array([[0.5, 0.5], [0, 0], [1, 1]]))
    assert SCALE.hypervolume([(0.55, 1e4)]) == pytest.approx(0.25)
    assert SCALE.hypervolume([(1.0, 1e3)]) == pytest.approx(1)
    # 0.5 x 0.5 and 0.25 x 0.75 that share 0.25 x 0.5.
    two = [(0.55, 1e4), (0.1 + 0.9 / 4, 10**3.5)]
    assert SCALE.hypervolume(two) == pytest.approx(0.25 + 0.1875 - 0.125)
    assert SCALE.hypervolume([(0.05, 1e3)]) == 0  # worse than guessing
    assert SCALE.hypervolume([]) == 0


def test_a_space_of_one_cost_has_a_scale() -> None:
    """No limit and nothing to choose: the cost takes no part, and nothing is divided by 0."""
    scale = Scale(("accuracy", "macs"), 0.5, {"macs": 700.0}, {"macs": 700.0})
    assert scale.hypervolume([(0.75, 700.0)]) == pytest.approx(0.5)


def test_netscore_by_hand() -> None:
    # 20 log10(100^2 / sqrt(1 x 1)) = 80; a tenth of the parameters is 10 more.
    assert netscore(1.0, 1_000_000, 1_000_000_000) == pytest.approx(80)
    assert netscore(1.0, 100_000, 1_000_000_000) == pytest.approx(90)
    assert netscore(0.5, 1_000_000, 1_000_000_000) == pytest.approx(80 - 40 * math.log10(2))
    assert netscore(0.0, 1, 1) < -1  # and no error


def test_wilson_by_hand() -> None:
    z = 1.959964
    low, high = wilson_interval(0.0, 10)
    assert (low, high) == (0, pytest.approx(z**2 / (10 + z**2)))
    assert wilson_interval(1.0, 10) == (pytest.approx(10 / (10 + z**2)), 1)
    # Textbook values of 5 in 10 and of 81 in 263 (Newcombe 1998, table I).
    assert wilson_interval(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


@given(st.integers(1, 5_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_its_share(counts: tuple[int, int]) -> None:
    low, high = wilson_interval(counts[0] / counts[1], counts[1])
    assert 0 <= low <= counts[0] / counts[1] <= high <= 1
