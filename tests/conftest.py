"""One finished search for all tests that look at one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from runs import call, search_command, write_tiny


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with requirements and their finished run, ``run``; to look at, not to change."""
    folder = tmp_path_factory.mktemp("finished")
    write_tiny(folder)
    done = call(search_command(folder), folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def finished_copy(finished: Path, tmp_path: Path) -> Path:
    """The same, to change."""
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    return folder
