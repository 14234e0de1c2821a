"""Searches on the embedded digits, small enough to be run whole, and what they leave behind.

A search as a new process spends most of its seconds on importing torch. Where many are run or
killed, they are forked from a server process that has imported it already (:func:`begin`): the
same entry point with the same words, about a second each.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from collabdesign.design.cost import cost_of
from collabdesign.design.requirements import Requirements
from collabdesign.design.space import DesignSpace
from collabdesign.explore.record import Candidate, CurvePoint
from collabdesign.explore.study import read_record

REPOSITORY = Path(__file__).parent.parent

PROTOTYPE = """\
stem: {kernel: 3, stride: [2, 1], channels: {low: 4, high: 12, step: 4}}
stages:
  - {modules: [1, 2], stride: 2, channels: {low: 8, high: 24, step: 8}, module: residual}
head: {features: [0, 32]}
modules:
  residual:
    shortcut: [projection, identity]
    branches: [1, 2]
    depth: [2, 1]
    layers: [[conv3, dw3, conv3/g4], [pw, conv3]]
    widths: [1, 2]
    activation: [relu, hardswish]
"""

# More trials than the variations of the prototype's default that a search begins with.
TRIALS, FAMILY_SIZE, FAMILY_EPOCHS = 14, 3, 12

REQUIREMENTS = f"""\
name: tiny
prototype: proto.yaml
data: {{source: digits, train_images: 500}}
limits: {{macs: 30k, params: 4k}}
goals: {{accuracy: 0.2}}
search:
  {{trials: {TRIALS}, seed: 0, early_stopping: false,
    proxy: {{epochs: 3, batch: 32, min_steps: 0}}}}
family:
  {{size: {FAMILY_SIZE}, export: [],
    training: {{epochs: {FAMILY_EPOCHS}, batch: 32, min_steps: 0}}}}
"""


def write_tiny(folder: Path, *changes: tuple[str, str]) -> Path:
    """The requirements of a search of a second, with their prototype.

    Args:
        folder: To write into.
        changes: What is written instead of what, in either file.
    """
    folder.mkdir(exist_ok=True)
    for name, text in (("proto.yaml", PROTOTYPE), ("tiny.yaml", REQUIREMENTS)):
        for old, new in changes:
            text = text.replace(old, new)
        (folder / name).write_text(text)
    written = (folder / "proto.yaml").read_text() + (folder / "tiny.yaml").read_text()
    assert all(new in written for _, new in changes)
    return folder / "tiny.yaml"


def search_words(folder: Path, *more: str) -> list[str]:
    """Search for what ``folder`` asks, reproducibly; the run lies in ``folder/run``."""
    run = ["--run-dir", str(folder / "run"), "--device", "cpu", "--threads", "1", "--workers", "1"]
    return ["search", str(folder / "tiny.yaml"), *run, *more]


# -- candidates, without a search ---------------------------------------------------------------


def candidate(requirements: Requirements, index: int, **changes: object) -> Candidate:
    """In no study yet; its network has the stem's width number ``index``."""
    space = DesignSpace(requirements)
    widths = space.parameters["stem.channels"].values
    params = {**space.own(), "stem.channels": widths[index % len(widths)]}
    architecture = space.decode(params)
    plain = Candidate(-1, index, params, architecture, cost_of(architecture), "machine")
    return replace(plain, **changes)  # type: ignore[arg-type]


def trained(requirements: Requirements, index: int, accuracy: float) -> Candidate:
    """A candidate after two epochs."""
    curve = (CurvePoint(1, 2.25, accuracy / 2), CurvePoint(2, 1.125, accuracy))
    return candidate(
        requirements, index, outcome="trained", accuracy=accuracy, curve=curve, seconds=1.5
    )


# -- as a new process -------------------------------------------------------------------------


def command(*words: str | Path) -> list[str]:
    """``collabdesign`` with these words, in this checkout's package."""
    return [sys.executable, "-m", "collabdesign", *map(str, words)]


