"""When to stop a proxy early, with several objectives: a rule on learning curves and costs.

After each epoch but the last, a rung, a candidate is held against the networks that were trained
to the end and cost no more in any objective. It is stopped where one of them was better at the
same epoch, and ended where the candidate will hardly come: above the upper end of what trainings
so far made of such an accuracy at that epoch. How much the rest of a training gains, how much
that differs and how much is noise between seeds is thereby learnt from the search's own curves;
no margin is set by hand. A learning rate that ends with the budget makes the curves of one recipe
comparable epoch by epoch, and only these.

Optuna's ``Trial.should_prune`` knows one objective; hence this rule of our own. Nothing here
waits for others: any number of workers decide by what is finished at that moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from collabdesign.explore.front import directions_of, values_of
from collabdesign.explore.record import Candidate

Floats = NDArray[np.float64]

# One in ten of the candidates that just meet the line would have ended above it. A search bears
# that: such a network adds to the front the little by which it would have been above.
_OPTIMISM = 0.9

# The fewest curves of which one in ten can lie above a line.
LEAST_CURVES = 10

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
        optimistic: At the end, at best: nine in ten such candidates end below.
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
            f"{100 * self.accuracy:.1f} % there and hardly over {100 * self.optimistic:.1f} % at "
            f"the end, where candidate {self.rival.number} of no larger cost had "
            f"{100 * there:.1f} % and {100 * end:.1f} %"
        )


def full_curves(
    candidates: Sequence[Candidate], objectives: Sequence[str], epochs: int
) -> tuple[FullCurve, ...]:
    """The curves of the trained among candidates.

    Args:
        candidates: In any state.
        objectives: Of the search.
        epochs: Of a proxy today; a curve of another length is not comparable and left out.
    """
    return tuple(
        FullCurve(
            each.number,
            costs_of(each, objectives),
            tuple(point.accuracy for point in each.curve),
        )
        for each in candidates
        if each.outcome == "trained" and len(each.curve) == epochs
    )


def costs_of(candidate: Candidate, objectives: Sequence[str]) -> tuple[float, ...]:
    """The objectives besides accuracy; less is better."""
    directions = directions_of(objectives)
    values = values_of(objectives, 0.0, candidate.cost)
    return tuple(
        value
        for value, direction in zip(values, directions, strict=True)
        if direction == "minimize"
    )


def verdict(
    accuracies: Sequence[float], costs: Sequence[float], full: Sequence[FullCurve]
) -> Stop | None:
    """Whether a candidate is stopped now, and why; None where it goes on.

    Never stopped are one that no fully trained network undercuts or equals in every cost, one
    that is at least as good as all these at this epoch, any at the last epoch, and any while
    fewer than :data:`LEAST_CURVES` are fully trained.

    Args:
        accuracies: Its own so far, epoch by epoch, at least one.
        costs: As of :func:`costs_of`.
        full: The fully trained networks, whose curves are of one length.
    """
    done = len(accuracies)
    if len(full) < LEAST_CURVES or done >= len(full[0].accuracies):
        return None
    rivals = _better_rivals(accuracies, costs, full)
    if not rivals:
        return None
    rival = max(rivals, key=lambda each: each.accuracies[-1])
    _, optimistic = _projection(accuracies, full)
    if optimistic > rival.accuracies[-1]:
        return None
    return Stop(done, accuracies[-1], optimistic, rival)


def expected_accuracy(
    accuracies: Sequence[float], costs: Sequence[float], full: Sequence[FullCurve]
) -> float:
    """What a stopped candidate would have had at the end, 0 to 1: for the sampler to learn from.

    The median of what became of such an accuracy at that epoch, and never more than the best of
    those that it was held against; its last accuracy while too few are fully trained.

    Args:
        accuracies: Its own, epoch by epoch.
        costs: As of :func:`costs_of`.
        full: The fully trained networks, whose curves are of one length.
    """
    if len(full) < LEAST_CURVES or len(accuracies) >= len(full[0].accuracies):
        return accuracies[-1]
    expected, _ = _projection(accuracies, full)
    rivals = _better_rivals(accuracies, costs, full)
    return min(expected, max((each.accuracies[-1] for each in rivals), default=1.0))


def _better_rivals(
    accuracies: Sequence[float], costs: Sequence[float], full: Sequence[FullCurve]
) -> list[FullCurve]:
    """Of no larger cost, and better at the same epoch."""
    return [
        each
        for each in full
        if all(theirs <= ours for theirs, ours in zip(each.costs, costs, strict=True))
        and each.accuracies[len(accuracies) - 1] > accuracies[-1]
    ]


def _projection(accuracies: Sequence[float], full: Sequence[FullCurve]) -> tuple[float, float]:
    """Median and upper end of the accuracy after the last epoch, 0 to 1.

    A line through the full curves (Theil-Sen), from the accuracy at this epoch to the last, and
    the quantiles of their distances from it.
    """
    at = len(accuracies) - 1
    latest = full[-_MOST_CURVES:]
    there = np.array([each.accuracies[at] for each in latest])
    end = np.array([each.accuracies[-1] for each in latest])
    slope = _slope(there, end)
    middle, upper = np.quantile(end - slope * there, (0.5, _OPTIMISM)) + slope * accuracies[-1]
    return float(np.clip(middle, 0, 1)), float(np.clip(upper, 0, 1))


def _slope(x: Floats, y: Floats) -> float:
    """Median of the slopes of all pairs, within 0 to 1.

    Less at this epoch is never taken for a promise of more at the end, nor for a distance that
    still grows: below the curves that are known, either would be a guess.
    """
    run, rise = x[:, None] - x, y[:, None] - y
    apart = run > 0
    return float(np.clip(np.median(rise[apart] / run[apart]), 0, 1)) if apart.any() else 0.0
