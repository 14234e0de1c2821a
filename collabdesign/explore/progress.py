"""Where a search stands, from its record and from what its workers are doing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from collabdesign.design.requirements import Requirements
from collabdesign.explore.front import Scale, values_of
from collabdesign.explore.record import Record, best_accuracy, trained_within


@dataclass(frozen=True)
class Progress:
    """Where a search stands, for whoever shows it.

    Attributes:
        trials: How many it may finish.
        trained: Candidates with a proxy_accuracy.
        stopped: Candidates whose proxy was stopped early.
        failed: Candidates that could not be trained.
        rejected: Proposals over a limit.
        repeated: Proposals answered from the store.
        best: Highest proxy_accuracy within the limits, None before the first.
        hypervolume: Of the front, a share of what can be gained (0 to 1).
        epoch: Of the trainings under way, their sum; 0 while proposing.
        epochs: Of one training.
        workers: At work now, those of other commands too.
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


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Step:
    """What a worker is doing between one record and the next.

    Attributes:
        epoch: Of its training, 0 while it proposes.
        rejected: Proposals over a limit since it last claimed a candidate.
        repeated: Proposals answered from the store since then.
    """

    epoch: int = 0
    rejected: int = 0
    repeated: int = 0


class Progressing:
    """Tells a search's progress; the hypervolume is taken anew when a candidate is finished."""

    def __init__(
        self, requirements: Requirements, epochs: int, scale: Scale, record: Record
    ) -> None:
        self._requirements = requirements
        self._epochs = epochs
        self._scale = scale
        self._started = time.monotonic()
        self._finished = -1
        self.update(record)

    def update(self, record: Record) -> None:
        """From now on the record is this."""
        self._record = record
        if len(record.finished) != self._finished:
            self._finished = len(record.finished)
            allowed = trained_within(record, self._requirements)
            self._best = best_accuracy(allowed)
            self._hypervolume = self._scale.hypervolume(
                [
                    values_of(self._requirements.objectives, each.accuracy, each.cost)
                    for each in allowed
                    if each.accuracy is not None
                ]
            )

    def at(self, steps: Sequence[Step], workers: int = 1) -> Progress:
        """Where it stands.

        Args:
            steps: One for each worker of this command.
            workers: At work, those of other commands too.
        """
        finished, trials = self._record.finished, self._requirements.search.trials
        epoch = sum(step.epoch for step in steps)
        left = None
        if finished:
            mean = sum(each.seconds for each in finished) / len(finished)
            trials_left = trials - len(finished) - epoch / max(1, self._epochs)
            left = mean * trials_left / max(1, workers)
        return Progress(
            trials=trials,
            trained=len(self._record.trained),
            stopped=len(self._record.stopped),
            failed=len(self._record.failed),
            rejected=self._record.rejected + sum(step.rejected for step in steps),
            repeated=self._record.repeated + sum(step.repeated for step in steps),
            best=self._best,
            hypervolume=self._hypervolume,
            epoch=epoch,
            epochs=self._epochs,
            workers=workers,
            seconds=time.monotonic() - self._started,
            seconds_left=left,
        )
