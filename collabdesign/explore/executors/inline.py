"""Trainings in this process, one after the other: the search that can be repeated exactly."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import torch

from collabdesign.evaluate.data.images import ImageData
from collabdesign.explore.executors.executor import Died, Event, Task
from collabdesign.explore.executors.trainer import events_of
from collabdesign.explore.faults import reported


class InlineExecutor:
    """Trains while it is waited for, a pass at a time.

    Args:
        faults: Where a fault that ends this process is reported, after the task's key; see
            :func:`collabdesign.explore.faults.death_of`.
        died: What that function told of an earlier process: the same task is told as died once.
    """

    slots = 1
    ahead = 0
    where = "this process"

    def __init__(
        self, data: ImageData, device: torch.device, faults: Path, died: tuple[str, str] = ("", "")
    ) -> None:
        self._data = data
        self._device = device
        self._closing = ExitStack()
        self._report = self._closing.enter_context(reported(faults))
        self._waiting: deque[Task] = deque()
        self._died = died
        self._key = ""
        self._events: Iterator[Event] = iter(())

    def submit(self, task: Task) -> None:
        """See :class:`Executor`, like the other methods."""
        self._waiting.append(task)

    def wait(self, seconds: float) -> Event | None:
        while True:
            if (event := next(self._events, None)) is not None:
                return event
            if not self._waiting:
                return None
            task = self._waiting.popleft()
            key, fault = self._died
            if fault and task.key == key:
                self._died = ("", "")
                return Died(key, "an earlier process", fault)
            self._key = task.key
            self._report.seek(0)
            self._report.truncate()
            self._report.write(f"{task.key}\n".encode())
            self._events = events_of(task, self._data, self._device)

    def cancel(self, key: str) -> None:
        if key == self._key:
            self._events = iter(())
        self._waiting = deque(task for task in self._waiting if task.key != key)

    def close(self) -> None:
        self._waiting.clear()
        self._events = iter(())
        self._closing.close()