def call(*words: str | Path, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in a new process."""
    return subprocess.run(command(*words), cwd=cwd, capture_output=True, text=True, timeout=timeout)


# -- forked from a process that has torch -----------------------------------------------------

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "torch._dynamo",  # which torch imports at the first optimizer
        "torchvision",
        "sklearn.datasets",
        "ptflops",
        "optuna.storages",
        "collabdesign.cli.main",
        "collabdesign.explore.executors.processes",
        "collabdesign.pipeline",
    ]
)
# What the server and all new processes find, and what the entry point sets before torch loads.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _main(words: Sequence[str], cwd: Path, file_bytes: int) -> None:
    os.setsid()
    os.chdir(cwd)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    from collabdesign.cli.main import main

    sys.argv = ["collabdesign", *words]
    main()


def begin(
    words: Sequence[str], cwd: Path, *, file_bytes: int = resource.RLIM_INFINITY
) -> ForkServerProcess:
    """Start a command.

    Args:
        words: After ``collabdesign``.
        cwd: Where it runs; what it says goes to ``said.txt`` there.
        file_bytes: The size at which the system refuses to let a file grow.
    """
    process = _SERVER.Process(target=_main, args=(list(words), cwd, file_bytes))
    process.start()
    return process


def finish(process: ForkServerProcess, timeout: float = 120) -> int:
    """Wait for the exit code; a process that takes longer is killed, and its code negative."""
    process.join(timeout)
    kill(process)
    assert process.exitcode is not None
    return process.exitcode


def run(words: Sequence[str], cwd: Path) -> tuple[int, str]:
    """Run a command to its end: its exit code, and what it said."""
    said = cwd / "said.txt"
    said.unlink(missing_ok=True)
    code = finish(begin(words, cwd))
    return code, said.read_text().replace("\N{NO-BREAK SPACE}", " ")


def kill(process: ForkServerProcess) -> None:
    """kill -9, and wait until it is gone; a finished process is left as it is."""
    process.kill()
    process.join()


def wait_until(happened: Callable[[], bool], process: ForkServerProcess) -> bool:
    """Look every half millisecond; False where the process ended before it happened."""
    end = time.monotonic() + 60
    while not happened():
        if process.exitcode is not None:
            return False
        assert time.monotonic() < end, "it should have happened within a minute"
        time.sleep(0.0005)
    return True


def trained_by(path: Path, process: ForkServerProcess, what: str = "") -> str:
    """The training that the process is in, which it is stopped in.

    Args:
        path: Where a fault would be reported.
        process: Trains by itself.
        what: A part of the training's key.
    """
    assert process.pid is not None
    began, found = time.time_ns(), ""

    def is_stopped_in_training() -> bool:
        nonlocal found
        with suppress(OSError):
            if path.stat().st_mtime_ns > began:  # else of the process before
                found = path.read_text().strip()
        if not found or what not in found:
            return False
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        if path.exists() and path.read_text().strip() == found:
            return True
        os.kill(process.pid, signal.SIGCONT)
        return False

    assert wait_until(is_stopped_in_training, process)
    return found


# -- what a run folder holds ------------------------------------------------------------------


def candidates(run_dir: Path) -> dict[str, Candidate]:
    """The finished candidates of a run by architecture id; none where there is no study yet."""
    if not (run_dir / "study.db").exists():
        return {}
    finished = read_record(run_dir).finished
    found = {each.architecture.id: each for each in finished}
    assert len(found) == len(finished)
    return found


def outcomes(run_dir: Path) -> dict[str, tuple[Any, ...]]:
    """What a search decided, without times and trial numbers."""
    return {
        name: (each.index, each.proposed_by, each.outcome, each.accuracy, each.curve, each.cost)
        for name, each in candidates(run_dir).items()
    }


def trained_ids(run_dir: Path) -> list[str]:
    """The ids of the candidates that ``search.log`` says were trained, in order."""
    log = run_dir / "search.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.split("(")[1].split(")")[0] for line in lines if " candidate " in line]


def certificates(run_dir: Path) -> dict[str, dict[str, Any]]:
    """The family's certificates by name."""
    return {
        path.parent.name: json.loads(path.read_text())
        for path in sorted(run_dir.glob("family/attonet-*/certificate.json"))
    }


def rows(run_dir: Path, query: str) -> list[tuple[Any, ...]]:
    """What the study's database answers; nothing while there is none."""
    try:
        uri = f"file:{run_dir / 'study.db'}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []


@contextmanager
def edited(run_dir: Path) -> Iterator[sqlite3.Connection]:
    """The study's database, to change what stands in it."""
    with closing(sqlite3.connect(run_dir / "study.db")) as connection, connection:
        yield connection


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a folder: what it holds, and when a file was changed."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.read_bytes())
        if path.is_file()
        else (0, b"")
        for path in sorted(folder.rglob("*"))
    }
