"""When a proxy is stopped early: the rule by arithmetic, and in searches."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from tiny_search import (
    begin,
    edited,
    finish,
    kill,
    outcomes,
    rows,
    run,
    search_words,
    wait_until,
    write_tiny,
)

from collabdesign import Machine, search
from collabdesign.design.cost import cost_of
from collabdesign.design.files.reading import load_requirements
from collabdesign.design.space import DesignSpace
from collabdesign.explore import proposals
from collabdesign.explore.record import REJECTIONS_KEPT, Candidate, Record
from collabdesign.explore.rungs import LEAST_CURVES, FullCurve, Rungs, costs_of, full_curve
from collabdesign.explore.study import read_record

# Of 4 epochs: costs 10, 20 ... 100, accuracy after the first 0.50, 0.51 ... 0.59. From there to
# the end each gains exactly 0.3, but one of them 0.1 more.
IMAGES = 10_000


def curve(first: float, gain: float) -> tuple[float, ...]:
    return (first, first + gain / 3, first + 2 * gain / 3, first + gain)


FULL = tuple(
    FullCurve(
        number, (10.0 * (number + 1),), curve(0.5 + number / 100, 0.4 if number == 4 else 0.3)
    )
    for number in range(10)
)
RUNGS = Rungs(FULL, IMAGES)


def test_a_dominated_slow_one_stops() -> None:
    # 0.2 after the first epoch, by a line of slope 1. Of ten distances from it nine are 0.3 and
    # one is 0.4: one more lies above the ninth of them in two of eleven cases, which is more
    # than one in eight, and above the tenth in one.
    stop = RUNGS.verdict([0.2], (100.0,))
    assert stop is not None
    assert stop.optimistic == pytest.approx(0.2 + 0.4)
    # The best at the end of all that cost no more: number 4 with 0.54 + 0.4.
    assert (stop.epochs, stop.accuracy, stop.rival.number) == (1, 0.2, 4)
    assert str(stop) == (
        "after epoch 1 of 4: 20.0 %, expected 60.0 % at most. Candidate 4 costs no more, had "
        "54.0 % then and ended at 94.0 %"
    )


def test_only_what_costs_no_more_in_anything_counts() -> None:
    assert RUNGS.verdict([0.2], (9.9,)) is None  # cheaper than all others
    stop = RUNGS.verdict([0.2], (10.0,))
    assert stop is not None and stop.rival.number == 0
    second = tuple(replace(each, costs=(*each.costs, 5.0)) for each in FULL)
    assert Rungs(second, IMAGES).verdict([0.2], (100.0, 4.9)) is None
    assert Rungs(second, IMAGES).verdict([0.2], (100.0, 5.0)) is not None


def test_without_costs_all_count() -> None:
    """A search for accuracy alone."""
    alone = Rungs(tuple(replace(each, costs=()) for each in FULL), IMAGES)
    stop = alone.verdict([0.2], ())
    assert stop is not None and stop.rival.number == 4


def test_within_the_noise_nothing_stops() -> None:
    # At the end at most 0.4 more: 0.405 + 0.4 = 0.805 is above the 0.8 of number 0.
    assert RUNGS.verdict([0.405], (10.0,)) is None
    assert RUNGS.verdict([0.395], (10.0,)) is not None
    # 0.395 of 50 images is no clear difference from 0.5: its standard error is 0.1.
    assert Rungs(FULL, 50).verdict([0.395], (10.0,)) is None
    # 0.3 is: 1.15 standard errors are 0.11.
    assert Rungs(FULL, 50).verdict([0.3], (10.0,)) is not None


def test_in_the_first_tenth_nothing_stops() -> None:
    """The learning rate has only begun to rise."""
    slow = tuple(
        FullCurve(n, (10.0,), tuple(0.5 + n / 100 + e / 100 for e in range(20))) for n in range(10)
    )
    assert Rungs(slow, IMAGES).verdict([0.1], (10.0,)) is None
    assert Rungs(slow, IMAGES).verdict([0.1, 0.1], (10.0,)) is not None


def test_low_ones_that_gain_more_are_waited_for() -> None:
    """All end at 0.9, wherever they were after the first epoch: so may this one."""
    level = tuple(FullCurve(n, (2.0, 2.0), (0.1 + n / 20, 0.9)) for n in range(10))
    assert Rungs(level, IMAGES).verdict([0.05], (2.0, 2.0)) is not None  # and adds nothing at 0.9
    # As large, and dearer in one objective: no rivals.
    luckier = (*level[:8], *(FullCurve(n, (4.0, 1.0), (0.5, 0.95)) for n in (8, 9)))
    assert Rungs(luckier, IMAGES).verdict([0.05], (2.0, 2.0)) is None


def test_large_ones_that_begin_slowly_are_waited_for() -> None:
    """Whatever costs ten times as much ends 0.1 higher, from the same accuracy after an epoch."""
    small = tuple(FullCurve(n, (100.0,), (0.3 + n / 100, 0.6 + n / 100)) for n in range(6))
    large = tuple(FullCurve(6 + n, (1000.0,), (0.3 + n / 100, 0.7 + n / 100)) for n in range(6))
    # One more of either kind, at 0.29, would end at 0.59 or 0.69; small ones ended at up to 0.65.
    assert Rungs((*small, *large), IMAGES).verdict([0.29], (100.0,)) is not None
    # One large one of thirteen tells as much as six: it is no outlier.
    assert Rungs((*small, *small, large[0]), IMAGES).verdict([0.29], (999.0,)) is None


def test_with_too_few_curves_nothing_stops() -> None:
    assert Rungs(FULL[: LEAST_CURVES - 1], IMAGES).verdict([0.0], (1000.0,)) is None
    assert Rungs(FULL[:LEAST_CURVES], IMAGES).verdict([0.0], (1000.0,)) is not None


def test_the_last_epoch_is_no_rung() -> None:
    assert RUNGS.verdict([0.0] * 3, (1000.0,)) is not None
    assert RUNGS.verdict([0.0] * 4, (1000.0,)) is None
    assert RUNGS.verdict([0.0] * 5, (1000.0,)) is None


def test_what_a_stopped_one_would_have_had() -> None:
    # The median of the distances is 0.3.
    assert RUNGS.expected_accuracy([0.2], (100.0,)) == pytest.approx(0.5)
    # Never above those that it was held against: candidate 0, made worse, ends at 0.55.
    worse = (replace(FULL[0], accuracies=(0.5, 0.5, 0.5, 0.55)), *FULL[1:])
    assert Rungs(worse, IMAGES).expected_accuracy([0.45], (10.0,)) == pytest.approx(0.55)
    assert Rungs(FULL[: LEAST_CURVES - 1], IMAGES).expected_accuracy([0.2], (100.0,)) == 0.2


shares = st.integers(0, 40).map(lambda right: right / 40)
costs = st.tuples(st.integers(1, 4), st.integers(1, 4)).map(lambda pair: tuple(map(float, pair)))
curves = st.lists(shares, min_size=4, max_size=4).map(tuple)
networks = st.lists(st.tuples(costs, curves), min_size=LEAST_CURVES, max_size=LEAST_CURVES + 5)


@given(networks, costs, st.integers(1, 4), st.lists(shares, min_size=4, max_size=4))
@settings(max_examples=200, deadline=None)
def test_who_is_nowhere_worse_never_stops(
    others: list[tuple[tuple[float, ...], tuple[float, ...]]],
    cost: tuple[float, ...],
    epochs: int,
    above: list[float],
) -> None:
    full = tuple(FullCurve(n, *each) for n, each in enumerate(others))
    own = [
        max(more, *(each.accuracies[at] for each in full)) for at, more in enumerate(above[:epochs])
    ]
    assert Rungs(full, 40).verdict(own, cost) is None


@given(networks, costs, curves)
@settings(max_examples=200, deadline=None)
def test_a_stopped_one_was_beaten_and_is_expected_below(
    others: list[tuple[tuple[float, ...], tuple[float, ...]]],
    cost: tuple[float, ...],
    own: tuple[float, ...],
) -> None:
    full = tuple(FullCurve(n, *each) for n, each in enumerate(others))
    rungs = Rungs(full, 40)
    for epochs in range(1, 5):
        stop = rungs.verdict(own[:epochs], cost)
        if stop is None:
            continue
        assert all(theirs <= ours for theirs, ours in zip(stop.rival.costs, cost, strict=True))
        assert stop.rival.accuracies[epochs - 1] > own[epochs - 1]
        expected = rungs.expected_accuracy(own[:epochs], cost)
        assert 0 <= expected <= stop.optimistic <= stop.rival.accuracies[-1]


# -- in a search ------------------------------------------------------------------------------

TRIALS, EPOCHS = 26, 5
SELECT_IMAGES = 100  # a fifth of 500
CHANGES = (
    "search.early_stopping=true",
    "search.sampler=random",  # Of what others propose less is hopeless.
    f"search.trials={TRIALS}",
    f"search.proxy.epochs={EPOCHS}",
)
FAMILY = ("family.size=1", "family.training.epochs=6")
WORDS = tuple(word for change in (*CHANGES, *FAMILY) for word in ("--set", change))


@pytest.fixture(scope="module")
def stopping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished search that stops early; to look at, not to change."""
    folder = tmp_path_factory.mktemp("stopping")
    write_tiny(folder)
    code, said = run(search_words(folder, *WORDS), folder)
    assert code == 0, said
    assert "stopped early" in said and "of the epochs saved" in said
    return folder


