"""Who is at work in a run folder: locks that the system frees at a process's death.

``lock`` is held by the one process that trains the family, ``calibration.lock`` by the one that
calibrates, which may be beside a search, and ``workers/claim.lock`` for the moments in which a
study is begun or a candidate claimed. Beside it each process at work holds a file of its own for
as long as it lives: ``worker-...`` where it trains candidates, ``command-...`` where it looks
after workers. What is locked lives; the rest may be removed.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from collabdesign.errors import InputError
from collabdesign.explore.faults import faults

_LOCK = "lock"
CALIBRATING = "calibration.lock"
_PRESENT = "workers"
_CLAIM = "claim.lock"


class InUse(InputError):
    """Raised when another process does what only one may do in a run folder."""


@contextmanager
def held(run_dir: Path, lock: str = _LOCK, what: str = "train the family") -> Iterator[None]:
    """Let this process alone train the family of a run, or do what else the lock is for.

    Raises:
        InUse: Another process holds it.
        InputError: The folder cannot be written.
    """
    descriptor = _opened(run_dir / lock)
    try:
        if not _locked(descriptor):
            raise InUse(
                f"one process at a time may {what} of a run, and another is at work in "
                f"{str(run_dir)!r}; wait for it, or choose another --run-dir"
            )
        yield
    finally:
        os.close(descriptor)


@contextmanager
def claiming(run_dir: Path) -> Iterator[None]:
    """Hold what a claim needs, after waiting for whoever holds it: what lies within is one step.

    Raises:
        InputError: The folder cannot be written.
    """
    descriptor = _opened(run_dir / _PRESENT / _CLAIM)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Presence:
    """One process's sign that it is at work; let go of by :meth:`end`, or by its death.

    Args:
        run_dir: The run folder.
        kind: ``worker`` or ``command``.

    Attributes:
        name: Of the sign. No other process ever has the same.
    """

    def __init__(self, run_dir: Path, kind: str) -> None:
        self.name = f"{kind}-{os.getpid()}-{secrets.token_hex(4)}"
        self._path = _path_of(run_dir, self.name)
        self._descriptor = _opened(self._path)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        # Where somebody has asked for such reports elsewhere, they go there.
        self._reports = kind == "worker" and not faulthandler.is_enabled()
        if self._reports:
            faulthandler.enable(self._descriptor, all_threads=False)

    def end(self) -> None:
        """Nothing of this process is running any more."""
        if self._reports:
            faulthandler.disable()
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def is_at_work(run_dir: Path, name: str) -> bool:
    """Whether the process that has this sign lives."""
    return bool(name) and _is_locked(_path_of(run_dir, name))


def fault_of(run_dir: Path, name: str) -> str:
    """The fault that a process with this sign died of, such as ``Segmentation fault``; empty where
    it was killed, or nothing is known."""
    return next(iter(faults(_path_of(run_dir, name))), "")


def at_work(run_dir: Path, kind: str = "") -> tuple[str, ...]:
    """The signs of the processes that live: all, or those of one kind."""
    paths = sorted((run_dir / _PRESENT).glob(f"{kind or '*'}-*.lock"))
    return tuple(path.stem for path in paths if _is_locked(path))


def forget_the_dead(run_dir: Path) -> None:
    """Remove the signs of processes that died; the caller is claiming."""
    for path in (run_dir / _PRESENT).glob("*-*.lock"):
        if not _is_locked(path):
            path.unlink(missing_ok=True)


def is_running(run_dir: Path) -> bool:
    """Whether a process searches in the run folder or trains its family."""
    return _is_locked(run_dir / _LOCK) or bool(at_work(run_dir))


def _path_of(run_dir: Path, name: str) -> Path:
    return run_dir / _PRESENT / f"{name}.lock"


def _opened(path: Path) -> int:
    try:
        path.parent.mkdir(exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(
            f"the run folder must be writable: {error}; choose another --run-dir"
        ) from None


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


def _is_locked(path: Path) -> bool:
    """Whether a process holds the lock; looking at it keeps nobody from taking it for long."""
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)
    return False
