"""The study's rows: written by one process, read by any, whole after every kill."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from tiny_search import edited, rows, snapshot, write_tiny

from collabdesign.design.cost import Cost, cost_of
from collabdesign.design.files.reading import load_requirements
from collabdesign.design.requirements import Requirements
from collabdesign.design.space import DesignSpace
from collabdesign.errors import InputError
from collabdesign.explore.record import (
    Candidate,
    CurvePoint,
    Record,
    Rejection,
    read_record,
    requirements_of,
    trained_within,
)
from collabdesign.explore.store import Store


@pytest.fixture
def requirements(tmp_path: Path) -> Requirements:
    return load_requirements(write_tiny(tmp_path))


@pytest.fixture
def store(tmp_path: Path, requirements: Requirements) -> Iterator[Store]:
    with closing(Store(tmp_path, DesignSpace(requirements), requirements.objectives)) as opened:
        yield opened


def candidate(requirements: Requirements, index: int, **changes: object) -> Candidate:
    """Not claimed yet; its network has the stem's width number ``index``."""
    space = DesignSpace(requirements)
    widths = space.parameters["stem.channels"].values
    params = {**space.own(), "stem.channels": widths[index % len(widths)]}
    architecture = space.decode(params)
    plain = Candidate(-1, index, params, architecture, cost_of(architecture), "machine")
    return replace(plain, **changes)  # type: ignore[arg-type]


def trained(requirements: Requirements, index: int, accuracy: float) -> Candidate:
    curve = (CurvePoint(1, 2.25, accuracy / 2), CurvePoint(2, 1.125, accuracy))
    return candidate(
        requirements, index, outcome="trained", accuracy=accuracy, curve=curve, seconds=1.5
    )


def test_json_there_and_back(requirements: Requirements) -> None:
    one = trained(requirements, 0, 0.7)
    rejection = Rejection(one.params, Cost(**{**one.cost, "macs": 99_999}), {"macs": 2.3333})
    for each in (
        candidate(requirements, 1),
        one,
        replace(one, outcome="failed", reason="diverged: so", accuracy=None),
        replace(
            one, rejected=9, rejected_by={"macs": 9}, repeated=2, rejections=(rejection, rejection)
        ),
    ):
        text = json.dumps(each.to_json())
        back = Candidate.from_json(each.number, json.loads(text))
        assert replace(back, rejected_by=back.rejected_by or None) == each
        assert json.loads(text)["id"] == each.architecture.id


def test_a_candidates_life(tmp_path: Path, requirements: Requirements, store: Store) -> None:
    first = store.claim(candidate(requirements, 0), {"macs": -0.5})
    second = store.claim(candidate(requirements, 1), {"macs": -0.25})
    third = store.claim(candidate(requirements, 2), {"macs": -0.25})
    assert [each.number for each in (first, second, third)] == [0, 1, 2]
    assert [each.outcome for each in store.read().candidates] == ["running"] * 3
    store.release(first)
    store.finish(replace(trained(requirements, 1, 0.5), number=1))
    store.finish(replace(third, outcome="failed", reason="diverged: so"))
    record = read_record(tmp_path)
    assert record.killed == 1
    assert [(each.number, each.outcome) for each in record.candidates] == [
        (1, "trained"),
        (2, "failed"),
    ]
    assert record.finished == record.candidates
    assert [each.accuracy for each in record.trained] == [0.5]
    # As Optuna has it, with all its tools.
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    trials = optuna.load_study(study_name="collabdesign", storage=storage).trials
    assert [each.state.name for each in trials] == ["FAIL", "COMPLETE", "PRUNED"]
    assert trials[1].values == [0.5, second.cost.macs, second.cost.params]
    assert trials[1].params == dict(second.params)
    assert trials[0].constraints == {"macs": -0.5}


