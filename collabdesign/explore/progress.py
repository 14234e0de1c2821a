"""Where a search stands."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from collabdesign.design.cost import Cost
from collabdesign.design.requirements import Requirements
from collabdesign.explore.front import Scale, values_of
from collabdesign.explore.record import Candidate

#: In the run folder: what the process at work there said last, for those who watch it.
PROGRESS = "progress.json"


@dataclass(frozen=True)
class Progress:
    """Where a search stands, for whoever shows it.

    Attributes:
        trials: How many it may finish.
        rejected: Proposals over a limit.
        repeated: Proposals whose network was known.
        best: Highest proxy_accuracy within the limits, None before the first.
        hypervolume: Of the front, a share of what can be gained (0 to 1).
        epoch: Of the trainings under way, their sum; 0 while proposing.
        epochs: Of one training.
        full_epoch: Of the default network's full training, while that is under way; else 0.
        full_epochs: Of it, while it is under way; else 0.
        workers: Trainings at a time.
        seconds: Spent by this process.
        seconds_left: Estimate from the trainings so far, None before the first.
    """

    trials: int
    trained: int
    stopped: int
    failed: int
    rejected: int
    repeated: int
    best: float | None
    hypervolume: float
    epoch: int
    epochs: int
    full_epoch: int
    full_epochs: int
    workers: int
    seconds: float
    seconds_left: float | None


@dataclass(frozen=True)
class FullProgress:
    """Where a full training within a search stands: after so many epochs of so many, with the
    seconds that the last one took, 0 before it."""

    epoch: int
    epochs: int
    seconds_each: float


@dataclass(frozen=True)
class Reading:
    """So many of so many pictures are read; ``what`` names them."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Measuring:
    """So many of the first so many networks are measured, before any is trained."""

    done: int
    total: int


@dataclass(frozen=True)
class Notice:
    """A sentence that a person should read."""

    text: str


class Standing:
    """Tells a search's progress."""

    def __init__(self, requirements: Requirements, epochs: int, scale: Scale) -> None:
        self._trials = requirements.search.trials
        self._epochs = epochs
        self._scale = scale
        self._started = time.monotonic()
        self._best: float | None = None
        self._values: list[tuple[float, ...]] = []
        self._hypervolume: float | None = 0.0

    def add(self, accuracy: float, cost: Cost) -> None:
        """One more was trained within the limits."""
        self._best = max(accuracy, self._best or 0.0)
        self._values.append(values_of(self._scale.objectives, accuracy, cost))
        self._hypervolume = None

    def at(
        self,
        candidates: Collection[Candidate],
        workers: int,
        rejected: int,
        repeated: int,
        full: FullProgress | None = None,
    ) -> Progress:
        """Where it stands, with what was rejected and repeated since the last candidate, and the
        full training that is under way."""
        if self._hypervolume is None:
            self._hypervolume = self._scale.hypervolume(self._values)
        counts = Counter(each.outcome for each in candidates)
        running = [each for each in candidates if each.outcome == "running"]
        epoch, finished = sum(len(each.curve) for each in running), len(candidates) - len(running)
        left = None
        if finished:
            seconds = sum(each.seconds for each in candidates if each.outcome != "running")
            trials_left = max(0.0, self._trials - finished - epoch / max(1, self._epochs))
            seconds_left = seconds / finished * trials_left
            if full is not None:
                # Before its first pass the default's proxy tells: it is all that has ended.
                each = full.seconds_each or seconds / finished / max(1, self._epochs)
                seconds_left += (full.epochs - full.epoch) * each
            left = seconds_left / max(1, workers)
        return Progress(
            trials=self._trials,
            trained=counts["trained"],
            stopped=counts["stopped"],
            failed=counts["failed"],
            rejected=rejected + sum(each.rejected for each in candidates),
            repeated=repeated + sum(each.repeated for each in candidates),
            best=self._best,
            hypervolume=self._hypervolume,
            epoch=epoch,
            epochs=self._epochs,
            full_epoch=full.epoch if full else 0,
            full_epochs=full.epochs if full else 0,
            workers=workers,
            seconds=time.monotonic() - self._started,
            seconds_left=left,
        )
