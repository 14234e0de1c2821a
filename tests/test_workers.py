"""Several processes on one study: the budget is met exactly, whoever is killed when."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import torch
from tiny_search import (
    REPOSITORY,
    TRIALS,
    begin,
    candidates,
    certificates,
    edited,
    finish,
    kill,
    outcomes,
    rows,
    run,
    search_words,
    trained_ids,
    write_tiny,
)

from collabdesign.design.files.reading import load_requirements
from collabdesign.errors import InputError, NothingFits
from collabdesign.explore import environment
from collabdesign.explore.environment import devices_for, workers_for
from collabdesign.explore.lock import holder
from collabdesign.explore.record import Record
from collabdesign.explore.study import read_record
from collabdesign.pipeline import Machine, search

TWO = ("--workers", "2")
RUNNING = "SELECT * FROM trials WHERE state = 'RUNNING'"
FEW = 8
# Trainings of half a second or so, to be killed in.
SLOW = tuple(
    word
    for change in (
        "search.proxy.epochs=15",
        f"search.trials={FEW}",
        "family.size=1",
        "family.training.epochs=12",  # enough to reach the goal
    )
    for word in ("--set", change)
)


def until(happened: Callable[[], bool], process: ForkServerProcess, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert process.exitcode is None, f"it ended with {process.exitcode}"
        assert time.monotonic() < end, "it should have happened by now"
        time.sleep(0.01)


def pids(process: ForkServerProcess) -> list[int]:
    """Of the processes that train for a command: they are forked by one that it started."""
    left, found = left_of(process), []
    for pid in left:
        with suppress(OSError):
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            if parent in left and parent != process.pid:
                found.append(pid)
    return found


def left_of(process: ForkServerProcess) -> list[int]:
    """The processes that a command started, itself included, and that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, session = (path / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == process.pid and state != "Z":
            found.append(int(path.name))
    return found


def nothing_is_left(process: ForkServerProcess, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while left_of(process):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def check_whole(run_dir: Path, trials: int = TRIALS) -> Record:
    """Exactly so many candidates, each once, with dense indices and nothing left over."""
    record = read_record(run_dir)
    assert len(record.finished) == len(record.candidates) == trials
    assert sorted(each.index for each in record.candidates) == list(range(trials))
    assert len({each.architecture.id for each in record.candidates}) == trials
    assert holder(run_dir) is None
    assert not (run_dir / "progress.json").exists()
    return record


def test_two_workers_meet_the_budget(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    run_dir = tmp_path / "run"
    process = begin(search_words(tmp_path, *TWO), tmp_path)
    until(lambda: len(rows(run_dir, RUNNING)) >= 3, process)  # one of them waits for a worker
    code, said = run(["status", "run"], tmp_path)
    assert code == 0 and f"process {process.pid} on " in said and "2 trainings under way" in said
    assert finish(process) == 0, (tmp_path / "said.txt").read_text()
    assert nothing_is_left(process)
    assert check_whole(run_dir).killed == 0
    # The log has a whole line for each, and the study is a single file again.
    assert sorted(trained_ids(run_dir)) == sorted(candidates(run_dir))
    assert not list(run_dir.glob("study.db-*"))
    assert certificates(run_dir)


def test_status_follows_a_run_to_its_end(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    (tmp_path / "watch").mkdir()
    process = begin(search_words(tmp_path, *SLOW), tmp_path)
    until(lambda: bool(rows(tmp_path / "run", RUNNING)), process)
    code, said = run(["status", "--follow", str(tmp_path / "run")], tmp_path / "watch")
    assert code == 0, said
    assert "search: " in said and "tiny: finished" in said
    assert finish(process) == 0


def test_killed_workers_lose_nothing(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    run_dir, draw = tmp_path / "run", random.Random(0)
    process = begin(search_words(tmp_path, *TWO, *SLOW), tmp_path)
    before, kills = candidates(run_dir), 0
    while kills < 5 and len(before) < FEW - 2:
        until(lambda: len(pids(process)) == 2, process)
        time.sleep(draw.uniform(0, 0.4))
        if found := pids(process):
            # Also asked politely it is replaced: the search is told to go on.
            os.kill(draw.choice(found), signal.SIGTERM if kills == 1 else signal.SIGKILL)
            kills += 1
        after = candidates(run_dir)
        assert {name: after.get(name) for name in before} == before
        assert len(read_record(run_dir).candidates) <= FEW
        before = after
    assert kills >= 3
    assert finish(process) == 0, (tmp_path / "said.txt").read_text()
    assert nothing_is_left(process)
    record = check_whole(run_dir, FEW)
    assert 0 < record.killed <= kills
    assert {name: candidates(run_dir)[name] for name in before} == before
    assert "Traceback" not in (tmp_path / "said.txt").read_text()
    # What was killed was taken up again: the same parameters at the same index.
    given_back = rows(
        run_dir,
        "SELECT json_extract(value_json, '$.index'), json_extract(value_json, '$.id') "
        "FROM trials JOIN trial_user_attributes USING (trial_id) WHERE state = 'FAIL'",
    )
    ids = {each.index: each.architecture.id for each in record.candidates}
    assert {index: ids[index] for index, _ in given_back} == dict(given_back)


def test_a_killed_command_leaves_no_worker(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    run_dir = tmp_path / "run"
    process = begin(search_words(tmp_path, *TWO, *SLOW), tmp_path)
    until(lambda: len(candidates(run_dir)) >= 2 and len(pids(process)) == 2, process)
    kill(process)
    assert nothing_is_left(process)
    assert holder(run_dir) is None
    before = candidates(run_dir)
    assert 2 <= len(before) < FEW
    assert run(search_words(tmp_path, *SLOW), tmp_path)[0] == 0
    check_whole(run_dir, FEW)
    assert {name: candidates(run_dir)[name] for name in before} == before


def test_one_worker_is_reproducible(finished: Path, tmp_path: Path) -> None:
    write_tiny(tmp_path)
    assert run(search_words(tmp_path), tmp_path)[0] == 0
    assert outcomes(tmp_path / "run") == outcomes(finished / "run")
    assert list(outcomes(tmp_path / "run")) == list(outcomes(finished / "run"))


def test_ctrl_c_ends_all_workers(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    run_dir = tmp_path / "run"
    words = search_words(tmp_path, *TWO, *SLOW)
    process = begin(words, tmp_path)
    until(lambda: len(rows(run_dir, RUNNING)) >= 2 and len(pids(process)) == 2, process)
    assert process.pid is not None
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: everyone in the foreground
    assert finish(process) == 130
    said = (tmp_path / "said.txt").read_text()
    assert said.endswith(f"\nInterrupted. To continue: collabdesign {' '.join(words)}\n")
    assert "Traceback" not in said
    assert nothing_is_left(process)
    assert holder(run_dir) is None
    assert rows(run_dir, RUNNING) == []
    assert len(read_record(run_dir).candidates) == len(candidates(run_dir))


def test_what_a_worker_meets_is_told_by_the_command(tmp_path: Path) -> None:
    """A study that cannot grow: the message and the exit code of a single process."""
    write_tiny(tmp_path)
    process = begin(search_words(tmp_path, *TWO), tmp_path, file_bytes=300 * 1024)
    assert finish(process) == 2
    said = (tmp_path / "said.txt").read_text()
    assert "must be writable, got: " in said and "Traceback" not in said, said
    assert nothing_is_left(process)
    assert 0 < len(candidates(tmp_path / "run")) < TRIALS


def test_a_small_space_is_searched_through(tmp_path: Path) -> None:
    """Nothing new is found while another still trains: the search ends when both are done."""
    requirements = load_requirements(
        write_tiny(tmp_path),
        (
            "prototype.stem={stride: 2, channels: [8, 24]}",
            "prototype.head.features=[0, 32]",
            "prototype.modules.residual={layers: [conv3], depth: 1}",
            "prototype.stages=[{modules: 1, stride: 2, channels: 16, module: residual}]",
            "limits.params=5000",
        ),
    )
    with pytest.raises(NothingFits, match=f"after 3 of {TRIALS} trials"):
        search(requirements, tmp_path / "run", machine=Machine(device="cpu", workers=2))
    assert len(read_record(tmp_path / "run").trained) == 3


def test_workers_that_keep_dying_end_the_search(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    endless = ("--set", "search.proxy.epochs=100000")
    process = begin(search_words(tmp_path, *TWO, *endless), tmp_path)
    end = time.monotonic() + 90
    while process.exitcode is None and time.monotonic() < end:
        for pid in pids(process):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
    assert finish(process) == 2
    said = (tmp_path / "said.txt").read_text()
    assert "10 died in a row" in said and "fewer --workers" in said and "Traceback" not in said
    assert nothing_is_left(process)


def test_a_row_of_a_dead_process_is_given_back(finished_copy: Path) -> None:
    """Also one of a study of an earlier version."""
    run_dir = finished_copy / "run"
    last = read_record(run_dir).candidates[-1]
    with edited(run_dir) as study:
        study.execute("UPDATE trials SET state = 'RUNNING' WHERE number = ?", (last.number,))
        study.execute(
            "UPDATE trial_user_attributes SET value_json = json_remove(json_set(value_json, "
            "'$.outcome', 'running', '$.accuracy', NULL, '$.curve', json('[]')), '$.worker') "
            "WHERE key = 'candidate' AND trial_id = "
            "(SELECT trial_id FROM trials WHERE number = ?)",
            (last.number,),
        )
    assert run(search_words(finished_copy), finished_copy)[0] == 0
    again = read_record(run_dir).candidates[-1]
    assert (again.number, again.index) == (last.number + 1, last.index)
    assert (again.architecture, again.accuracy) == (last.architecture, last.accuracy)


def test_several_workers_refuse_what_one_does(finished_copy: Path) -> None:
    requirements = load_requirements(finished_copy / "tiny.yaml", ("limits.macs=40k",))
    with pytest.raises(InputError, match=r"limits\.macs: 30k -> 40k"):
        search(requirements, finished_copy / "run", machine=Machine(device="cpu", workers=2))


def test_what_the_machine_supports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(environment, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(environment, "_free_bytes", lambda: None)
    assert (workers_for(cpu, 1), workers_for(cpu, 3), workers_for(cpu, 9)) == (8, 2, 1)
    (tmp_path / "cpu.max").write_text("250000 100000\n")  # microseconds of each 100 ms
    assert workers_for(cpu, 1) == 2
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert workers_for(cpu, 1) == 8
    monkeypatch.setattr(environment, "_free_bytes", lambda: 3 << 30)
    assert workers_for(cpu, 1) == 3
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(environment, "_free_bytes", lambda: None)
    assert workers_for(torch.device("cuda"), 1) == 4
    assert devices_for(torch.device("cuda"), 5) == [f"cuda:{at}" for at in (0, 1, 2, 3, 0)]
    assert devices_for(torch.device("cuda:2"), 2) == ["cuda:2", "cuda:2"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert workers_for(torch.device("cuda"), 1) == 2


NOTICES = """print("RAN", flush=True)
raise SystemExit(7)
"""


@pytest.mark.parametrize(
    "words", [["-m", "collabdesign"], ["-c", "from collabdesign.cli.main import main; main()"]]
)
def test_nothing_of_ours_imports_from_the_working_directory(
    tmp_path: Path, words: list[str]
) -> None:
    """A file there that is named as a module is a person's own."""
    write_tiny(tmp_path)
    for name in ("optuna", "random", "torch", "queue", "sklearn", "numpy"):
        (tmp_path / f"{name}.py").write_text(NOTICES)
    flags = ["-P"] if "-c" in words else []
    few = (
        "--set",
        "search.trials=2",
        "--set",
        "family.training.epochs=4",
        "--set",
        "family.size=1",
    )
    done = subprocess.run(
        [sys.executable, *flags, *words, *search_words(tmp_path, *TWO, *few)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert "RAN" not in done.stdout + done.stderr
    assert done.returncode in (0, 4), done.stderr
    assert len(read_record(tmp_path / "run").finished) == 2


def test_a_script_is_not_run_again_by_what_it_starts(tmp_path: Path) -> None:
    """From Python without any guard, as a person types it."""
    write_tiny(tmp_path)
    (tmp_path / "script.py").write_text(
        "import collabdesign\n"
        "print('BEGAN', flush=True)\n"
        "run = collabdesign.run('tiny.yaml', 'run', machine=collabdesign.Machine('cpu', 2))\n"
        "print(len(run.record.finished), len(run.family), run.report)\n"
    )
    text = (tmp_path / "tiny.yaml").read_text().replace(f"trials: {TRIALS}", "trials: 3")
    (tmp_path / "tiny.yaml").write_text(text)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=150
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[0] == "BEGAN"
    assert done.stdout.splitlines()[1:] == [f"3 3 {Path('run') / 'report.html'}"]


def test_an_error_of_ours_in_a_training_process_is_an_error(tmp_path: Path) -> None:
    """Not an interruption: it ends the search with what went wrong."""
    requirements = load_requirements(write_tiny(tmp_path), ("search.trials=2",))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "import broken, collabdesign\n"
        "collabdesign.search('tiny.yaml', 'run', machine=collabdesign.Machine('cpu', 2))\n"
    )
    (tmp_path / "broken").mkdir()
    # The process that trains cannot build a network.
    (tmp_path / "broken" / "sitecustomize.py").write_text("")
    (tmp_path / "broken" / "broken.py").write_text(
        "from collabdesign.explore.executors import processes\n"
        "from collabdesign.explore.executors.executor import Task\n"
        "import collabdesign.explore.driver as driver\n"
        "def task(key, architecture, *others):\n"
        "    return Task(key, None, *others)\n"
        "driver.Task = task\n"
    )
    assert requirements.search.trials == 2
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "broken")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 1
    assert "a process that trains failed" in done.stderr and "AttributeError" in done.stderr
    assert holder(tmp_path / "run") is None


def test_a_training_process_that_faults_twice_on_a_network_has_failed_it(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    run_dir = tmp_path / "run"
    process = begin(search_words(tmp_path, *TWO, *SLOW, "--set", "search.trials=3"), tmp_path)
    for _ in range(2):
        until(lambda: len(pids(process)) >= 1 and bool(rows(run_dir, RUNNING)), process)
        time.sleep(0.3)
        for pid in pids(process):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSEGV)
        time.sleep(0.5)
    assert finish(process) in (0, 4), (tmp_path / "said.txt").read_text()
    record = check_whole(run_dir, 3)
    faults = [each.reason for each in record.failed]
    assert len(faults) + record.killed >= 2
    assert all("Segmentation fault" in reason for reason in faults)