def test_what_a_dead_process_left_running_is_given_back(
    tmp_path: Path, requirements: Requirements, store: Store
) -> None:
    store.claim(candidate(requirements, 0), {})
    done = store.claim(candidate(requirements, 1), {})
    with edited(tmp_path) as study:  # a kill between the two writes that finish a candidate
        result = replace(trained(requirements, 1, 0.5), number=done.number)
        study.execute(
            "UPDATE trial_user_attributes SET value_json = ? WHERE trial_id = 2",
            (json.dumps(result.to_json()),),
        )
    store.close()
    with closing(Store(tmp_path, DesignSpace(requirements), requirements.objectives)) as store:
        store.take_from_the_dead()
        assert rows(tmp_path, "SELECT state FROM trials") == [("FAIL",), ("COMPLETE",)]
        assert [each.accuracy for each in read_record(tmp_path).trained] == [0.5]


def test_counters_add_up_with_those_after_the_last_candidate(requirements: Requirements) -> None:
    one = candidate(requirements, 0, rejected=3, rejected_by={"macs": 3, "params": 1}, repeated=1)
    two = candidate(requirements, 1, rejected=2, rejected_by={"params": 2})
    tail = {"rejected": 5, "repeated": 4, "rejected_by": {"macs": 5}}
    record = Record({}, (one, two), 0)
    assert (record.rejected, record.repeated, record.ran_out) == (5, 1, False)
    record = Record({"tail": tail}, (one, two), 0)
    assert (record.rejected, record.repeated, record.ran_out) == (10, 5, True)
    assert record.rejected_by == {"macs": 8, "params": 3}


def test_todays_limits_count(requirements: Requirements) -> None:
    some = tuple(trained(requirements, index, 0.5) for index in range(3))
    costs = sorted(each.cost.macs for each in some)
    record = Record({}, some, 0)
    assert trained_within(record, requirements) == some
    tighter = requirements.model_copy(
        update={"limits": requirements.limits.model_copy(update={"macs": costs[1]})}
    )
    assert sorted(each.cost.macs for each in trained_within(record, tighter)) == costs[:2]


def test_a_finished_study_is_one_file(finished: Path, finished_copy: Path) -> None:
    """Nothing is written to read it, so that a run on a disk without room can be read too."""
    run_dir = finished_copy / "run"
    before = snapshot(run_dir)
    assert [path.name for path in run_dir.glob("study.db*")] == ["study.db"]
    read_record(run_dir)
    assert snapshot(run_dir) == before
    assert rows(run_dir, "PRAGMA journal_mode") == [("delete",)]


def test_read_while_it_is_written(tmp_path: Path, requirements: Requirements, store: Store) -> None:
    """Each look sees a whole record, and never less than the one before."""
    store.set({"requirements": requirements.to_dict()})
    seen: list[Record] = []
    stop = threading.Event()
    problems: list[Exception] = []

    def look() -> None:
        try:
            while not stop.is_set():
                seen.append(read_record(tmp_path))
        except Exception as error:
            problems.append(error)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for index in range(25):
            claimed = store.claim(candidate(requirements, index), {})
            store.finish(replace(trained(requirements, index, 0.5), number=claimed.number))
    finally:
        stop.set()
        watcher.join()
    assert not problems
    counts = [(len(each.candidates), len(each.finished)) for each in seen]
    assert counts == sorted(counts)
    assert len(set(counts)) > 5
    assert len(read_record(tmp_path).trained) == 25


def test_a_run_that_has_only_begun(tmp_path: Path, store: Store) -> None:
    """The study is there, and what is asked not yet."""
    with pytest.raises(InputError, match="once its search has begun"):
        requirements_of(read_record(tmp_path))


def test_a_study_cannot_be_of_other_objectives_by_accident(
    tmp_path: Path, requirements: Requirements, store: Store
) -> None:
    del store
    assert rows(tmp_path, "SELECT direction FROM study_directions ORDER BY objective") == [
        ("MAXIMIZE",),
        ("MINIMIZE",),
        ("MINIMIZE",),
    ]