def check(record: Record) -> None:
    """Some are stopped, with their curves; the budget is met, and none is taken for trained."""
    assert len(record.finished) == len(record.candidates) == TRIALS
    assert len(record.trained) + len(record.stopped) == TRIALS
    assert len(record.stopped) >= 2
    for each in record.stopped:
        assert each.accuracy is None
        assert [point.epoch for point in each.curve] == list(range(1, len(each.curve) + 1))
        assert 1 <= len(each.curve) < EPOCHS
        assert each.reason.startswith(f"after epoch {len(each.curve)} of {EPOCHS}: ")
    saved = sum(EPOCHS - len(each.curve) for each in record.stopped)
    assert record.epochs_saved == pytest.approx(saved / (EPOCHS * TRIALS))


def test_a_search_stops_the_hopeless(stopping: Path) -> None:
    record = read_record(stopping / "run")
    check(record)
    first = record.candidates[0]
    assert (first.proposed_by, first.outcome) == ("prototype", "trained")
    assert all(each.outcome == "trained" for each in record.candidates[:LEAST_CURVES])
    states = rows(stopping / "run", "SELECT count(*) FROM trials WHERE state = 'PRUNED'")
    assert states == [(len(record.stopped),)]
    log = (stopping / "run" / "search.log").read_text()
    assert log.count(": stopped after epoch ") == len(record.stopped)


