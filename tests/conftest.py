"""One finished search for all tests that look at one."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from tiny_search import run, search_words, write_tiny

# Two test processes share two cores, and threads that wait for each other are many times slower
# than one. Read when torch loads, here and in the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

# Nobody's own pictures, and none that are there from an earlier run.
_cache = tempfile.TemporaryDirectory(prefix="collabdesign-cache-")
os.environ["COLLABDESIGN_CACHE"] = _cache.name

# A shell lets what it runs in the background ignore Ctrl-C, and all that is started from there.
signal.signal(signal.SIGINT, signal.default_int_handler)


# The files that take longest, of which none may be left for the end: there one process would wait
# for the other.
LONGEST = (
    "search",
    "source",
    "workers",
    "cluster",
    "kill",
    "references",
    "cli",
    "compare",
    "export",
    "detect_training",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest files begin; a file is one process's."""
    names = [f"test_{name}.py" for name in LONGEST]
    items.sort(key=lambda item: item.path.name not in names)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with requirements and their finished run, ``run``; to look at, not to change."""
    folder = tmp_path_factory.mktemp("finished")
    write_tiny(folder)
    code, said = run(search_words(folder), folder)
    assert code == 0, said
    return folder


@pytest.fixture
def finished_copy(finished: Path, tmp_path: Path) -> Path:
    """The same, to change."""
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    return folder
