"""Trainings in processes of this machine.

A thread looks after each of them: it sends the next task, passes the events on, and starts another
process where one died. A process ends with the driver, however that ends: a pipe between them
closes. The images lie in memory that all of them share.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from collabdesign.errors import CollabdesignError
from collabdesign.evaluate.data.images import ImageData
from collabdesign.evaluate.data.shared import SharedImages
from collabdesign.evaluate.library_warnings import keep_from_people
from collabdesign.evaluate.memory import keep_freed_memory
from collabdesign.explore.executors.executor import Died, Event, Failed, Task, Trained, TrainersDied
from collabdesign.explore.executors.trainer import events_of
from collabdesign.explore.interrupts import unheard

# Forked from a process that has imported what a training needs, a process is at work within a
# tenth of a second and shares the libraries' memory; on macOS forked torch may crash.
_METHOD = "forkserver" if sys.platform == "linux" else "spawn"
_PRELOAD = ["torch._dynamo", "collabdesign.explore.executors.processes"]

# The deaths of one process and its replacements, while no training comes to its end, after which
# something is wrong that another replacement does not mend.
_DEATHS = 10

_ATTEMPTS = 3

# What multiprocessing says of a process whose end nobody saw: what forked it died as well.
_UNKNOWN = 255

# What a process does to itself; by any other signal it was killed from outside.
_FAULTS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)

_STARTING = threading.Lock()

# Of the caller's script: a process that is started does not run it again to have its names.
_NO_MAIN = {"__file__": None, "__spec__": None}


class ProcessExecutor:
    """Trains in as many processes as devices are named.

    Args:
        data: Shared, not copied.
        devices: One a process; a device may be named several times.
        folder: Where the images lie if there is too little shared memory.
    """

    def __init__(self, data: ImageData, devices: Sequence[str], threads: int, folder: Path) -> None:
        self.slots = len(devices)
        # Two that end at once both find their next task while the driver proposes.
        self.ahead = 1 + self.slots // 4
        self.where = f"{self.slots} processes"
        self._data, self._folder = data, folder
        self._images: SharedImages | None = None
        self._events: queue.Queue[Event | BaseException] = queue.Queue()
        self._tasks: deque[Task] = deque()
        self._changed = threading.Condition()
        self.is_closed = False
        context = multiprocessing.get_context(_METHOD)
        if _METHOD == "forkserver":
            context.set_forkserver_preload(_PRELOAD)
        self._slots = [_Slot(self, device, threads) for device in devices]

    def submit(self, task: Task) -> None:
        """See :class:`Executor`, like the other methods."""
        with self._changed:
            self._tasks.append(task)
            self._changed.notify()

    def wait(self, seconds: float) -> Event | None:
        try:
            event = self._events.get(timeout=seconds)
        except queue.Empty:
            return None
        if isinstance(event, BaseException):
            raise event
        return event

    def cancel(self, key: str) -> None:
        with self._changed:
            self._tasks = deque(task for task in self._tasks if task.key != key)
        for slot in self._slots:
            slot.cancel(key)

    def close(self) -> None:
        with self._changed:
            self.is_closed = True
            self._changed.notify_all()
        for slot in self._slots:
            slot.end()
        if self._images is not None:
            self._images.close()

    # -- for the slots --------------------------------------------------------------------

    @property
    def images(self) -> SharedImages:
        """What a process is given; shared when the first one starts."""
        if self._images is None:
            self._images = SharedImages(self._data, self._folder)
        return self._images

    def next_task(self) -> Task | None:
        """Waits for one; None where nothing is to be trained any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._tasks or self.is_closed)
            return None if self.is_closed else self._tasks.popleft()

    def tell(self, event: Event | BaseException) -> None:
        """Pass something on to the driver."""
        if isinstance(event, Trained | Failed):
            for slot in self._slots:
                slot.deaths = 0
        self._events.put(event)


