"""Proxies on a part of the train part: which images, what is refused, and what stays whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_search import (
    FAMILY_EPOCHS,
    TRIALS,
    certificates,
    run,
    search_words,
    write_tiny,
)

from collabdesign.design.files.reading import load_requirements
from collabdesign.design.requirements import ProxyTraining, Training
from collabdesign.design.space import DesignSpace
from collabdesign.errors import InputError
from collabdesign.evaluate.data.images import ImageData, load_data
from collabdesign.evaluate.data.split import proxy_part
from collabdesign.evaluate.identity import identity_of
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.network import build_network
from collabdesign.evaluate.plan import is_shorter, plan_training, trained_images
from collabdesign.evaluate.recipe import RECIPES
from collabdesign.evaluate.training import EpochRecord, passes
from collabdesign.explore.begin import prepare
from collabdesign.explore.calibrate import compare
from collabdesign.explore.calibration import CalibrationFile
from collabdesign.explore.calibration import Trained as Ended
from collabdesign.explore.calibration_plan import plan_trainings, spread_networks
from collabdesign.explore.check import check
from collabdesign.explore.executors.executor import Executor, PassEnded, Task, Trained
from collabdesign.explore.executors.inline import InlineExecutor
from collabdesign.explore.executors.processes import ProcessExecutor
from collabdesign.explore.study import read_record

CPU = torch.device("cpu")
ALL = 400  # of the tiny digits, after a fifth of 500 is held out
PART = 100
ASKED = f"search.proxy.images={PART}"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def digits(tiny: Path) -> ImageData:
    return load_data(load_requirements(tiny).data)


# -- which images -----------------------------------------------------------------------------


@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=6),
    share=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_the_part_is_fixed_and_balanced(counts: list[int], share: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    np.random.default_rng(seed).shuffle(labels)
    count = round(len(counts) + share * (sum(counts) - len(counts)))
    part = proxy_part(labels, count, len(counts))
    assert len(part) == len(set(part.tolist())) == count
    assert (np.diff(part) > 0).all()
    assert np.array_equal(part, proxy_part(labels, count, len(counts)))
    drawn = np.bincount(labels[part], minlength=len(counts))
    for mine, size in zip(drawn.tolist(), counts, strict=True):
        assert 1 <= mine <= size
    # In proportion, but for what the rare classes, with one image at least, take from the others.
    for one, first in zip(drawn, counts, strict=True):
        for other, second in zip(drawn, counts, strict=True):
            assert first < second or one >= other - 1 or other == 1


def test_half_of_each_class() -> None:
    labels = np.tile(np.arange(3), 8)
    part = proxy_part(labels, 12, 3)
    assert np.bincount(labels[part]).tolist() == [4, 4, 4]
    assert proxy_part(labels, 24, 3).tolist() == list(range(24))


def test_the_part_of_the_digits_stays_as_it_is(digits: ImageData) -> None:
    """A promise to searches that were started before: it changes with no release."""
    part = proxy_part(digits.train_labels.numpy(), PART, 10)
    assert hashlib.sha256(str(part.tolist()).encode()).hexdigest()[:12] == PART_OF_DIGITS


PART_OF_DIGITS = "0b65d81a9fe4"


def part_asked(images: int | None, epochs: int = 2) -> ProxyTraining:
    return ProxyTraining(images=images, epochs=epochs, batch=32, min_steps=0)


def test_plans_count_the_part() -> None:
    plan = plan_training(ALL, part_asked(PART))
    assert (plan.batch, plan.steps_per_epoch, plan.epochs) == (32, 3, 2)  # 100 = 3 * 32 + 4
    assert plan_training(ALL, part_asked(None)).steps_per_epoch == 12
    assert trained_images(ALL, part_asked(PART)) == PART
    assert trained_images(ALL, part_asked(None)) == trained_images(ALL, Training()) == ALL


def test_a_part_makes_a_proxy_shorter() -> None:
    full = Training(epochs=2, batch=32, min_steps=0)
    assert not is_shorter(part_asked(None), full, ALL)
    assert is_shorter(part_asked(PART), full, ALL)
    assert not is_shorter(part_asked(PART, epochs=8), full, ALL)  # 8 * 100 = 2 * 400


def test_proxies_see_these_images_and_no_others(
    digits: ImageData, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    row = RECIPES["muon"]

    def augment(data: ImageData, chosen: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        seen.extend(chosen.tolist())
        return row.augment(data, chosen, generator)

    monkeypatch.setitem(RECIPES, "muon", replace(row, augment=augment))
    part = set(proxy_part(digits.train_labels.numpy(), PART, 10).tolist())
    for seed in (0, 1):
        seen.clear()
        train(digits, tiny, part_asked(PART), seed)
        assert len(seen) == 2 * 96
        assert set(seen) <= part
        assert len(set(seen[:96])) == 96  # none twice in a pass
        assert seen[:96] != seen[96:]


def train(
    data: ImageData, tiny: Path, recipe: Training, seed: int = 0
) -> tuple[torch.nn.Module, list[EpochRecord]]:
    space = DesignSpace(load_requirements(tiny))
    network = build_network(space.decode(space.own()))
    initialise(network, seed)
    made = passes(network, data, recipe, seed=seed, device=CPU)
    return network, [replace(each.record, seconds=0) for each in made]


def test_all_asked_for_is_all(digits: ImageData, tiny: Path) -> None:
    one, first = train(digits, tiny, part_asked(None))
    other, second = train(digits, tiny, part_asked(ALL))
    assert first == second
    for mine, theirs in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    _, third = train(digits, tiny, part_asked(PART))
    assert third != first


def test_the_part_is_in_the_identity(digits: ImageData, tiny: Path) -> None:
    space = DesignSpace(load_requirements(tiny))
    network = build_network(space.decode(space.own()))

    def identity(images: int | None) -> str:
        recipe = part_asked(images)
        return identity_of(network, digits, recipe, plan_training(ALL, recipe), 0)

    # 100 and 101 make the same plan.
    assert plan_training(ALL, part_asked(100)) == plan_training(ALL, part_asked(101))
    assert len({identity(images) for images in (None, 100, 101, 200)}) == 4


# -- where it trains --------------------------------------------------------------------------


def events(executor: Executor, task: Task) -> tuple[list[EpochRecord], bytes | None]:
    executor.submit(task)
    curve = []
    while True:
        match executor.wait(60):
            case PassEnded() as event:
                curve.append(replace(event.record, seconds=0))
            case Trained() as event:
                return curve, event.weights
            case other:
                raise AssertionError(other)


@pytest.fixture(scope="module")
def executors(
    digits: ImageData, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Executor]]:
    folder = tmp_path_factory.mktemp("executors")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    made: list[Executor] = [
        InlineExecutor(digits, CPU, folder / "faults"),
        ProcessExecutor(digits, ["cpu"], 1, folder),
    ]
    yield made
    for each in made:
        each.close()
    torch.set_num_threads(threads)


def test_processes_train_on_the_same_part(tiny: Path, executors: list[Executor]) -> None:
    space = DesignSpace(load_requirements(tiny))
    task = Task("one", space.decode(space.own()), part_asked(PART), seed=3)
    inline, processes = (events(each, task) for each in executors)
    assert inline == processes
    assert len(inline[0]) == 2


def test_full_trainings_are_the_same_bit_for_bit(tiny: Path, executors: list[Executor]) -> None:
    def full(*overrides: str) -> tuple[list[EpochRecord], bytes | None]:
        requirements = load_requirements(tiny, overrides)
        space = DesignSpace(requirements)
        network, recipe = space.decode(space.own()), requirements.family.training
        return events(executors[0], Task("full", network, recipe, seed=3, keeps=True))

    with_part, without = full(ASKED), full()
    assert with_part == without
    assert len(without[0]) == FAMILY_EPOCHS and without[1] is not None


# -- what a person is told --------------------------------------------------------------------


def test_more_than_there_are_is_refused(tiny: Path, tmp_path: Path) -> None:
    rule = "search.proxy.images must be at most the 400 images of the train part, got 1,000"
    requirements = load_requirements(tiny, ("search.proxy.images=1k",))
    with pytest.raises(InputError, match=rule):
        prepare(requirements, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match=rule):
        check(requirements, device="cpu")


def test_fewer_than_the_classes_are_refused_at_their_place(tmp_path: Path) -> None:
    file = write_tiny(tmp_path, ("min_steps: 0}}\nfam", "min_steps: 0, images: 9}}\nfam"))
    with pytest.raises(InputError) as caught:
        load_requirements(file)
    (problem,) = caught.value.problems
    rule = "search.proxy.images must be at least 1 of each of 10 classes, got 9"
    assert (problem.line, problem.message) == (8, rule)
    assert load_requirements(file, ("search.proxy.images=10",)).search.proxy.images == 10


def test_check_says_the_time_of_such_a_proxy(tiny: Path) -> None:
    found = check(load_requirements(tiny, (ASKED,)), device="cpu").time
    assert found is not None
    middle = found.images_per_second[1]
    assert found.proxy_seconds == pytest.approx(3 * 3 * 32 / middle)  # 3 steps a pass
    assert found.search_seconds[1] == pytest.approx(TRIALS * 3 * 3 * 32 / middle)
    assert found.family_seconds == pytest.approx((3 + 3 + 4) * FAMILY_EPOCHS * 12 * 32 / middle)
    code, said = run(["check", str(tiny), "--threads", "1", "--set", ASKED], tiny.parent)
    assert code == 0
    assert "proxies learn from 100 of the 400 (25 %), the same for each" in said


def test_calibrate_trains_proxies_on_the_part(tiny: Path) -> None:
    requirements = load_requirements(tiny, (ASKED, "search.proxy.epochs=12"))
    networks = spread_networks(DesignSpace(requirements), requirements, 4)
    # As many epochs as the full training, and yet shorter.
    for each in plan_trainings(networks, requirements, ALL):
        steps = 12 if each.key.kind == "full" else 3
        assert each.images == each.key.epochs * steps * 32
        is_part = isinstance(each.task.recipe, ProxyTraining) and each.task.recipe.images == PART
        assert is_part == (each.key.kind == "proxy")
    longer = load_requirements(tiny, (ASKED, "search.proxy.epochs=48"))
    with pytest.raises(
        InputError, match=r"48 epochs on 100 images and family\.training of 12 on 400"
    ):
        plan_trainings(networks, longer, ALL)


def test_a_calibration_says_on_how_many(tiny: Path) -> None:
    for keys, words, longer in (
        ((ASKED,), "3 epochs on 100 images", "search.proxy.epochs or search.proxy.images. Or"),
        ((), "3 epochs", "search.proxy.epochs. Or"),
    ):
        requirements = load_requirements(tiny, keys)
        networks = spread_networks(DesignSpace(requirements), requirements, 4)
        plan = plan_trainings(networks, requirements, ALL)
        found = compare(plan, {each.key: Ended(each.key, 0.5, 1.0) for each in plan}, requirements)
        assert found.proxy_words == words
        assert f"raise {longer}" in found.why_none


def test_a_calibration_is_of_one_part(tiny: Path) -> None:
    plain, asked = load_requirements(tiny), load_requirements(tiny, (ASKED,))
    assert CalibrationFile(plain, "images").changes(asked, "images") == [
        "search.proxy.images: not set -> 100"
    ]
    assert CalibrationFile(asked, "images").changes(asked, "images") == []


# -- a search ---------------------------------------------------------------------------------


def test_a_search_with_a_part(tmp_path: Path) -> None:
    """The family is trained on all images; another part is another search."""
    write_tiny(tmp_path)
    more = ("--set", ASKED, "--set", "search.trials=3", "--set", "family.size=1")
    more += ("--set", "family.finalists=1", "--set", "family.training.epochs=4")
    code, said = run(search_words(tmp_path, *more), tmp_path)
    assert code in (0, 4), said
    found = read_record(tmp_path / "run").attributes["data"]
    assert (found["train_images"], found["proxy_images"]) == (ALL, PART)
    (certificate,) = certificates(tmp_path / "run").values()
    assert certificate["data"]["train_images"] == ALL
    code, said = run(search_words(tmp_path, *more, "--set", "search.proxy.images=200"), tmp_path)
    assert code == 2
    assert "search.proxy.images: 100 -> 200" in said
