"""A search's candidates as plain data: there and back, and what they add up to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_search import candidate, trained, write_tiny

from collabdesign.design.cost import Cost
from collabdesign.design.files.reading import load_requirements
from collabdesign.design.requirements import Requirements
from collabdesign.explore.record import Candidate, Record, Rejection, trained_within


@pytest.fixture
def requirements(tmp_path: Path) -> Requirements:
    return load_requirements(write_tiny(tmp_path))


def test_json_there_and_back(requirements: Requirements) -> None:
    one = trained(requirements, 0, 0.7)
    rejection = Rejection(one.params, Cost(**{**one.cost, "macs": 99_999}), {"macs": 2.3333})
    for each in (
        candidate(requirements, 1),
        one,
        replace(one, outcome="failed", reason="diverged: so", accuracy=None),
        replace(one, outcome="stopped", reason="behind", accuracy=None, expected=0.4),
        replace(one, predicted=(0.6, 0.05), repeats=((one.params, 3),)),
        replace(
            one, rejected=9, rejected_by={"macs": 9}, repeated=2, rejections=(rejection, rejection)
        ),
    ):
        text = json.dumps(each.to_json())
        back = Candidate.from_json(each.number, json.loads(text))
        assert replace(back, rejected_by=back.rejected_by or None) == each
        assert json.loads(text)["id"] == each.architecture.id


def test_rows_of_earlier_versions_are_read(requirements: Requirements) -> None:
    """They had no prediction, no expectation and no repeats."""
    one = trained(requirements, 0, 0.7)
    row = one.to_json()
    for key in ("predicted", "expected", "repeats"):
        del row[key]
    assert Candidate.from_json(0, row).to_json() == one.to_json()


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