class _Slot:
    """A process, after its death the next one, and the thread that looks after them."""

    def __init__(self, executor: ProcessExecutor, device: str, threads: int) -> None:
        self._executor = executor
        self._device = device
        self._threads = threads
        self._key = ""
        self._sending = threading.Lock()
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self.deaths = 0
        self._thread = threading.Thread(target=self._look_after, daemon=True)
        self._thread.start()

    def cancel(self, key: str) -> None:
        """Stop it if it is in training here."""
        with self._sending, suppress(OSError):
            if key == self._key and self._connection is not None:
                self._connection.send(key)

    def end(self) -> None:
        """Kill the process and wait for the thread; the executor is closed."""
        with self._sending:
            if self._process is not None:
                self._process.kill()
        self._thread.join()

    def _look_after(self) -> None:
        try:
            while (task := self._executor.next_task()) is not None:
                if self._process is None:
                    self._start()
                if not self._executor.is_closed:
                    self._train(task)
        except BaseException as error:
            self._executor.tell(error)
        finally:
            if self._process is not None:
                self._process.kill()
                self._process.join()

    def _train(self, task: Task) -> None:
        try:
            with self._sending:
                self._key = task.key
                assert self._connection is not None
                self._connection.send(task)
            while (event := self._connection.recv()) is not None:
                if isinstance(event, BaseException):
                    raise event
                self._executor.tell(event)
        except (EOFError, ConnectionError):
            self._replace(task.key)
        finally:
            self._key = ""

    def _replace(self, key: str) -> None:
        """The process died without a word: killed from outside, or by a fault of its own."""
        assert self._process is not None
        self._process.join()
        if self._executor.is_closed:
            return
        code = self._process.exitcode or 0
        if code >= 0 and code != _UNKNOWN:
            raise RuntimeError(
                f"a process that trains must not exit, got exit code {code}; it wrote why above"
            )
        by = signal.Signals(-code) if code < 0 else None
        how = by.name if by else "what it was forked from, killed too"
        self.deaths += 1
        if self.deaths >= _DEATHS:
            raise TrainersDied(
                f"a process that is killed is replaced, but {_DEATHS} died in a row and no "
                f"training came to its end between (the last: {how}). SIGKILL without a "
                "person's doing is a system short of memory: fewer --workers need less. The same "
                "command continues"
            )
        fault = signal.strsignal(by) or by.name if by in _FAULTS else ""
        self._executor.tell(Died(key, f"process {self._process.pid} ended by {how}", fault))
        self._start()

    def _start(self) -> None:
        context: Any = multiprocessing.get_context(_METHOD)
        main = vars(sys.modules["__main__"])
        # Read by torch and the libraries below it when they load; and without the second a file
        # in the working directory that is named as a module would be run.
        variables = {"OMP_NUM_THREADS": str(self._threads), "PYTHONSAFEPATH": "1"}
        for attempt in range(_ATTEMPTS):
            ours, theirs = multiprocessing.Pipe()
            try:
                with _STARTING, unheard(), _set(main, _NO_MAIN), _set(os.environ, variables):
                    if self._executor.is_closed:
                        return
                    process: BaseProcess = context.Process(
                        target=_work,
                        args=(theirs, self._executor.images, self._device, self._threads),
                        daemon=True,
                    )
                    process.start()
            except (EOFError, OSError) as error:
                # The process that it is forked from was killed; the next attempt begins another.
                if attempt == _ATTEMPTS - 1:
                    raise RuntimeError(f"no process to train in can be started: {error}") from error
            else:
                break
            finally:
                theirs.close()
        with self._sending:
            self._process, self._connection = process, ours
            if self._executor.is_closed:
                process.kill()


@contextmanager
def _set(names: MutableMapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[None]:
    """In the block the names have these values."""
    before = {name: names[name] for name in wanted if name in names}
    names.update(wanted)
    try:
        yield
    finally:
        names.update(before)
        for name in wanted.keys() - before.keys():
            del names[name]


# -- in the process ---------------------------------------------------------------------------


def _work(connection: Connection, images: SharedImages, device_name: str, threads: int) -> None:
    """All of a process's life: a task, its events and None, over and over."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    stopped: set[str] = set()
    threading.Thread(target=_listen, args=(connection, tasks, stopped), daemon=True).start()
    try:
        keep_from_people()
        keep_freed_memory()
        torch.set_num_threads(threads)
        device = torch.device(device_name)
        data = images.on(device)
        while True:
            task = tasks.get()
            for event in events_of(task, data, device, partial(stopped.__contains__, task.key)):
                connection.send(event)
            connection.send(None)
            stopped.discard(task.key)
    except BaseException as error:
        if not isinstance(error, CollabdesignError | OSError):
            error = RuntimeError(f"a process that trains failed:\n{traceback.format_exc()}")
        with suppress(OSError):  # the driver may have ended
            connection.send(error)
        os._exit(1)


def _listen(connection: Connection, tasks: queue.SimpleQueue[Task], stopped: set[str]) -> None:
    """Tasks, and keys of those to stop; the end of the pipe is the end of the driver."""
    while True:
        try:
            said = connection.recv()
        except (EOFError, OSError):
            os._exit(1)
        if isinstance(said, Task):
            tasks.put(said)
        else:
            stopped.add(said)
