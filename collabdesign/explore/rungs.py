"""When to stop a proxy early, with several objectives: a rule on learning curves and costs.

Each epoch but the last is a rung. There a candidate is compared with the networks that were
trained to the end and cost no more in any objective. The first tenth of the epochs is left out: the
learning rate has only begun to rise. The candidate is stopped where one of these networks

- was better at the same epoch, by more than two accuracies on so many images differ by chance, and
- ended above what the candidate can be expected to reach. That is the upper end of a prediction
  interval: from the accuracy at this epoch to the last, by a line through the full curves.

So the search's own curves say how much the rest of a training gains, how much that differs, and
how much is noise between seeds. No margin is set by hand. Where the learning rate ends with the
budget, curves of one recipe can be compared epoch by epoch, and only these.

Optuna's ``Trial.should_prune`` knows one objective; hence this rule. It waits for nobody: it
decides by what is finished at that moment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from collabdesign.explore.record import Candidate

Floats = NDArray[np.float64]

# One in eight of the candidates that are just stopped would have ended above the line. A search can
# afford that: such a network would add little to the front.
_OPTIMISM = 0.875

# The fewest curves to judge by. Of eight, one more lies above them all in one of nine cases.
LEAST_CURVES = 8

# Of a proxy's epochs the share that tells little: the learning rate has only begun to rise.
_BEGINNING = 0.1

# Standard errors by which a network is better at an epoch: one in eight is so by chance, as above.
_CLEARLY = 1.150

# The slope takes all pairs of curves; of more than these, the latest, it would change no more.
_MOST_CURVES = 200


@dataclass(frozen=True)
class FullCurve:
    """A network that was trained to the end of its proxy.

    Attributes:
        number: Of its candidate.
        costs: The objectives besides accuracy; less is better.
        accuracies: On the held-out part of train after each epoch, 0 to 1.
    """

    number: int
    costs: tuple[float, ...]
    accuracies: tuple[float, ...]


@dataclass(frozen=True)
class Stop:
    """Why a candidate is stopped.

    Attributes:
        epochs: After so many.
        accuracy: Its own there, 0 to 1.
        optimistic: At the end, 0 to 1: seven in eight such candidates end below.
        rival: What it was held against.
    """

    epochs: int
    accuracy: float
    optimistic: float
    rival: FullCurve

    def __str__(self) -> str:
        there, end = self.rival.accuracies[self.epochs - 1], self.rival.accuracies[-1]
        return (
            f"after epoch {self.epochs} of {len(self.rival.accuracies)}: "
            f"{100 * self.accuracy:.1f} %, expected {100 * self.optimistic:.1f} % at most. "
            f"Candidate {self.rival.number} costs no more, had {100 * there:.1f} % then and ended "
            f"at {100 * end:.1f} %"
        )


@dataclass(frozen=True)
class Rungs:
    """What candidates are held against.

    Attributes:
        full: The fully trained networks, whose curves are of one length.
        images: Held-out images that each accuracy is a share of.
    """

    full: tuple[FullCurve, ...]
    images: int

    def verdict(self, accuracies: Sequence[float], costs: Sequence[float]) -> Stop | None:
        """Whether a candidate is stopped now, and why; None where it goes on.

        Never stopped are one that costs less, in some objective, than each that is fully
        trained; one that none of those of no larger cost clearly beats at this epoch; any in
        the first tenth of the epochs, and at the last; and any while fewer than
        :data:`LEAST_CURVES` are fully trained.

        Its accuracies so far are at least one, 0 to 1; its costs those of :func:`costs_of`.
        """
        epochs = len(accuracies)
        if not self._tell_of(epochs) or epochs < _BEGINNING * len(self.full[0].accuracies):
            return None
        rival = self._rival(accuracies, costs)
        if rival is None:
            return None
        _, optimistic = self._projection(accuracies, costs)
        if optimistic > rival.accuracies[-1]:
            return None
        return Stop(epochs, accuracies[-1], optimistic, rival)

    def expected_accuracy(self, accuracies: Sequence[float], costs: Sequence[float]) -> float:
        """What a stopped candidate would have had at the end, 0 to 1, for a sampler to learn from.

        The median of what became of such an accuracy at that epoch, and never more than the best
        of those that it was held against; its last accuracy while too few are fully trained.
        """
        if not self._tell_of(len(accuracies)):
            return accuracies[-1]
        expected, _ = self._projection(accuracies, costs)
        rival = self._rival(accuracies, costs)
        return expected if rival is None else min(expected, rival.accuracies[-1])

    def _tell_of(self, epochs: int) -> bool:
        """Whether the full curves are enough, and go on after so many epochs."""
        return len(self.full) >= LEAST_CURVES and epochs < len(self.full[0].accuracies)

    def _rival(self, accuracies: Sequence[float], costs: Sequence[float]) -> FullCurve | None:
        """Of no larger cost and clearly better at the same epoch, the best at the end."""
        at, own = len(accuracies) - 1, accuracies[-1]

        def is_clearly_better(other: float) -> bool:
            # By the standard error of the difference, the images counted as drawn.
            error = math.sqrt((own * (1 - own) + other * (1 - other)) / self.images)
            return other > own and other - own >= _CLEARLY * error

        rivals = (
            each
            for each in self.full
            if is_clearly_better(each.accuracies[at])
            and all(theirs <= ours for theirs, ours in zip(each.costs, costs, strict=True))
        )
        return max(rivals, key=lambda each: each.accuracies[-1], default=None)

    def _projection(
        self, accuracies: Sequence[float], costs: Sequence[float]
    ) -> tuple[float, float]:
        """Median and upper end of the accuracy after the last epoch, 0 to 1.

        A line through the full curves (Theil-Sen), from the accuracy at this epoch to the last,
        and of what is left another over the costs: a large network begins slowly and gains more.
        To these the quantiles of the distances from both.
        """
        at = len(accuracies) - 1
        latest = self.full[-_MOST_CURVES:]
        there = np.array([each.accuracies[at] for each in latest])
        end = np.array([each.accuracies[-1] for each in latest])
        slope = _slope(there, end)
        sizes = np.array([_size(each.costs) for each in latest])
        by_size = _slope(sizes, end - slope * there)
        rest = np.sort(end - slope * there - by_size * sizes)
        # Of n distances and one more the last lies above the k-th in 1 - k / (n + 1) of all cases.
        upper_place = min(len(rest), math.ceil(_OPTIMISM * (len(rest) + 1))) - 1
        distances = np.array([np.median(rest), rest[upper_place]])
        middle, upper = np.clip(distances + slope * accuracies[-1] + by_size * _size(costs), 0, 1)
        return float(middle), float(upper)


def full_curve(candidate: Candidate, objectives: Sequence[str]) -> FullCurve:
    """Of a candidate that was trained to its end."""
    accuracies = tuple(point.accuracy for point in candidate.curve)
    return FullCurve(candidate.number, costs_of(candidate, objectives), accuracies)


def costs_of(candidate: Candidate, objectives: Sequence[str]) -> tuple[float, ...]:
    """The objectives besides accuracy; less is better."""
    return tuple(float(candidate.cost[name]) for name in objectives if name != "accuracy")


def _size(costs: Sequence[float]) -> float:
    """Mean of the logarithms of the costs."""
    # A count of 0 has no logarithm; milliseconds below 1 have.
    return float(np.log([cost if cost > 0 else 1.0 for cost in costs]).mean()) if costs else 0.0


def _slope(x: Floats, y: Floats) -> float:
    """Median of the slopes of all pairs, within 0 to 1.

    Less at an epoch is never taken for a promise of more at the end, nor for a distance that
    still grows: below the curves that are known, either would be a guess.
    """
    run, rise = x[:, None] - x, y[:, None] - y
    apart = run > 0
    return float(np.clip(np.median(rise[apart] / run[apart]), 0, 1)) if apart.any() else 0.0
