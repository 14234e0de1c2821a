"""Searches on the embedded digits, small enough to be run whole, and what they leave behind."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent

TRIALS = 6
FAMILY_SIZE = 3
FAMILY_EPOCHS = 4

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

REQUIREMENTS = f"""\
name: tiny
prototype: proto.yaml
data: {{source: digits, train_images: 300}}
limits: {{macs: 60k, params: 8k}}
goals: {{accuracy: 0.3}}
search: {{trials: {TRIALS}, seed: 0, proxy: {{epochs: 2, batch: 32, min_steps: 0}}}}
family: {{size: {FAMILY_SIZE}, training: {{epochs: {FAMILY_EPOCHS}, batch: 32, min_steps: 0}}}}
"""


def write_tiny(folder: Path) -> Path:
    """The requirements of a search of a few seconds, with their prototype."""
    (folder / "proto.yaml").write_text(PROTOTYPE)
    path = folder / "tiny.yaml"
    path.write_text(REQUIREMENTS)
    return path


def command(*words: str | Path) -> list[str]:
    """The command line as a new process gets it."""
    return [sys.executable, "-m", "collabdesign", *map(str, words)]


def search_command(folder: Path, *words: str) -> list[str]:
    """The search that ``folder`` holds the requirements of; the run lies in ``folder/run``."""
    run = ("--run-dir", folder / "run", "--device", "cpu", "--threads", "1")
    return command("search", folder / "tiny.yaml", *run, *words)


def environment() -> dict[str, str]:
    """Finds the package in this checkout, whatever is installed."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def call(words: Sequence[str], cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        words, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=timeout
    )


def start(words: Sequence[str], cwd: Path) -> subprocess.Popen[str]:
    """Begin a command in a process group of its own, its words going to a file beside the run."""
    with open(cwd / "words.txt", "a") as words_file:
        return subprocess.Popen(
            words,
            cwd=cwd,
            env=environment(),
            stdout=words_file,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9, and wait until it is gone; a finished process is left as it is."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


def wait_until(
    happened: Callable[[], bool], process: subprocess.Popen[str], timeout: float = 60
) -> None:
    """Look every millisecond until it happened or the process ended."""
    end = time.monotonic() + timeout
    while not happened() and process.poll() is None:
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.001)


def rows_of(run_dir: Path, query: str) -> list[tuple[object, ...]]:
    """What a run's database answers, read-only; nothing while there is none yet."""
    path = run_dir / "study.db"
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: when it was changed, and what it holds."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        if path.is_file()
        else (0, b"a folder")
        for path in sorted(folder.rglob("*"))
    }
