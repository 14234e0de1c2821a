"""Several workers on one machine: processes that train, and the command that looks after them.

Each worker runs the loop of :mod:`collabdesign.explore.loop` on the run's study. The command
starts them, shows how they get on, replaces one that is killed and ends when they end. Nothing
that decides goes through it: the study and its locks alone say who trains what, so that another
command's workers are no different from its own. A worker ends with its command, however that
ends: a pipe between them closes.
"""

from __future__ import annotations

import logging
import logging.handlers
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from collabdesign.design.requirements import Requirements
from collabdesign.design.space import DesignSpace
from collabdesign.errors import CollabdesignError, NothingFits, WorkersDied
from collabdesign.evaluate.data.images import ImageData
from collabdesign.evaluate.data.shared import SharedImages
from collabdesign.evaluate.memory import keep_freed_memory
from collabdesign.explore.begin import joined
from collabdesign.explore.lock import at_work, claiming
from collabdesign.explore.loop import Loop
from collabdesign.explore.progress import OnProgress, Progressing, Step
from collabdesign.explore.record import DATABASE, Record
from collabdesign.explore.store import Store

# The deaths of one worker and its replacements, while no candidate is finished, after which
# something is wrong that another replacement does not mend.
_DEATHS = 10

_SHOW_SECONDS = 0.5
_STEP_SECONDS = 0.2
_STOP_SECONDS = 10.0

# Forked from a process that has imported what a worker needs, a replacement is at work within
# a tenth of a second and shares the libraries' memory; on macOS forked torch may crash.
_METHOD = "forkserver" if sys.platform == "linux" else "spawn"
_PRELOAD = ["torch._dynamo", "optuna.storages", "collabdesign.explore.workers"]


@dataclass(frozen=True)
class Job:
    """What a worker is told.

    Attributes:
        run_dir: An existing folder with a study that was begun.
        requirements: Of the search.
        images: What to train on.
        device: Where to train.
        threads: CPU threads of its trainings.
    """

    run_dir: Path
    requirements: Requirements
    images: SharedImages
    device: str
    threads: int


