"""Who is at work in a run folder: a lock that the system frees at the process's death."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from collabdesign.errors import InputError

_LOCK = "lock"


@contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Hold the run folder for this process alone.

    Raises:
        InputError: Another process holds it, or the folder cannot be written.
    """
    try:
        descriptor = os.open(run_dir / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(
            f"the run folder must be writable: {error}; choose another --run-dir"
        ) from None
    try:
        if not _locked(descriptor):
            raise InputError(
                f"one process at a time may work in a run folder, and another is at work in "
                f"{str(run_dir)!r}; wait for it, or choose another --run-dir"
            )
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Whether the lock was got; :func:`is_running` holds it for a moment too."""
    for _ in range(20):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
        else:
            return True
    return False


def is_running(run_dir: Path) -> bool:
    """Whether a process holds the run folder."""
    try:
        descriptor = os.open(run_dir / _LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
