"""Trainings that are carried out to their ends, however often what trains them dies.

Each has a checkpoint a pass, from which it goes on: after the death of its process, and when the
same command is started again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from collabdesign.evaluate.training import EpochRecord
from collabdesign.explore.executors.executor import (
    Died,
    Event,
    Executor,
    Failed,
    PassEnded,
    Task,
    Trained,
)
from collabdesign.explore.faults import FAULT, MOST_FAULTS
from collabdesign.files import write_bytes, write_json

log = logging.getLogger(__name__)

FAULTS = "faults.json"

_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Ended:
    """A training that came to its end: its weights, as they are saved, where the task keeps them,
    and the reason where it failed."""

    task: Task
    curve: tuple[EpochRecord, ...]
    weights: bytes | None = None
    reason: str = ""


class Carrier:
    """Carries trainings out in an executor, each from its last pass on.

    Args:
        executor: Where; who calls waits for its events.
        folder: Of the checkpoints, :func:`checkpoint_of`, and of reports of faults.
        on_pass: Called after each pass, but for those of earlier processes.

    Attributes:
        under_way: Of the trainings that have not ended, by their keys.
    """

    def __init__(
        self, executor: Executor, folder: Path, on_pass: Callable[[Task, EpochRecord], None]
    ) -> None:
        self.under_way: dict[str, Task] = {}
        self._executor = executor
        self._folder = folder
        self._on_pass = on_pass
        self._curves: dict[str, list[EpochRecord]] = {}

    def begin(self, task: Task) -> Ended | None:
        """Hand it out; a training that is given up has ended."""
        if fault := _given_up(self._folder, task):
            self.under_way.pop(task.key, None)
            return Ended(task, (), reason=fault)
        self.under_way[task.key] = task
        self._curves[task.key] = []
        with suppress(OSError):
            last = checkpoint_of(self._folder, task.key).read_bytes()
            task = replace(task, checkpoint=last)
        self._executor.submit(task)
        return None

    def hear(self, event: Event) -> Ended | None:
        """Take in an event of one that is under way; the training, if that was its end."""
        task, curve = self.under_way[event.key], self._curves[event.key]
        match event:
            case PassEnded():
                curve.append(event.record)
                if event.checkpoint is not None:
                    write_bytes(checkpoint_of(self._folder, task.key), event.checkpoint)
                if event.checkpoint is not None or not task.keeps:  # else of an earlier process
                    self._on_pass(task, event.record)
                return None
            case Trained():
                ended = Ended(task, tuple(curve), event.weights)
            case Failed():
                ended = Ended(task, tuple(curve), reason=event.reason)
            case Died():
                log.warning("%s died while it trained %s", event.how, task.key)
                if event.fault:
                    faults = _faults(self._folder)
                    faults.setdefault(task.key, []).append(event.fault)
                    write_json(self._folder / FAULTS, faults)
                return self.begin(task)
        del self.under_way[event.key]
        return ended


def carry_out(
    executor: Executor,
    tasks: Sequence[Task],
    folder: Path,
    on_pass: Callable[[Task, EpochRecord], None],
) -> Iterator[Ended]:
    """Train all tasks, as many at a time as there are slots.

    Args:
        executor: Where; nothing else is trained there.
        tasks: Each with a key of its own, under which its checkpoint lies in the folder.
        folder: See :class:`Carrier`, like ``on_pass``.

    Yields:
        Each training once it has ended, in the order of their ends.
    """
    carrier = Carrier(executor, folder, on_pass)
    for task in tasks:
        if ended := carrier.begin(task):
            yield ended
    while carrier.under_way:
        event = executor.wait(_LOOK_SECONDS)
        if event is None or event.key not in carrier.under_way:
            continue
        if ended := carrier.hear(event):
            yield ended


def checkpoint_of(folder: Path, key: str) -> Path:
    """Where a training's checkpoint lies."""
    return folder / f"{key}.pt"


def _given_up(folder: Path, task: Task) -> str:
    """Why a training is not tried again, empty where it is.

    A seed that has not begun is given up with another one of its network: it would end the process
    in the same way.
    """
    faults = _faults(folder)
    begun = task.key in faults or checkpoint_of(folder, task.key).exists()
    network = task.network.id
    for key, found in faults.items():
        same = key == task.key or (not begun and key.startswith(network))
        if same and len(found) >= MOST_FAULTS:
            log.warning(
                "the training %s is left out: it ended its process %d times (%s); to try it "
                "again, remove %s",
                *(task.key, len(found), found[-1], folder / FAULTS),
            )
            return f"{FAULT}{found[-1]}"
    return ""


def _faults(folder: Path) -> dict[str, list[str]]:
    with suppress(OSError, ValueError):
        faults: dict[str, list[str]] = json.loads((folder / FAULTS).read_text(encoding="utf-8"))
        return faults
    return {}
