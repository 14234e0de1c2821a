"""On what a run runs: how many workers a machine supports, and the versions that trained what."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from collabdesign.explore import environment
from collabdesign.explore.environment import devices_for, usable_cores, workers_for
from collabdesign.explore.provenance import ENVIRONMENT, note_environment, read_environments

CPU = torch.device("cpu")
GIB = 1 << 30

Container = Callable[..., None]


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Container:
    """Makes this machine a container of 16 cores with such a control group, on a large host."""
    monkeypatch.setattr(environment, "_CGROUP", tmp_path)
    monkeypatch.setattr(environment, "usable_cores", lambda: 16)

    def written(**files: str) -> None:
        for name, text in files.items():
            (tmp_path / name.replace("_", ".", 1)).write_text(text)

    return written


def stat(active: int, inactive: int) -> str:
    """As the kernel writes it; the lines of memory that is in use have similar names."""
    return (
        f"anon {GIB}\nfile {active + inactive}\ninactive_anon {7 * GIB}\nactive_anon {5 * GIB}\n"
        f"inactive_file {inactive}\nactive_file {active}\nworkingset_refault_file 99\n"
    )


def host_with(monkeypatch: pytest.MonkeyPatch, available: int) -> None:
    """A host with so much memory available."""
    read = environment._read

    def answer(path: Path) -> str:
        if path == Path("/proc/meminfo"):
            return f"MemTotal: 1 kB\nMemAvailable:   {available // 1024} kB\n"
        return read(path)

    monkeypatch.setattr(environment, "_read", answer)


def test_files_that_were_read_are_no_used_memory(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a limit of 8 GiB 7 are in use, 6 of them by the page cache."""
    host_with(monkeypatch, 100 * GIB)
    limit = {"memory_max": f"{8 * GIB}\n", "memory_current": f"{7 * GIB}\n"}
    container(**limit, memory_stat=stat(active=2 * GIB, inactive=4 * GIB))
    assert workers_for(CPU, 1) == 7
    container(memory_stat=stat(active=0, inactive=0))
    assert workers_for(CPU, 1) == 1


def test_memory_of_the_host_bounds_too(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    host_with(monkeypatch, 3 * GIB)
    container(memory_max="max\n", memory_current=f"{7 * GIB}\n", memory_stat=stat(0, 6 * GIB))
    assert workers_for(CPU, 1) == 3
    limit = {"memory_max": f"{4 * GIB}\n", "memory_current": f"{2 * GIB}\n"}
    container(**limit, memory_stat=stat(0, 0))
    assert workers_for(CPU, 1) == 2


def test_cores_bound_where_there_is_memory(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    host_with(monkeypatch, 1000 * GIB)
    assert [workers_for(CPU, threads) for threads in (1, 4, 32)] == [16, 4, 1]


def test_a_quota_is_as_many_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_CGROUP", tmp_path)
    monkeypatch.setattr(environment.os, "sched_getaffinity", lambda _: set(range(8)))
    assert usable_cores() == 8
    for quota, cores in {"200000 100000": 2, "50000 100000": 1, "max 100000": 8}.items():
        (tmp_path / "cpu.max").write_text(quota + "\n")
        assert usable_cores() == cores


def test_devices_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert devices_for(torch.device("cuda"), 4) == ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]
    assert devices_for(torch.device("cuda:1"), 2) == ["cuda:1", "cuda:1"]
    assert devices_for(CPU, 2) == ["cpu", "cpu"]


# -- the versions of a run --------------------------------------------------------------------

OLD, NEW = {"torch": "2.4.0", "threads": "1"}, {"torch": "2.9.1", "threads": "1"}


def test_the_versions_of_a_continued_run_are_all_kept(tmp_path: Path) -> None:
    assert read_environments(tmp_path) == []
    note_environment(tmp_path, OLD, 0)
    assert read_environments(tmp_path) == [{**OLD, "candidates": [0, None]}]
    note_environment(tmp_path, NEW, 14)
    assert read_environments(tmp_path) == [
        {**OLD, "candidates": [0, 13]},
        {**NEW, "candidates": [14, None]},
    ]
    # The same again is no other entry; and what is back comes a second time.
    note_environment(tmp_path, NEW, 20)
    note_environment(tmp_path, OLD, 30)
    assert [each["candidates"] for each in read_environments(tmp_path)] == [
        [0, 13],
        [14, 29],
        [30, None],
    ]


def test_versions_that_trained_nothing_are_not_kept(tmp_path: Path) -> None:
    note_environment(tmp_path, OLD, 0)
    note_environment(tmp_path, NEW, 0)
    assert read_environments(tmp_path) == [{**NEW, "candidates": [0, None]}]
    note_environment(tmp_path, OLD, 5)
    note_environment(tmp_path, NEW, 5)
    assert read_environments(tmp_path) == [{**NEW, "candidates": [0, None]}]


def test_what_earlier_versions_wrote_is_of_all_earlier_candidates(tmp_path: Path) -> None:
    (tmp_path / ENVIRONMENT).write_text(json.dumps(OLD))
    assert read_environments(tmp_path) == [{**OLD, "candidates": [0, None]}]
    note_environment(tmp_path, NEW, 14)
    assert read_environments(tmp_path) == [
        {**OLD, "candidates": [0, 13]},
        {**NEW, "candidates": [14, None]},
    ]


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_a_broken_file_does_not_stop_a_search(tmp_path: Path, text: str) -> None:
    (tmp_path / ENVIRONMENT).write_text(text)
    note_environment(tmp_path, NEW, 14)
    assert read_environments(tmp_path) == [{**NEW, "candidates": [14, None]}]
