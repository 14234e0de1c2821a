"""Several processes on one study: the budget is met exactly, whoever is killed when."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import torch
from collabdesign.explore.search import search
from collabdesign.explore.workers import devices_for
from tiny_search import (
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
from collabdesign.explore.environment import workers_for
from collabdesign.explore.lock import at_work, claiming, is_running
from collabdesign.explore.record import Record, read_record

TWO = ("--workers", "2")
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


def pids(run_dir: Path) -> list[int]:
    """Of the workers at work."""
    return [int(name.split("-")[1]) for name in at_work(run_dir, "worker")]


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
    assert not is_running(run_dir)
    assert [path.name for path in (run_dir / "workers").iterdir()] == ["claim.lock"]
    return record


def test_two_workers_meet_the_budget(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    process = begin(search_words(tmp_path, *TWO), tmp_path)
    until(lambda: len(pids(tmp_path / "run")) == 2, process)
    code, said = run(["status", "run"], tmp_path)
    assert (code, "2 workers at work" in said) == (0, True), said
    assert finish(process) == 0, (tmp_path / "said.txt").read_text()
    assert nothing_is_left(process)
    record = check_whole(tmp_path / "run")
    assert record.killed == 0
    assert len({each.worker for each in record.candidates}) == 2
    # The log has a whole line for each, and the study is a single file again.
    assert sorted(trained_ids(tmp_path / "run")) == sorted(candidates(tmp_path / "run"))
    assert not list((tmp_path / "run").glob("study.db-*"))
    assert certificates(tmp_path / "run")


def test_killed_workers_lose_nothing(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    run_dir, draw = tmp_path / "run", random.Random(0)
    process = begin(search_words(tmp_path, *TWO, *SLOW), tmp_path)
    before, kills = candidates(run_dir), 0
    while kills < 5 and len(before) < FEW - 2:
        until(lambda: len(pids(run_dir)) == 2, process)
        time.sleep(draw.uniform(0, 0.4))
        if found := pids(run_dir):
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
    until(lambda: len(candidates(run_dir)) >= 2 and len(pids(run_dir)) == 2, process)
    kill(process)
    assert nothing_is_left(process)
    assert not is_running(run_dir)
    before = candidates(run_dir)
    assert 2 <= len(before) < FEW
    assert run(search_words(tmp_path, *SLOW), tmp_path)[0] == 0
    check_whole(run_dir, FEW)
    assert {name: candidates(run_dir)[name] for name in before} == before


def test_the_same_command_joins_in(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    run_dir = tmp_path / "run"
    words = search_words(tmp_path, *SLOW)
    process = begin(words, tmp_path)
    until(lambda: len(pids(run_dir)) == 1, process)
    code, said = run(search_words(tmp_path, *SLOW, "--set", "search.trials=20"), tmp_path)
    assert code == 2
    assert "only the same command joins in" in said and "search.trials: 8 -> 20" in said
    other = begin(words, tmp_path)
    until(lambda: len(pids(run_dir)) == 2, other)
    assert "joining 1 at work after" in (tmp_path / "said.txt").read_text()
    assert (finish(process), finish(other)) == (0, 0), (tmp_path / "said.txt").read_text()
    record = check_whole(run_dir, FEW)
    by = {each.worker.split("-")[1] for each in record.candidates}
    assert by == {str(process.pid), str(other.pid)}
    # Trained once, by whoever came first.
    assert [each["test_readings"] for each in certificates(run_dir).values()] == [1]


def test_a_joiner_goes_on_where_the_first_is_killed(tmp_path: Path) -> None:
    """At the end of the budget it waits for the first, and takes up what that leaves."""
    write_tiny(tmp_path)
    run_dir = tmp_path / "run"
    words = search_words(tmp_path, *SLOW, "--set", "search.trials=2")
    process = begin(words, tmp_path)
    until(lambda: len(read_record_or_none(run_dir)) >= 1, process)
    assert process.pid is not None
    # Alive, and holding its candidate; not the lock of the claim, for which all others would wait.
    with claiming(run_dir):
        os.kill(process.pid, signal.SIGSTOP)
    other = begin(words, tmp_path)
    until(lambda: len(pids(run_dir)) == 2, other)
    until(lambda: len(candidates(run_dir)) == 1, other)
    time.sleep(1.5)
    assert other.exitcode is None
    kill(process)
    assert finish(other) == 0
    record = check_whole(run_dir, 2)
    assert record.killed == 1
    assert {each.worker.split("-")[1] for each in record.candidates} == {str(other.pid)}


def read_record_or_none(run_dir: Path) -> tuple[object, ...]:
    return read_record(run_dir).candidates if (run_dir / "study.db").exists() else ()


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
    until(lambda: len(rows(run_dir, "SELECT * FROM trials WHERE state = 'RUNNING'")) == 2, process)
    assert process.pid is not None
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: everyone in the foreground
    assert finish(process) == 130
    said = (tmp_path / "said.txt").read_text()
    assert said.endswith(f"\nInterrupted. To continue: collabdesign {' '.join(words)}\n")
    assert "Traceback" not in said
    assert nothing_is_left(process)
    assert not is_running(run_dir)
    assert rows(run_dir, "SELECT * FROM trials WHERE state = 'RUNNING'") == []
    assert len(read_record(run_dir).candidates) == len(candidates(run_dir))


def test_what_a_worker_meets_is_told_by_the_command(tmp_path: Path) -> None:
    """A study that cannot grow: the message and the exit code of a single process."""
    write_tiny(tmp_path)
    process = begin(search_words(tmp_path, *TWO), tmp_path, file_bytes=170 * 1024)
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
        search(requirements, tmp_path / "run", device="cpu", workers=2)
    assert len(read_record(tmp_path / "run").trained) == 3


def test_workers_that_keep_dying_end_the_search(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    run_dir = tmp_path / "run"
    endless = ("--set", "search.proxy.epochs=100000")
    process = begin(search_words(tmp_path, *TWO, *endless), tmp_path)
    end = time.monotonic() + 90
    while process.exitcode is None and time.monotonic() < end:
        for pid in pids(run_dir):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
    assert finish(process) == 2
    said = (tmp_path / "said.txt").read_text()
    assert "10 died in a row" in said and "fewer --workers" in said and "Traceback" not in said
    assert nothing_is_left(process)


def test_a_row_whose_worker_is_dead_is_given_back(finished_copy: Path) -> None:
    """Also one of a study from before candidates named their workers."""
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
        search(requirements, finished_copy / "run", device="cpu", workers=2)


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
