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
from collabdesign.explore.executors.executor import Died, Executor, Failed, PassEnded, Task, Trained
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


def carry_out(
    executor: Executor,
    tasks: Sequence[Task],
    folder: Path,
    on_pass: Callable[[Task, EpochRecord], None],
) -> Iterator[Ended]:
    """Train all tasks, as many at a time as there are slots.

    Args:
        executor: Where.
        tasks: Each with a key of its own, under which its checkpoint lies in the folder.
        folder: Of the checkpoints, :func:`checkpoint_of`, and of reports of faults.
        on_pass: Called after each pass, but for those of earlier processes.

    Yields:
        Each training once it has ended, in the order of their ends.
    """
    left = {task.key: task for task in tasks}
    curves: dict[str, list[EpochRecord]] = {}
    to_submit = list(tasks)
    while left:
        for task in to_submit:
            if fault := _given_up(folder, task):
                yield Ended(left.pop(task.key), (), reason=fault)
                continue
            curves[task.key] = []
            with suppress(OSError):
                task = replace(task, checkpoint=checkpoint_of(folder, task.key).read_bytes())
            executor.submit(task)
        to_submit = []
        event = executor.wait(_LOOK_SECONDS) if left else None
        if event is None or event.key not in left:
            continue
        task, curve = left[event.key], curves[event.key]
        match event:
            case PassEnded():
                curve.append(event.record)
                if event.checkpoint is not None:
                    write_bytes(checkpoint_of(folder, task.key), event.checkpoint)
                if event.checkpoint is not None or not task.keeps:  # else of an earlier process
                    on_pass(task, event.record)
            case Trained():
                yield Ended(left.pop(task.key), tuple(curve), event.weights)
            case Failed():
                yield Ended(left.pop(task.key), tuple(curve), reason=event.reason)
            case Died():
                log.warning("%s died while it trained %s", event.how, task.key)
                if event.fault:
                    faults = _faults(folder)
                    faults.setdefault(task.key, []).append(event.fault)
                    write_json(folder / FAULTS, faults)
                to_submit = [task]


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
    network = task.architecture.id
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
