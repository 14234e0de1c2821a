"""Dominance, hypervolume, NetScore: functions on numbers.

A point is a row of losses: every objective turned so that less is better, in
:meth:`Scale.losses` and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from collabdesign.design.cost import Cost
from collabdesign.design.requirements import Requirements
from collabdesign.explore.record import Candidate, Record

Points = NDArray[np.float64]
Direction = Literal["maximize", "minimize"]


def values_of(objectives: Sequence[str], accuracy: float, cost: Cost) -> tuple[float, ...]:
    """The objectives' values in their own direction, as an Optuna study holds them."""
    return tuple(accuracy if name == "accuracy" else float(cost[name]) for name in objectives)


def directions_of(objectives: Sequence[str]) -> list[Direction]:
    """Optuna's direction of each objective: accuracy up, every cost down."""
    return ["maximize" if name == "accuracy" else "minimize" for name in objectives]


def front(points: Points) -> list[int]:
    """Indices of the points that no other dominates, in order; of equal points the first.

    A point dominates another if it is at most equal everywhere and less somewhere.
    """
    kept = []
    for index, point in enumerate(points):
        beats = np.all(points <= point, axis=1)
        # Of these, itself and later equal ones do not count.
        beats[index:] &= np.any(points[index:] < point, axis=1)
        if not beats.any():
            kept.append(index)
    return kept


def hypervolume(points: Points, reference: Sequence[float]) -> float:
    """Volume that the points dominate below a reference point, by slicing along the last axis.

    Exact; meant for fronts of up to a few hundred points in two or three objectives.
    """
    bound = np.asarray(reference, dtype=np.float64)
    inside = points[np.all(points < bound, axis=1)]
    return _volume(inside[front(inside)], bound) if len(inside) else 0.0


def _volume(points: Points, bound: Points) -> float:
    if len(bound) == 1:
        return float(bound[0] - points[:, 0].min())
    points = points[np.argsort(points[:, -1], kind="stable")]
    edges = np.append(points[:, -1], bound[-1])
    total = 0.0
    for count in range(1, len(points) + 1):
        height = edges[count] - edges[count - 1]
        if height > 0:
            total += height * _volume(points[:count, :-1], bound[:-1])
    return float(total)


@dataclass(frozen=True)
class Scale:
    """Turns objectives into shares of what can be gained, so that volumes compare.

    Accuracy runs from chance to 1. A cost runs in logarithm from the limit (the space's
    largest where there is none) down to the space's smallest.

    Attributes:
        objectives: In order.
        chance: Accuracy of guessing, 1 / classes.
        lowest: Smallest cost of the space, for each cost among the objectives.
        highest: The limit, or the largest cost of the space.
    """

    objectives: tuple[str, ...]
    chance: float
    lowest: Mapping[str, float]
    highest: Mapping[str, float]

    def values(self, trained: Candidate) -> tuple[float, ...]:
        """The objectives' values of a trained candidate, in their own direction."""
        return values_of(self.objectives, trained.proxy_accuracy, trained.cost)

    def front(self, trained: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """The trained candidates that no other beats on every objective, in order."""
        points = self.losses([self.values(each) for each in trained])
        return tuple(trained[index] for index in front(points))

    def losses(self, values: Sequence[Sequence[float]]) -> Points:
        """Scaled losses (n x objectives), 0 the best that can be and 1 nothing gained."""
        rows = np.asarray(values, dtype=np.float64).reshape(-1, len(self.objectives))
        scaled = np.empty_like(rows)
        for column, name in enumerate(self.objectives):
            if name == "accuracy":
                scaled[:, column] = (1.0 - rows[:, column]) / (1.0 - self.chance)
            else:
                low, high = math.log(self.lowest[name]), math.log(self.highest[name])
                span = max(high - low, 1e-9)
                scaled[:, column] = (np.log(rows[:, column]) - low) / span
        return scaled

    def hypervolume(self, values: Sequence[Sequence[float]]) -> float:
        """Share of the scaled box that the values dominate, 0 to 1."""
        if not len(values):
            return 0.0
        return hypervolume(self.losses(values), [1.0] * len(self.objectives))


def scale_of_record(record: Record, requirements: Requirements) -> Scale:
    """The ranges of the objectives, as the search wrote them down."""
    ranges = record.attributes["scale"]
    chance = 1 / requirements.data.classes
    return Scale(requirements.objectives, chance, ranges["lowest"], ranges["highest"])


def netscore(accuracy: float, params: int, macs: int) -> float:
    """NetScore: 20 log10(a^2 / sqrt(p m)), one number for a network's balance.

    Args:
        accuracy: 0 to 1; the score takes percent.
        params: The score takes millions.
        macs: The score takes thousands of millions.

    Source: Wong, NetScore (arXiv 1806.05512), with its exponents 2, 0.5 and 0.5.
    """
    percent = max(accuracy * 100.0, 1e-9)
    return 20.0 * math.log10(percent**2 / math.sqrt(params / 1e6 * (macs / 1e9)))


def difference_error(accuracy: float, images: int) -> float:
    """Standard error of the difference of two equally good networks' accuracies.

    Counted is the choice of the images alone, as drawn for each network; of two networks on the
    same images it is rather less, and between two seeds of a training there is more to it.

    Args:
        accuracy: Of both, 0 to 1.
        images: On which each was counted.
    """
    return math.sqrt(2 * accuracy * (1 - accuracy) / images)


def wilson_interval(share: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share, 95 % by default.

    It counts the draws as independent and nothing else: of a test accuracy neither the choice
    of the training seed nor that of the data is in it.

    Args:
        share: 0 to 1.
        count: How many were drawn, at least 1.
        z: Quantile of the normal distribution.
    """
    assert count >= 1 and 0.0 <= share <= 1.0, (share, count)
    weight = z * z / count
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt((share * (1 - share) + weight / 4) / count)
    # Rounding alone could leave the shares 0 and 1 outside their own interval.
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))