def test_resumed_is_the_same_as_uninterrupted(stopping: Path, tmp_path: Path) -> None:
    write_tiny(tmp_path)
    words, kills = search_words(tmp_path, *WORDS), 0
    for stopped in (0, 1, 2):
        process = begin(words, tmp_path)

        def far_enough(wanted: int = stopped) -> bool:
            states = [state for (state,) in rows(tmp_path / "run", "SELECT state FROM trials")]
            done = len(states) - states.count("RUNNING")
            return done > LEAST_CURVES - 3 and states.count("PRUNED") >= wanted

        kills += wait_until(far_enough, process)
        kill(process)
    assert kills >= 2
    assert finish(begin(words, tmp_path)) == 0
    ours, theirs = outcomes(tmp_path / "run"), outcomes(stopping / "run")
    assert ours == theirs
    assert list(ours) == list(theirs)


def test_a_proposal_is_the_same_in_a_process_begun_anew(stopping: Path) -> None:
    """Also after candidates that were stopped: what came of each is taken from the search."""
    changes = [each for each in CHANGES if "sampler" not in each]
    requirements = load_requirements(stopping / "tiny.yaml", changes)
    assert requirements.search.sampler == "generative"
    space = DesignSpace(requirements)
    first, *came_of = read_record(stopping / "run").candidates
    assert len([each for each in came_of if each.outcome == "stopped"]) >= 2
    history, lasting = [first], proposals.Proposals(space, requirements)
    for each in came_of:
        anew = proposals.Proposals(space, requirements)
        both = [seam.at(each.index, history) for seam in (lasting, anew)]
        repeats: list[tuple[Mapping[str, Any], int]] = []
        while True:
            params, again = (proposer.ask() for proposer in both)
            assert params == again, each.index
            architecture = space.decode(params)
            known = next((c for c in history if c.architecture.id == architecture.id), None)
            if known is None:
                break
            for proposer in both:
                proposer.tell_repeated(params, known)
            repeats.append((params, known.number))
        both[0].accept()
        history.append(
            replace(
                each,
                params=params,
                architecture=architecture,
                cost=cost_of(architecture),
                rejections=(),
                repeats=tuple(repeats[:REJECTIONS_KEPT]),
            )
        )


