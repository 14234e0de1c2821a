"""Recipes: the two tables agree, and each part of a row does what it says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from requirements_files import REQUIREMENTS, write_example
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from collabdesign.design import recipes
from collabdesign.design.files.reading import load_requirements
from collabdesign.design.requirements import Data, Training
from collabdesign.evaluate.accuracy import evaluate
from collabdesign.evaluate.data.images import ImageData, load_data
from collabdesign.evaluate.identity import identity_of
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.plan import plan_training
from collabdesign.evaluate.recipe import RECIPES, Recipe, last_passes, one_cycle, only_mirrored
from collabdesign.evaluate.training import passes

CPU = torch.device("cpu")
SGD = RECIPES["sgd"]


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data(Data(source="digits", train_images=600))


@pytest.fixture
def mine() -> Iterator[Training]:
    """A short training by the recipe ``mine``, which a test puts into the tables."""
    recipes.RECIPES["mine"] = recipes.RecipeFacts("For a test", 0.05)
    RECIPES["mine"] = SGD
    yield Training(recipe="mine", epochs=3, min_steps=1)
    del recipes.RECIPES["mine"], RECIPES["mine"]


def network_of(seed: int = 0) -> nn.Module:
    network = nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(216, 10),
    )
    initialise(network, seed)
    return network


def weights_of(network: nn.Module) -> torch.Tensor:
    return torch.cat([tensor.flatten().float() for tensor in network.state_dict().values()])


def test_the_tables_have_the_same_recipes_and_the_first_is_the_default() -> None:
    assert list(recipes.RECIPES) == list(RECIPES)
    assert Training().recipe == next(iter(RECIPES)) == "muon"
    assert all(row.help and row.learning_rate > 0 for row in recipes.RECIPES.values())


def test_proxy_and_full_training_may_have_recipes_of_their_own(
    tmp_path: Path, mine: Training
) -> None:
    write_example(tmp_path)
    (tmp_path / "mine.yaml").write_text(REQUIREMENTS + "search: {proxy: {recipe: mine}}\n")
    read = load_requirements(tmp_path / "mine.yaml")
    assert (read.search.proxy.recipe, read.family.training.recipe) == ("mine", "muon")
    again = load_requirements(tmp_path / "mine.yaml", ["family.training.recipe=mine"])
    assert read.changes(again) == ["family.training.recipe: muon -> mine"]


def test_the_learning_rate_of_a_recipe_is_used_where_none_is_written(mine: Training) -> None:
    recipes.RECIPES["mine"] = recipes.RecipeFacts("For a test", 0.002)
    assert plan_training(6400, mine).learning_rate == pytest.approx(0.002 * 8)
    written = mine.model_copy(update={"learning_rate": 0.3})
    assert plan_training(6400, written).learning_rate == 0.3


def test_one_cycle_rises_for_a_fifth_and_falls_to_zero() -> None:
    shares = [one_cycle(progress) for progress in (0, 0.1, 0.2, 0.6, 1)]
    assert shares == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_optimizer_and_schedule_are_the_recipe_s(digits: ImageData, mine: Training) -> None:
    rates: list[float] = []

    class Counting(torch.optim.SGD):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            rates.append(self.param_groups[0]["lr"])

    RECIPES["mine"] = replace(
        SGD,
        optimizer=lambda network, written, rate: Counting(network.parameters(), rate),
        schedule=lambda progress: 1 - progress,
    )
    network = network_of()
    before = weights_of(network)[:54]
    list(passes(network, digits, mine, seed=0, device=CPU))
    plan = plan_training(len(digits.train_labels), mine)
    expected = [plan.learning_rate * (1 - (step + 0.5) / plan.steps) for step in range(plan.steps)]
    assert rates == pytest.approx(expected)
    assert torch.equal(weights_of(network)[:54], before)  # This optimizer changes nothing.


def test_augmentation_is_the_recipe_s(digits: ImageData, mine: Training) -> None:
    def dark(data: ImageData, chosen: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.zeros_like(data.train_images[chosen])

    RECIPES["mine"] = replace(SGD, augment=dark)
    *_, last = passes(network_of(), digits, mine, seed=0, device=CPU)
    # Of pictures that are all the same nothing can be told apart.
    assert last.record.loss > 2.2


def test_an_average_of_the_weights_is_what_is_evaluated_and_delivered(
    digits: ImageData, mine: Training
) -> None:
    averages: list[AveragedModel] = []

    def averaged(network: nn.Module) -> AveragedModel:
        averages.append(
            AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        )
        return averages[-1]

    RECIPES["mine"] = replace(SGD, average=averaged)
    network, plain = network_of(), network_of()
    list(passes(plain, digits, Training(recipe="sgd", epochs=3, min_steps=1), seed=0, device=CPU))
    made = list(passes(network, digits, mine, seed=0, device=CPU, keep=True))
    plan = plan_training(len(digits.train_labels), mine)
    assert int(averages[0].n_averaged) == plan.steps
    assert torch.equal(weights_of(network), weights_of(averages[0].module))
    assert not torch.equal(weights_of(network), weights_of(plain))
    assert not network.training
    accuracy = evaluate(
        network, digits.select_images, digits.select_labels, mean=digits.mean, std=digits.std
    )
    assert accuracy == made[-1].record.accuracy
    for kept in made:
        again = network_of()
        list(passes(again, digits, mine, seed=0, device=CPU, resume=kept.checkpoint))
        assert torch.equal(weights_of(again), weights_of(network))


def test_a_teacher_is_shown_the_same_pictures_and_not_changed(
    digits: ImageData, mine: Training
) -> None:
    teacher = network_of(seed=5)
    before = weights_of(teacher).clone()

    def of_the_teacher(
        logits: torch.Tensor, labels: torch.Tensor, told: torch.Tensor | None, written: Training
    ) -> torch.Tensor:
        assert told is not None and not told.requires_grad and not teacher.training
        return F.mse_loss(logits, told, reduction="sum")

    RECIPES["mine"] = replace(SGD, teacher=lambda data, device: teacher, loss=of_the_teacher)
    longer = mine.model_copy(update={"epochs": 6, "learning_rate": 0.01})
    first, *_, last = passes(network_of(), digits, longer, seed=0, device=CPU)
    # Only with the very pictures that the student saw can it come to say the same.
    assert last.record.loss < 0.2 * first.record.loss
    assert torch.equal(weights_of(teacher), before)


def one(value: float) -> float:
    return value


def another(value: float) -> float:
    return value


def scaled(value: float, *, by: float) -> float:
    return by * value


def test_what_stands_in_the_row_is_in_the_identity(digits: ImageData, mine: Training) -> None:
    def identity(row: Recipe) -> str:
        RECIPES["mine"] = row
        plan = plan_training(len(digits.train_labels), mine)
        return identity_of(network_of(), digits, mine, plan, 0)

    rows = [
        replace(SGD, schedule=schedule)
        for schedule in (one, another, partial(scaled, by=1), partial(scaled, by=2))
    ]
    assert len({identity(row) for row in rows}) == 4
    assert identity(rows[3]) == identity(replace(SGD, schedule=partial(scaled, by=2)))


def test_the_last_passes_may_be_shown_other_pictures(digits: ImageData, mine: Training) -> None:
    shown: list[str] = []

    def early(data: ImageData, chosen: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        shown.append("early")
        return data.train_images[chosen].float()

    def late(data: ImageData, chosen: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        shown.append("late")
        return data.train_images[chosen].float()

    RECIPES["mine"] = replace(SGD, augment=early, last_augment=late)
    RECIPES["mine"] = replace(SGD, augment=early, last_augment=late)
    asked = mine.model_copy(update={"epochs": 9})
    steps = plan_training(len(digits.train_labels), asked).steps_per_epoch
    made = list(passes(network_of(), digits, asked, seed=0, device=CPU, keep=True))
    assert shown == ["early"] * 7 * steps + ["late"] * 2 * steps
    # Also where it was cut off within the last passes.
    shown.clear()
    resume = made[7].checkpoint
    list(passes(network_of(), digits, asked, seed=0, device=CPU, resume=resume))
    assert shown == ["late"] * steps
    assert [last_passes(epochs) for epochs in (1, 3, 6, 12, 60)] == [0, 0, 1, 2, 10]


@pytest.mark.parametrize("augment", ["none", "shift", "crop"])
def test_whole_pictures_only_mirrored(digits: ImageData, augment: str) -> None:
    images = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).repeat(40, 1, 1, 1)
    side = 7 if augment == "crop" else 8
    data = replace(digits, train_images=images, augment=augment, flip=True, resolution=side)
    chosen = torch.arange(40)
    found = only_mirrored(data, chosen, torch.Generator().manual_seed(0)).float()
    assert found.shape == (40, 1, side, side)
    kinds = {tuple(each.flatten().tolist()) for each in found}
    whole = found[0] if augment == "none" else None
    if whole is not None:
        assert kinds == {tuple(images[0].float().flatten().tolist())}
        return
    # The picture and its mirror image, and nothing else.
    assert len(kinds) == 2
    one, other = (torch.tensor(each).view(side, side) for each in kinds)
    assert torch.allclose(one, other.flip(1), atol=1e-4)
    assert one.mean() == pytest.approx(31.5, abs=0.1)
