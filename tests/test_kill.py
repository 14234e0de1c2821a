"""kill -9 at any moment, then the same command: nothing is lost and nothing is done twice."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from tiny_search import (
    FAMILY_SIZE,
    TRIALS,
    begin,
    call,
    candidates,
    certificates,
    command,
    edited,
    finish,
    kill,
    outcomes,
    rows,
    run,
    search_words,
    trained_by,
    trained_ids,
    wait_until,
    write_tiny,
)

from collabdesign.explore.calibration import read_calibration

RUNNING = "SELECT number FROM trials WHERE state = 'RUNNING'"
FINISHED = "SELECT number FROM trials WHERE state IN ('COMPLETE', 'PRUNED')"

Moment = Callable[[Path, ForkServerProcess], bool]


def _study_in_the_making(run_dir: Path, process: ForkServerProcess) -> bool:
    return wait_until(lambda: any(run_dir.glob("study.db.*")), process)


def _study_just_made(run_dir: Path, process: ForkServerProcess) -> bool:
    return wait_until((run_dir / "study.db").exists, process)


def _claimed(run_dir: Path, process: ForkServerProcess) -> bool:
    return wait_until(lambda: bool(rows(run_dir, RUNNING)), process)


def _proposing(run_dir: Path, process: ForkServerProcess) -> bool:
    """One more is finished and the next not claimed."""
    before = len(rows(run_dir, FINISHED))
    return wait_until(
        lambda: len(rows(run_dir, FINISHED)) > before and not rows(run_dir, RUNNING), process
    )


def _trained_fully(run_dir: Path, process: ForkServerProcess) -> bool:
    """The default network, to know where to aim: one pass of it is through, or more."""
    checkpoints = run_dir / "family" / "training"
    return wait_until(lambda: any(checkpoints.glob("*.pt")), process)


def _later(seed: int) -> Moment:
    """Up to half a second after it began to train."""
    seconds = random.Random(seed).uniform(0, 0.5)

    def moment(run_dir: Path, process: ForkServerProcess) -> bool:
        _claimed(run_dir, process)
        end = time.monotonic() + seconds
        return wait_until(lambda: time.monotonic() > end, process)

    return moment


MOMENTS: tuple[Moment, ...] = (
    _study_in_the_making,
    _study_just_made,
    _claimed,
    _trained_fully,
    _later(1),
    _proposing,
    _claimed,
    _later(2),
    _later(3),
)


def test_killed_searches_do_what_an_uninterrupted_one_does(finished: Path, tmp_path: Path) -> None:
    write_tiny(tmp_path)
    run_dir = tmp_path / "run"
    before, kills, ended_early = candidates(run_dir), 0, 0
    for moment in MOMENTS:
        process = begin(search_words(tmp_path), tmp_path)
        kills += moment(run_dir, process)
        kill(process)
        after = candidates(run_dir)
        # Finished candidates keep their numbers, accuracies, curves and even their seconds.
        assert {name: after.get(name) for name in before} == before
        ended_early += len(after) < TRIALS
        before = after
    assert kills >= 5
    assert ended_early >= 5
    assert run(search_words(tmp_path), tmp_path)[0] == 0
    after = candidates(run_dir)
    assert {name: after.get(name) for name in before} == before

    uninterrupted = finished / "run"
    assert len(after) == TRIALS
    assert outcomes(run_dir) == outcomes(uninterrupted)
    assert list(outcomes(run_dir)) == list(outcomes(uninterrupted))
    # A kill between the study and the log may lose a line, but no id was trained twice.
    trained = trained_ids(run_dir)
    assert len(trained) == len(set(trained))
    assert set(trained) <= set(after)
    assert not list(run_dir.glob("study.db.*"))
    compare_families(run_dir, uninterrupted)


def compare_families(run_dir: Path, uninterrupted: Path) -> None:
    ours, theirs = certificates(run_dir), certificates(uninterrupted)
    assert list(ours) == list(theirs) != []
    for name, certificate in ours.items():
        assert certificate["test_readings"] == 1
        for key in (
            "architecture",
            "select_accuracies",
            "weights_sha256",
            "test_accuracy",
            "curve",
        ):
            assert certificate[key] == theirs[name][key], (name, key)


def test_a_new_process_is_killed(finished: Path, tmp_path: Path) -> None:
    """As a person does it: the command, kill -9, the command."""
    write_tiny(tmp_path)
    run_dir = tmp_path / "run"
    words = command(*search_words(tmp_path))
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 60
        while len(rows(run_dir, FINISHED)) < 2:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.001)
        process.kill()
    before = candidates(run_dir)
    assert 2 <= len(before) < TRIALS
    done = call(*search_words(tmp_path), cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert {name: candidates(run_dir)[name] for name in before} == before
    # A new process decides as the forked ones do.
    assert outcomes(run_dir) == outcomes(finished / "run")
    compare_families(run_dir, finished / "run")


def test_killed_between_the_result_and_the_state(finished_copy: Path) -> None:
    """The two commits that end a candidate: after the first one it is not trained again."""
    run_dir = finished_copy / "run"
    before = candidates(run_dir)
    with edited(run_dir) as study:
        last = TRIALS - 1
        study.execute("UPDATE trials SET state = 'RUNNING' WHERE number = ?", (last,))
        study.execute(
            "DELETE FROM trial_values WHERE trial_id IN "
            "(SELECT trial_id FROM trials WHERE number = ?)",
            (last,),
        )
    logged = trained_ids(run_dir)
    assert run(search_words(finished_copy), finished_copy)[0] == 0
    assert candidates(run_dir) == before
    assert trained_ids(run_dir) == logged
    values = f"SELECT value FROM trial_values JOIN trials USING (trial_id) WHERE number = {last}"
    trained = next(each for each in before.values() if each.number == last)
    assert [value for (value,) in rows(run_dir, values)] == [
        trained.accuracy,
        trained.cost.macs,
        trained.cost.params,
    ]


@pytest.mark.parametrize("trainings_done", [0, 1])
def test_a_killed_family_goes_on(finished: Path, finished_copy: Path, trainings_done: int) -> None:
    """A kill in a full training costs at most an epoch, and no second reading of test."""
    run_dir = finished_copy / "run"
    shutil.rmtree(run_dir / "family")
    work = run_dir / "family" / "training"
    process = begin(search_words(finished_copy), finished_copy)
    assert wait_until(lambda: len(list(work.glob("*.pt"))) > trainings_done, process)
    kill(process)
    assert not certificates(run_dir)
    begun = {path: path.stat().st_mtime_ns for path in work.glob("*.pt")}
    assert len(begun) == trainings_done + 1
    code, said = run(search_words(finished_copy), finished_copy)
    assert code == 0, said
    unchanged = [path for path, changed in begun.items() if path.stat().st_mtime_ns == changed]
    assert len(unchanged) == trainings_done
    compare_families(run_dir, finished / "run")


def test_a_disk_that_is_full(finished: Path, tmp_path: Path) -> None:
    """It costs at most the candidate in training; more room, the same command, and it goes on."""
    write_tiny(tmp_path)
    words, run_dir = search_words(tmp_path), tmp_path / "run"
    before = candidates(run_dir)
    for kilobytes in (140, 170):
        code = finish(begin(words, tmp_path, file_bytes=kilobytes * 1024))
        said = (tmp_path / "said.txt").read_text()
        assert (code, "Traceback" in said) == (2, False), said
        assert "the study " in said and "must be writable, got: " in said
        after = candidates(run_dir)
        assert {name: after[name] for name in before} == before
        before = after
    assert 0 < len(before) < TRIALS
    # The study has room and the report has none.
    assert finish(begin(words, tmp_path, file_bytes=1024 * 1024)) == 2
    assert "the system refused: " in (tmp_path / "said.txt").read_text()
    assert not (run_dir / "report.html").exists() and not list(run_dir.glob(".*.tmp"))
    code, said = run(words, tmp_path)
    assert code == 0, said
    assert outcomes(run_dir) == outcomes(finished / "run")
    compare_families(run_dir, finished / "run")


def test_killed_at_the_reading_of_test(finished: Path, finished_copy: Path) -> None:
    """What was begun counts as a reading, since nobody knows how far it came."""
    run_dir = finished_copy / "run"
    ledger = run_dir / "family" / "readings.json"
    entries = json.loads(ledger.read_text())
    assert [entry["readings"] for entry in entries.values()] == [1] * FAMILY_SIZE
    next(iter(entries.values()))["accuracy"] = None  # entered, and never made
    ledger.write_text(json.dumps(entries))
    shutil.rmtree(run_dir / "family" / "attonet-c")
    (run_dir / "family" / ".attonet-c.new").mkdir()
    assert run(search_words(finished_copy), finished_copy)[0] == 0
    ours, theirs = certificates(run_dir), certificates(finished / "run")
    assert [each["test_readings"] for each in ours.values()] == [2, 1, 1]
    assert [each["test_accuracy"] for each in ours.values()] == [
        each["test_accuracy"] for each in theirs.values()
    ]
    assert not list((run_dir / "family").glob(".*"))


def test_a_training_that_ends_its_process_by_a_fault_twice_has_failed(tmp_path: Path) -> None:
    """Killed it is done again however often; of a fault of its own it would die forever."""
    write_tiny(tmp_path)
    run_dir = tmp_path / "run"

    def struck(by: signal.Signals) -> str:
        process = begin(search_words(tmp_path), tmp_path)
        assert process.pid is not None
        training = trained_by(run_dir / "search.lock.faults", process, "candidate ")
        os.kill(process.pid, by)
        os.kill(process.pid, signal.SIGCONT)
        assert finish(process) == -by
        number = int(training.split()[1])
        where = f"number = {number} AND key = 'candidate'"
        query = (
            "SELECT json_extract(value_json, '$.id') FROM trial_user_attributes "
            f"JOIN trials USING (trial_id) WHERE {where}"
        )
        return str(rows(run_dir, query)[0][0])

    first = struck(signal.SIGSEGV)
    assert struck(signal.SIGKILL) == struck(signal.SIGKILL) == first
    assert struck(signal.SIGBUS) == first
    code, said = run(search_words(tmp_path), tmp_path)
    assert (code, "1 failed" in said) == (0, True), said
    after = candidates(run_dir)
    assert len(after) == TRIALS
    assert after[first].outcome == "failed"
    assert after[first].reason == (
        "fault: a training must leave its process alive, got 2 times: Bus error"
    )
    assert all(each.outcome != "failed" for name, each in after.items() if name != first)
    assert not list(run_dir.glob("*.faults"))
    assert "Bus error" in (run_dir / "report.html").read_text()


def test_a_full_training_that_ends_the_command_by_a_fault_twice_is_left_out(
    finished_copy: Path,
) -> None:
    run_dir = finished_copy / "run"
    network = certificates(run_dir)["attonet-a"]["architecture"]
    shutil.rmtree(run_dir / "family")
    words = search_words(finished_copy)

    def struck() -> str:
        """The training that the command died in."""
        process = begin(words, finished_copy)
        assert process.pid is not None
        training = trained_by(run_dir / "search.lock.faults", process, network)
        os.kill(process.pid, signal.SIGSEGV)
        os.kill(process.pid, signal.SIGCONT)
        assert finish(process) == -signal.SIGSEGV
        return training

    first = struck()
    assert struck() == first == f"{network}-0"
    code, said = run(words, finished_copy)
    assert code in (0, 4), said
    assert f"the training {first} is left out: it ended its process 2 times (Segmentation" in said
    family = certificates(run_dir)
    assert family and network not in {each["architecture"] for each in family.values()}
    # And stays so.
    assert run(words, finished_copy)[0] == code
    assert certificates(run_dir) == family


def test_a_calibration_whose_training_ends_it_by_a_fault_twice_leaves_that_out(
    tmp_path: Path,
) -> None:
    at = ["--run-dir", str(tmp_path / "run"), "--device", "cpu", "--workers", "1"]
    words = ["calibrate", str(write_tiny(tmp_path)), "--networks", "4", *at]
    words += ["--set", "family.training.epochs=40"]

    def struck(what: str) -> str:
        """The training that the command died in."""
        process = begin(words, tmp_path)
        assert process.pid is not None
        training = trained_by(tmp_path / "run" / "calibration.lock.faults", process, what)
        os.kill(process.pid, signal.SIGSEGV)
        os.kill(process.pid, signal.SIGCONT)
        assert finish(process) == -signal.SIGSEGV
        return training

    first = struck("-full-")
    assert struck(first) == first
    said = run(words, tmp_path)[1]
    assert "Traceback" not in said and f"the training {first} is left out: it ended its" in said
    file = read_calibration(tmp_path / "run")
    assert file is not None
    assert "fault: Segmentation fault" in [each.reason for each in file.trained]