def test_workers_stop_too(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    requirements = load_requirements(tmp_path / "tiny.yaml", CHANGES)
    machine = Machine(device="cpu", workers=2, threads=1)
    check(search(requirements, tmp_path / "run", machine=machine))


class Listening(optuna.samplers.RandomSampler):
    """Proposes at random; keeps what it was told."""

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.told: list[tuple[TrialState, list[float] | None]] = []

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        trials = study.get_trials(deepcopy=False)[:-1]
        self.told = [(each.state, each.values) for each in trials]
        return {}


def earlier(record: Record, candidate: Candidate) -> list[Candidate]:
    """What was finished when the only trainer had this one."""
    return [each for each in record.finished if each.index < candidate.index]


def test_what_was_expected_of_a_stopped_one_is_kept(stopping: Path) -> None:
    """By the curves that were known then, and shown to its last epoch."""
    requirements = load_requirements(stopping / "tiny.yaml", CHANGES)
    objectives, record = requirements.objectives, read_record(stopping / "run")
    for each in record.candidates:
        assert (each.expected is None) == (each.outcome != "stopped")
    for each in record.stopped:
        known = [one for one in earlier(record, each) if one.outcome == "trained"]
        rungs = Rungs(tuple(full_curve(one, objectives) for one in known), SELECT_IMAGES)
        own = [point.accuracy for point in each.curve]
        assert each.expected == rungs.expected_accuracy(own, costs_of(each, objectives))


def test_the_sampler_learns_what_a_stopped_one_would_have_had(
    stopping: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = load_requirements(stopping / "tiny.yaml", CHANGES)
    record = read_record(stopping / "run")
    sampler = Listening()
    monkeypatch.setitem(proposals.SAMPLERS, "random", lambda *_: sampler)

    def told(history: Sequence[Candidate]) -> list[tuple[TrialState, list[float] | None]]:
        space = DesignSpace(requirements)
        history = [replace(each, rejections=()) for each in history]  # They would be told too.
        proposals.Proposals(space, requirements).at(len(history), history).ask()
        return sampler.told

    seen = told(record.candidates)
    for each in record.stopped:
        costs = [float(each.cost.macs), float(each.cost.params)]
        assert seen[each.index] == (TrialState.COMPLETE, [each.expected, *costs])
    # One that failed stays pruned, whatever its curve.
    failed = replace(record.stopped[0], outcome="failed")
    others = [failed if each.index == failed.index else each for each in record.candidates]
    assert told(others)[failed.index] == (TrialState.PRUNED, None)


def test_a_search_goes_on_where_no_expectation_was_kept(stopping: Path, tmp_path: Path) -> None:
    """As earlier versions wrote their candidates: it is worked out from the curves there are."""
    shutil.copytree(stopping, tmp_path, dirs_exist_ok=True)
    with edited(tmp_path / "run") as study:
        query = "SELECT trial_user_attribute_id, value_json FROM trial_user_attributes"
        for row, text in study.execute(query).fetchall():
            data = json.loads(text)
            del data["expected"]
            study.execute(
                "UPDATE trial_user_attributes SET value_json = ? WHERE trial_user_attribute_id = ?",
                (json.dumps(data), row),
            )
    more = f"search.trials={TRIALS + 1}"
    requirements = load_requirements(tmp_path / "tiny.yaml", [*CHANGES, more])
    record = search(requirements, tmp_path / "run", machine=Machine(device="cpu", workers=1))
    assert len(record.finished) == TRIALS + 1
    assert len(record.stopped) >= 2