class _Place:
    """A worker, and after its death the one that replaces it."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.deaths = 0
        self.start()

    def start(self) -> None:
        """Start a process; an interrupt waits until it is started, and is not for it."""
        context: Any = multiprocessing.get_context(_METHOD)
        self.step = Step()
        self.connection, theirs = multiprocessing.Pipe()
        self.process: BaseProcess = context.Process(
            target=_work, args=(self._job, theirs), daemon=True
        )
        with _interrupts_wait(), _threads_in_environment(self._job.threads):
            self.process.start()
        theirs.close()
        self.is_over = False

    def end(self) -> None:
        """Its process has ended or is about to."""
        self.is_over = True
        self.connection.close()
        self.process.join()


class Workers:
    """The command's side.

    Args:
        run_dir: The run folder.
        store: Its study, begun.
        requirements: Of the search.
        data: What to train on; shared, not copied.
        device: Where to train; ``cuda`` deals out all GPUs in turn.
        count: How many workers.
        threads: CPU threads of each.
        progressing: Tells the progress.
        on_progress: Called about twice a second.
    """

    def __init__(
        self,
        run_dir: Path,
        store: Store,
        requirements: Requirements,
        data: ImageData,
        device: torch.device,
        count: int,
        threads: int,
        progressing: Progressing,
        on_progress: OnProgress,
    ) -> None:
        self._run_dir = run_dir
        self._store = store
        self._requirements = requirements
        self._data = data
        self._devices = devices_for(device, count)
        self._threads = threads
        self._progressing = progressing
        self._on_progress = on_progress
        self._places: list[_Place] = []
        self._ran_out: NothingFits | None = None
        self._finished = len(store.read().finished)
        self._stamp: tuple[int, ...] = ()
        self._shown = 0.0

    def run(self) -> None:
        """Until all workers are done.

        Raises:
            CollabdesignError: What a worker met; the others were stopped.
            WorkersDied: They were killed one after the other.
            KeyboardInterrupt: Passed on; the workers were stopped.
        """
        context: Any = multiprocessing.get_context(_METHOD)
        if _METHOD == "forkserver":
            context.set_forkserver_preload(_PRELOAD)
        images = SharedImages(self._data, self._run_dir)
        try:
            for device in self._devices:
                job = Job(self._run_dir, self._requirements, images, device, self._threads)
                self._places.append(_Place(job))
            self._show()
            while places := {p.connection: p for p in self._places if not p.is_over}:
                for connection in wait(list(places), timeout=_SHOW_SECONDS):
                    assert isinstance(connection, Connection)
                    self._hear(places[connection])
                if time.monotonic() - self._shown >= _SHOW_SECONDS:
                    self._show()
            self._show()
        finally:
            self._stop()
            images.close()
        if self._ran_out is not None:
            raise self._ran_out

    def _hear(self, place: _Place) -> None:
        try:
            kind, content = place.connection.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            self._replace(place)
            return
        if kind == "step":
            place.step = content
        elif kind == "log":
            logging.getLogger(content.name).handle(content)
        else:
            place.step = Step()
            place.end()
            if isinstance(content, NothingFits):
                self._ran_out = content  # the others come to the same end when they are done
            elif content is not None:
                raise content

    def _replace(self, place: _Place) -> None:
        """Its process died without a word: killed from outside, or by a fault of its own."""
        place.end()
        finished = len(self._store.read().finished)
        if finished > self._finished:
            self._finished = finished
            for each in self._places:
                each.deaths = 0
        place.deaths += 1
        death = _death(place.process.exitcode)
        if place.deaths >= _DEATHS:
            raise WorkersDied(
                f"a worker that is killed is replaced, but {_DEATHS} died in a row with no "
                f"candidate finished between (the last: {death}); SIGKILL without a person's "
                "doing is a system short of memory: fewer --workers need less. The same command "
                "continues"
            )
        logging.getLogger(__name__).warning(
            "worker %s died (%s); another takes its place", place.process.pid, death
        )
        place.start()

    def _stop(self) -> None:
        """End what still runs; what it trained is given back."""
        left = [place for place in self._places if not place.is_over]
        for place in left:
            place.process.terminate()
        try:
            end = time.monotonic() + _STOP_SECONDS
            for place in left:
                place.process.join(max(0.0, end - time.monotonic()))
        finally:
            for place in left:
                place.process.kill()
                place.end()
            with suppress(CollabdesignError):  # what is left running is given back by the next
                self._give_back()

    def _give_back(self) -> None:
        with claiming(self._run_dir):
            self._store.take_from_the_dead()

    def _show(self) -> None:
        self._shown = time.monotonic()
        stamp = _stamp(self._run_dir)
        if stamp != self._stamp:
            self._stamp = stamp
            self._progressing.update(self._store.read())
        steps = [place.step for place in self._places if not place.is_over]
        self._on_progress(self._progressing.at(steps, len(at_work(self._run_dir, "worker"))))


def devices_for(device: torch.device, count: int) -> list[str]:
    """The device of each worker: all GPUs in turn where none is named by its number."""
    if device.type == "cuda" and device.index is None:
        return [f"cuda:{worker % torch.cuda.device_count()}" for worker in range(count)]
    return [str(device)] * count


def _death(code: int | None) -> str:
    """An exit code in words: the signal that ended a process, where one did."""
    try:
        return signal.Signals(-(code or 0)).name
    except ValueError:
        return f"exit code {code}"


def _stamp(run_dir: Path) -> tuple[int, ...]:
    """Changes whenever the study does."""
    found: list[int] = []
    for name in (DATABASE, f"{DATABASE}-wal"):
        with suppress(OSError):
            status = (run_dir / name).stat()
            found += [status.st_mtime_ns, status.st_size]
    return tuple(found)


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C reaches a whole terminal; a process started in here never hears it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _threads_in_environment(threads: int) -> Iterator[None]:
    """Torch and the libraries below it read it when they load, in a process started in here."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


# -- in the worker ----------------------------------------------------------------------------


def _work(job: Job, connection: Connection) -> None:
    """All of a worker's life."""
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_end_with_the_command, args=(connection,), daemon=True).start()
    outcome: BaseException | None = None
    try:
        _search(job, connection)
    except KeyboardInterrupt:
        # The command has told it to end, or a person has, and then it is replaced.
        sys.exit(128 + signal.SIGTERM)
    except (CollabdesignError, OSError) as error:
        outcome = error
    except BaseException:
        outcome = RuntimeError(f"a worker failed:\n{traceback.format_exc()}")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _send(connection, "end", outcome)


def _search(job: Job, connection: Connection) -> None:
    keep_freed_memory()
    torch.set_num_threads(job.threads)
    logger = logging.getLogger("collabdesign")
    logger.setLevel(logging.INFO)
    logger.addHandler(_ToTheCommand(connection))
    sent = 0.0

    def on_step(record: Record, step: Step) -> None:
        nonlocal sent
        if time.monotonic() - sent >= _STEP_SECONDS:
            sent = time.monotonic()
            _send(connection, "step", step)

    space, device = DesignSpace(job.requirements), torch.device(job.device)
    data = job.images.on(device)
    with joined(job.run_dir, space, job.requirements.objectives, "worker") as (store, name):
        Loop(job.run_dir, store, job.requirements, space, data, device, name, on_step).run()


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end_with_the_command(connection: Connection) -> None:
    """The command says nothing, so what can be read is the end of it."""
    connection.poll(None)
    os._exit(1)


def _send(connection: Connection, kind: str, content: object) -> None:
    try:
        connection.send((kind, content))
    except OSError:  # the command has ended
        os._exit(1)


class _ToTheCommand(logging.handlers.QueueHandler):
    """One process writes the log of a command and its workers, line by line."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)  # type: ignore[arg-type]
        self._connection = connection

    def enqueue(self, record: logging.LogRecord) -> None:
        _send(self._connection, "log", record)
