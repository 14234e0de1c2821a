"""Where a search stands."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

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
    workers: int
    seconds: float
    seconds_left: float | None


@dataclass(frozen=True)
class Reading:
    """So many of so many pictures are read; ``what`` names them."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Notice:
    """A sentence that a person should read."""

    text: str


class Standing:
    """Tells a search's progress from the candidates that it is told of."""

    def __init__(self, requirements: Requirements, epochs: int, scale: Scale) -> None:
        self._requirements = requirements
        self._epochs = epochs
        self._scale = scale
        self._started = time.monotonic()
        self._counts = dict.fromkeys(("trained", "stopped", "failed"), 0)
        self._rejected = self._repeated = 0
        self._seconds = 0.0
        self._best: float | None = None
        self._values: list[tuple[float, ...]] = []
        self._hypervolume: float | None = 0.0

    def add(self, candidate: Candidate) -> None:
        """One more is finished."""
        self._counts[candidate.outcome] += 1
        self._rejected += candidate.rejected
        self._repeated += candidate.repeated
        self._seconds += candidate.seconds
        if candidate.accuracy is not None and self._requirements.fits(candidate.cost):
            self._best = max(candidate.accuracy, self._best or 0.0)
            self._values.append(
                values_of(self._requirements.objectives, candidate.accuracy, candidate.cost)
            )
            self._hypervolume = None

    def at(
        self, running: Sequence[Candidate], workers: int, rejected: int = 0, repeated: int = 0
    ) -> Progress:
        """Where it stands, with what was rejected and repeated since the last candidate."""
        if self._hypervolume is None:
            self._hypervolume = self._scale.hypervolume(self._values)
        finished, trials = sum(self._counts.values()), self._requirements.search.trials
        epoch = sum(len(each.curve) for each in running)
        left = None
        if finished:
            trials_left = max(0.0, trials - finished - epoch / max(1, self._epochs))
            left = self._seconds / finished * trials_left / max(1, workers)
        return Progress(
            trials=trials,
            **self._counts,
            rejected=self._rejected + sum(each.rejected for each in running) + rejected,
            repeated=self._repeated + sum(each.repeated for each in running) + repeated,
            best=self._best,
            hypervolume=self._hypervolume,
            epoch=epoch,
            epochs=self._epochs,
            workers=workers,
            seconds=time.monotonic() - self._started,
            seconds_left=left,
        )
