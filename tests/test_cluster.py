"""Trainings on a Ray cluster: two nodes on one machine, one of which is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_search import call, candidates, certificates, command, rows, search_words, write_tiny

from collabdesign.design.files.reading import load_requirements
from collabdesign.design.space import DesignSpace
from collabdesign.errors import InputError
from collabdesign.evaluate.data.images import load_data
from collabdesign.explore.executors.cluster import ClusterExecutor
from collabdesign.explore.executors.executor import Died, PassEnded, Task
from collabdesign.explore.lock import holder
from collabdesign.explore.study import read_record

cluster_utils = pytest.importorskip("ray.cluster_utils")

FEW = 6
SLOW = ("search.proxy.epochs=15", f"search.trials={FEW}", "family.size=1", "family.finalists=2")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Of two nodes with a CPU each."""
    found = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    found.add_node(num_cpus=1)
    found.wait_for_nodes()
    yield found
    found.shutdown()


def test_a_lost_node_costs_what_it_trained_and_no_more(cluster: Any, tmp_path: Path) -> None:
    write_tiny(tmp_path)
    run_dir = tmp_path / "run"
    words = command("search", tmp_path / "tiny.yaml", "--run-dir", run_dir)
    words += ["--cluster", cluster.address, *(f"--set={change}" for change in SLOW)]
    with subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        end = time.monotonic() + 150
        while len(candidates(run_dir)) < 2:
            assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
            time.sleep(0.05)
        before = candidates(run_dir)
        other = next(node for node in cluster.list_all_nodes() if node is not cluster.head_node)
        cluster.remove_node(other, allow_graceful=False)
        said, _ = process.communicate(timeout=200)
    assert process.returncode in (0, 4) and "Traceback" not in said, said
    record = read_record(run_dir)
    assert len(record.finished) == len(record.candidates) == FEW
    assert sorted(each.index for each in record.candidates) == list(range(FEW))
    after = candidates(run_dir)
    assert {name: after[name] for name in before} == before
    assert len(certificates(run_dir)) == 1
    assert rows(run_dir, "SELECT * FROM trials WHERE state = 'RUNNING'") == []
    assert holder(run_dir) is None


def test_a_killed_driver_leaves_no_training_on_the_cluster(cluster: Any, tmp_path: Path) -> None:
    write_tiny(tmp_path)
    run_dir = tmp_path / "run"
    words = command("search", tmp_path / "tiny.yaml", "--run-dir", run_dir)
    words += ["--cluster", cluster.address, "--set=search.proxy.epochs=100000"]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 150
        while not trainings():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.1)
        process.kill()
    end = time.monotonic() + 60
    while trainings():
        assert time.monotonic() < end, "a training goes on without its driver"
        time.sleep(0.2)
    assert holder(run_dir) is None


def test_a_cancelled_training_leaves_no_file_on_its_node(cluster: Any, tmp_path: Path) -> None:
    requirements = load_requirements(write_tiny(tmp_path))
    space = DesignSpace(requirements)
    data = load_data(requirements.data)
    before = set(Path(tempfile.gettempdir()).glob("collabdesign-*.faults"))

    def left() -> set[Path]:
        return set(Path(tempfile.gettempdir()).glob("collabdesign-*.faults")) - before

    executor = ClusterExecutor(data, cluster.address, "cpu", 1, None)
    try:
        recipe = requirements.search.proxy.model_copy(update={"epochs": 10_000})
        executor.submit(Task("candidate 0", space.decode(space.own()), recipe, 0))
        end = time.monotonic() + 100
        while not isinstance(executor.wait(1), PassEnded):
            assert time.monotonic() < end
        assert len(left()) == 1
        executor.cancel("candidate 0")
        end = time.monotonic() + 30
        while left():
            assert time.monotonic() < end, "the report of faults stays"
            time.sleep(0.1)
    finally:
        executor.close()


def test_a_crash_of_its_own_is_told_from_a_kill(cluster: Any, tmp_path: Path) -> None:
    requirements = load_requirements(write_tiny(tmp_path))
    space = DesignSpace(requirements)
    recipe = requirements.search.proxy.model_copy(update={"epochs": 10_000})
    executor = ClusterExecutor(load_data(requirements.data), cluster.address, "cpu", 1, None)
    told = {}
    try:
        for index, by in enumerate((signal.SIGSEGV, signal.SIGKILL)):
            key = f"candidate {index}"
            executor.submit(Task(key, space.decode(space.own()), recipe, 0))
            end = time.monotonic() + 200
            while not isinstance(executor.wait(1), PassEnded):
                assert time.monotonic() < end
            (training,) = trainings()
            os.kill(training, by)
            while not isinstance(event := executor.wait(1), Died):
                assert time.monotonic() < end
            assert event.key == key
            told[by] = event.fault
    finally:
        executor.close()
    assert told == {signal.SIGSEGV: "Segmentation fault", signal.SIGKILL: ""}


def test_a_cluster_without_a_gpu_is_refused_each_time(cluster: Any, tmp_path: Path) -> None:
    data = load_data(load_requirements(write_tiny(tmp_path)).data)
    for _ in range(2):
        with pytest.raises(InputError, match="has no GPU for --device cuda"):
            ClusterExecutor(data, cluster.address, "cuda", 1, None)


def trainings() -> list[int]:
    """Processes of Ray on this machine that train."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::_train" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def test_a_cluster_that_does_not_run_is_named(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    words = [*search_words(tmp_path), "--cluster", "127.0.0.1:9"]
    done = call(*words, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "--cluster must name a Ray cluster that runs, got 127.0.0.1:9" in done.stderr


def test_without_ray_the_message_says_what_to_install(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    code = "import sys; sys.modules['ray'] = None\nfrom collabdesign.cli.main import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code, *search_words(tmp_path), "--cluster", "auto"],
        cwd=tmp_path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "pip install collabdesign[ray]" in done.stderr
