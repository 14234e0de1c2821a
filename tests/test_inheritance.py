"""Proxies that begin with the weights of another: which, on record, repeated exactly."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_search import begin, candidate, kill, outcomes, run, search_words, wait_until, write_tiny

from collabdesign.design.files.reading import load_requirements
from collabdesign.errors import InputError
from collabdesign.evaluate.checkpoint import weights_bytes
from collabdesign.evaluate.data.images import load_data
from collabdesign.evaluate.network import build_network
from collabdesign.evaluate.plan import plan_training
from collabdesign.evaluate.seeds import seed_of
from collabdesign.explore.calibration import Calibration, CalibrationFile, Point, proxy_goal
from collabdesign.explore.executors.executor import PassEnded, Start, Task, Trained
from collabdesign.explore.executors.inline import InlineExecutor
from collabdesign.explore.executors.processes import ProcessExecutor
from collabdesign.explore.inheritance import MOST_CHANGES, WEIGHTS, ProxyWeights, changes
from collabdesign.explore.rank import Estimate
from collabdesign.explore.record import Candidate, Record
from collabdesign.explore.study import read_record

ASKED = "search.proxy.inherit=true"
EPOCHS = 2  # of a proxy that inherits; others have 3
TRIALS = 12
# On a part of the images, so that what a kill costs is seen of that too.
KEYS = (
    "search.proxy.images=200",
    *(f"search.trials={TRIALS}", "search.early_stopping=true"),
    *("family.size=1", "family.finalists=1", "family.training.epochs=4"),
)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny(tmp_path)


# -- which one --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    """A trained candidate."""
    requirements = load_requirements(write_tiny(tmp_path_factory.mktemp("some")))
    return candidate(requirements, 0, outcome="trained", accuracy=0.5)


def test_parameters_that_one_alone_has_count() -> None:
    assert changes({"a": 1, "b": 2}, {"b": 2, "a": 1}) == 0
    assert changes({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == 2
    assert changes({"a": 1, "b": 2}, {}) == 2


def test_the_nearest_is_taken_then_the_best_then_the_first(some: Candidate, tmp_path: Path) -> None:
    weights = ProxyWeights(tmp_path / WEIGHTS)
    asked = dict.fromkeys("abcdefgh", 0)
    # The file is one for all: they have the same network.
    weights.keep(some, b"weights")

    def trained(number: int, params: dict[str, Any], accuracy: float) -> Candidate:
        return replace(some, number=number, index=number, params=params, accuracy=accuracy)

    def parent(*candidates: Candidate) -> int | None:
        found = weights.parent_of(asked, candidates)
        return None if found is None else found.number

    far = trained(1, {**asked, **dict.fromkeys("abcde", 1)}, 0.9)
    limit = trained(2, {**asked, **dict.fromkeys("abcd", 1)}, 0.3)
    near = trained(3, {**asked, "a": 1}, 0.5)
    better = trained(4, {**asked, "h": 5}, 0.6)
    equal = trained(5, {**asked, "g": 5}, 0.6)
    assert MOST_CHANGES == 4
    assert parent() is parent(far) is None
    assert parent(far, limit) == 2
    assert parent(far, limit, near) == 3
    assert parent(near, better, limit) == parent(limit, better, near) == 4
    assert parent(equal, better, near) == 4
    # Only what was trained to its end, from nothing.
    for other in (
        replace(better, outcome="running", accuracy=None),
        replace(better, outcome="stopped", accuracy=None, expected=0.9),
        replace(better, outcome="failed", accuracy=None),
        replace(better, parent=1),
    ):
        assert parent(other, near) == 3
    # Whose weights are there.
    assert ProxyWeights(tmp_path / "none").parent_of(asked, [near]) is None


def test_weights_are_whole_or_named(some: Candidate, tmp_path: Path) -> None:
    weights = ProxyWeights(tmp_path / WEIGHTS)
    assert weights.of(some) is None
    whole = weights_bytes(build_network(some.architecture))
    weights.keep(some, whole)
    assert weights.of(some) == whole
    weights.keep(some, whole[:-100])
    file = tmp_path / WEIGHTS / f"{some.architecture.id}.pt"
    with pytest.raises(InputError, match="must hold the weights of candidate -1") as caught:
        weights.of(some)
    assert str(file) in str(caught.value) and "remove it" in str(caught.value)


# -- what becomes of it -----------------------------------------------------------------------


def parents(run_dir: Path) -> dict[str, str | None]:
    """The network that each network began with."""
    found = {each.number: each for each in read_record(run_dir).finished}
    return {
        each.architecture.id: None if each.parent is None else found[each.parent].architecture.id
        for each in found.values()
    }


def words(folder: Path, *more: str) -> list[str]:
    keys = (ASKED, f"search.proxy.inherit_epochs={EPOCHS}", *KEYS, *more)
    return search_words(folder, *(word for key in keys for word in ("--set", key)))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    write_tiny(folder)
    code, said = run(words(folder), folder)
    assert code in (0, 4), said
    return folder


def test_a_search_with_it(searched: Path) -> None:
    record = read_record(searched / "run")
    found = {each.number: each for each in record.finished}
    children = [each for each in found.values() if each.parent is not None]
    assert len(found) == TRIALS and len(children) >= 2
    assert found[0].parent is None
    for each in children:
        parent = found[each.parent or 0]
        assert parent.parent is None and parent.outcome == "trained"
        assert parent.index < each.index
        assert changes(each.params, parent.params) <= MOST_CHANGES
        assert len(each.curve) == EPOCHS and each.outcome == "trained"
    from_nothing = {each.architecture.id for each in found.values() if each.parent is None}
    kept = {path.stem for path in (searched / "run" / WEIGHTS).iterdir()}
    assert kept == {
        name for name in from_nothing if outcomes(searched / "run")[name][2] == "trained"
    }
    assert all(len(each.curve) == 3 for each in record.trained if each.parent is None)
    log = (searched / "run" / "search.log").read_text()
    assert f"begun with the weights of {children[0].parent}" in log
    code, said = run(["show", str(searched / "run"), str(children[0].number)], searched)
    assert code == 0
    assert f"began with the weights of: candidate {children[0].parent}" in said


def test_what_it_trains_can_be_made_again_anywhere(searched: Path, tmp_path: Path) -> None:
    """From the record and the kept weights, in this process and in another."""
    requirements = load_requirements(searched / "run" / "requirements.yaml")
    found = {each.number: each for each in read_record(searched / "run").finished}
    child = next(each for each in found.values() if each.parent is not None)
    parent = found[child.parent or 0]
    weights = (searched / "run" / WEIGHTS / f"{parent.architecture.id}.pt").read_bytes()
    recipe = requirements.search.proxy.model_copy(update={"epochs": EPOCHS})
    network, data = child.architecture, load_data(requirements.data)
    start, seed = Start(parent.architecture, weights), seed_of(network.id, requirements.search.seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    executors = (
        InlineExecutor(data, torch.device("cpu"), tmp_path / "faults"),
        ProcessExecutor(data, ["cpu"], 1, tmp_path),
    )
    for executor in executors:
        for begins in (start, None):
            executor.submit(Task("one", network, recipe, seed, start=begins))
            curve = []
            while not isinstance(event := executor.wait(60), Trained):
                assert isinstance(event, PassEnded)
                curve.append((event.record.epoch, event.record.loss, event.record.accuracy))
            assert (curve == [tuple(point) for point in child.curve]) == (begins is start)
        executor.close()
    torch.set_num_threads(threads)


def test_killed_and_continued_it_finds_the_same(searched: Path, tiny: Path) -> None:
    run_dir = tiny.parent / "run"
    children = [name for name, parent in parents(searched / "run").items() if parent]
    process = begin(words(tiny.parent), tiny.parent)
    # Within the training of one that begins with another's weights, or just after it.
    before = list(parents(searched / "run")).index(children[0])
    assert wait_until(lambda: len(outcomes(run_dir)) >= before, process)
    kill(process)
    assert len(outcomes(run_dir)) < TRIALS
    code, said = run(words(tiny.parent), tiny.parent)
    assert code in (0, 4), said
    assert outcomes(run_dir) == outcomes(searched / "run")
    assert parents(run_dir) == parents(searched / "run")


def test_without_it_nothing_is_kept(finished: Path) -> None:
    record = read_record(finished / "run")
    assert all(each.parent is None for each in record.candidates)
    assert not (finished / "run" / WEIGHTS).exists()


def test_removed_weights_are_missed_by_nobody(searched: Path, tmp_path: Path) -> None:
    """A candidate whose parent's weights are gone begins as usual."""
    shutil.copytree(searched, tmp_path / "copy")
    folder = tmp_path / "copy"
    before = len(read_record(folder / "run").finished)
    shutil.rmtree(folder / "run" / WEIGHTS)
    code, said = run(words(folder, f"search.trials={TRIALS + 2}"), folder)
    assert code in (0, 4), said
    found = read_record(folder / "run").finished
    assert len(found) == before + 2
    known = {each.number: each for each in found}
    for each in found[before:]:
        assert each.parent is None or known[each.parent].index >= before


