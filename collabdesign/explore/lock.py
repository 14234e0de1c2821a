"""Who is at work in a run folder: a lock that the system frees at a process's death.

One process at a time searches in a run folder or trains its family, and one calibrates, which may
be beside a search; one trains a detector. The locked file says who it is.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from collabdesign.errors import InputError

SEARCHING, CALIBRATING, DETECTING = "search.lock", "calibration.lock", "detection.lock"

_WORK = {SEARCHING: "searches", CALIBRATING: "calibrates", DETECTING: "trains a detector"}


class Holder(NamedTuple):
    """The process that holds a lock, the machine it is on, since when, and what started it."""

    pid: int
    host: str
    since: str
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}: {self.command}"


class InUse(InputError):
    """Raised when another process does what only one may do in a run folder."""

    def __init__(self, run_dir: Path, lock: str, who: Holder | None) -> None:
        text = (
            f"one process at a time {_WORK[lock]} in a run folder, and {str(run_dir)!r} has one: "
            f"{who or 'it ends just now'}"
        )
        if lock == SEARCHING:
            text += f"\n    watch it: collabdesign status --follow {shlex.quote(str(run_dir))}"
        super().__init__(text)


@contextmanager
def held(run_dir: Path, lock: str = SEARCHING) -> Iterator[None]:
    """Let this process alone do what the lock is for, in a folder that is made if need be.

    Raises:
        InUse: Another process holds it; the message says which, and how to watch it.
        InputError: The folder cannot be written.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(run_dir / lock, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(
            f"the run folder must be writable: {error}; choose another --run-dir"
        ) from None
    try:
        if not _locked(descriptor):
            raise InUse(run_dir, lock, holder(run_dir, lock))
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(_self()._asdict()).encode())
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder(run_dir: Path, lock: str = SEARCHING) -> Holder | None:
    """The process that holds the lock; None where none does."""
    with suppress(OSError), (run_dir / lock).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with suppress(OSError, ValueError, TypeError):
                return Holder(**json.load(file))
            return Holder(0, "this machine", "just now", "collabdesign")
    return None


def _self() -> Holder:
    name = Path(sys.argv[0]).name if sys.argv[0] else "python"
    command = shlex.join(["collabdesign" if name == "__main__.py" else name, *sys.argv[1:]])
    now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return Holder(os.getpid(), socket.gethostname(), now, command)


def _locked(descriptor: int) -> bool:
    """Whether the lock was got; :func:`holder` has it for a moment too."""
    for _ in range(20):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.01)
    return False