# -- what is told and held apart --------------------------------------------------------------


def test_it_is_off_unless_asked_for(tiny: Path) -> None:
    proxy = load_requirements(tiny).search.proxy
    assert (proxy.inherit, proxy.inherit_epochs) == (False, 2)
    for epochs, code in ((2, 0), (3, 2)):
        keys = (ASKED, f"search.proxy.inherit_epochs={epochs}")
        if code == 0:
            recipe = load_requirements(tiny, keys).search.proxy
            assert plan_training(400, recipe).epochs == 3
            continue
        with pytest.raises(InputError) as caught:
            load_requirements(tiny, keys)
        rule = "search.proxy.inherit_epochs must be fewer than the 3 of search.proxy.epochs, got 3"
        assert rule in str(caught.value)


def test_a_calibration_is_of_proxies_from_nothing(tiny: Path) -> None:
    plain, asked = load_requirements(tiny), load_requirements(tiny, (ASKED,))
    assert CalibrationFile(plain, "images").changes(asked, "images") == []
    sure, networks = Estimate(0.9, 0.5, 1.0), range(1, 6)
    points = tuple(Point(str(number), 1, number / 10, number / 10) for number in networks)
    found = Calibration(points, 0, 3, 3, 2, 12, 1, sure, sure, 0.01, (), 1.0)
    assert proxy_goal(plain, found) == pytest.approx(0.2)  # as the file asks
    assert proxy_goal(asked, found) is None


def test_saved_epochs_do_not_count_those_of_short_ones(some: Candidate) -> None:
    curve = (1, 1.0, 0.5)
    whole = replace(some, curve=(curve,) * 3)
    short = replace(some, curve=(curve,) * 2, parent=0)
    stopped = replace(some, curve=(curve,), outcome="stopped", accuracy=None)
    record = Record({"data": {"proxy_epochs": 3}}, (whole, short, stopped), 0)
    assert record.epochs_saved == pytest.approx(2 / (3 + 2 + 3))
