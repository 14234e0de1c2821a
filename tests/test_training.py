"""Small real trainings: seeds, resuming, failures, and how good they are on the digits."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import weakref
from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from torch import nn

from collabdesign.design import recipes
from collabdesign.design.architecture import Architecture, Branch, Head, Layer, Module, Stem
from collabdesign.design.requirements import Data, FamilyTraining, Training
from collabdesign.errors import InputError, TrainingFailed
from collabdesign.evaluate.accuracy import evaluate
from collabdesign.evaluate.data.images import ImageData, load_data, load_test
from collabdesign.evaluate.device import choose_device
from collabdesign.evaluate.identity import identity_of
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.network import build_network
from collabdesign.evaluate.plan import plan_training
from collabdesign.evaluate.recipe import RECIPES
from collabdesign.evaluate.seeds import seed_of
from collabdesign.evaluate.training import EpochRecord, Pass, passes

CPU = torch.device("cpu")
SHORT = Training(epochs=3, min_steps=1)
DIGITS = Data(source="digits", resolution=8, channels=1, classes=10)


def small_architecture() -> Architecture:
    """Two residual modules for digits."""

    def module(stage: int, channels: int) -> Module:
        layers = (Layer("conv", 3, 2, 1, channels), Layer("conv", 3, 1, 1, channels))
        return Module(
            stage, 2, channels, "projection", "add", "none", "relu", "activated", (Branch(layers),)
        )

    return Architecture(1, 8, 10, Stem(3, 1, 16), (module(0, 24), module(1, 32)), Head(0))


def small_network(seed: int = 0) -> nn.Module:
    network = build_network(small_architecture())
    initialise(network, seed)
    return network


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data(DIGITS)


def train(
    network: nn.Module, data: ImageData, recipe: Training = SHORT, *, seed: int = 0
) -> list[EpochRecord]:
    """All passes at once."""
    return [each.record for each in passes(network, data, recipe, seed=seed, device=CPU)]


def trained(
    data: ImageData, recipe: Training = SHORT, *, seed: int = 0
) -> tuple[nn.Module, list[EpochRecord]]:
    network = small_network(seed)
    return network, train(network, data, recipe, seed=seed)


def curve_of(records: Iterable[EpochRecord]) -> list[tuple[int, float, float]]:
    """The curve without its seconds."""
    return [(record.epoch, record.loss, record.accuracy) for record in records]


def told(made: Iterable[Pass]) -> list[tuple[int, float, float]]:
    return curve_of(each.record for each in made)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(
        torch.equal(mine[name], theirs[name]) for name in mine
    )


# The plan


@pytest.mark.parametrize(
    ("images", "epochs", "min_steps", "batch", "passes"),
    [
        (8000, 6, 150, 64, 6),  # 125 * 6 = 750 steps
        (1150, 6, 150, 32, 6),  # 17 * 6 = 102 at 64, 35 * 6 = 210 at 32
        (1150, 6, 500, 16, 8),  # 71 * 6 = 426 at 16: 8 passes make 568
        (20, 1, 150, 16, 150),  # one step a pass
        (5, 1, 7, 5, 7),  # fewer images than the smallest batch
        (100, 3, 0, 64, 3),
    ],
)
def test_batch_and_passes_make_the_steps(
    images: int, epochs: int, min_steps: int, batch: int, passes: int
) -> None:
    plan = plan_training(images, Training(epochs=epochs, min_steps=min_steps))
    assert (plan.batch, plan.epochs) == (batch, passes)
    assert plan.steps == passes * (images // batch) >= min_steps


def test_what_the_recipe_names_is_kept() -> None:
    plan = plan_training(1000, Training(epochs=2, batch=50, learning_rate=0.7, min_steps=1))
    assert (plan.batch, plan.epochs, plan.steps_per_epoch, plan.learning_rate) == (50, 2, 20, 0.7)


def test_learning_rate_goes_with_the_square_root_of_the_batch() -> None:
    rates = [plan_training(1000, Training(batch=batch)).learning_rate for batch in (16, 64, 256)]
    assert rates == pytest.approx([0.2, 0.4, 0.8])


# Seeds


def test_same_seed_same_weights_and_curve(digits: ImageData) -> None:
    torch.manual_seed(1)
    one, first = trained(digits)
    torch.manual_seed(2)
    other, second = trained(digits)
    assert same_weights(one, other)
    assert curve_of(first) == curve_of(second)


def test_another_seed_is_another_training(digits: ImageData) -> None:
    start = small_network()
    results = []
    for seed in (0, 1):
        network = small_network()
        assert same_weights(network, start)
        results.append(train(network, digits, seed=seed))
    assert curve_of(results[0]) != curve_of(results[1])


def test_training_leaves_the_global_generator_alone(digits: ImageData) -> None:
    network = small_network()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    initialise(network, 0)
    train(network, digits, Training(epochs=1, min_steps=1))
    assert torch.equal(torch.rand(2), expected)


def test_dropout_is_seeded_too(digits: ImageData) -> None:
    def run() -> nn.Module:
        network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
        initialise(network, 0)
        train(network, digits, seed=4)
        return network

    assert same_weights(run(), run())


def test_seed_of_depends_on_both() -> None:
    seeds = {seed_of(architecture, seed) for architecture in ("a1", "a") for seed in (0, 1, 11)}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of("0123456789ab", 7) == seed_of("0123456789ab", 7)


def test_initialise_draws_everything_from_the_seed() -> None:
    network = small_network(5)
    for tensor in network.state_dict().values():
        tensor.fill_(9)
    initialise(network, 5)
    assert same_weights(network, small_network(5))
    assert not same_weights(network, small_network(6))


def test_initialise_has_the_stated_spread() -> None:
    conv, grouped = nn.Conv2d(64, 128, 3), nn.Conv2d(512, 512, 3, groups=512)
    linear, norm = nn.Linear(512, 512), nn.BatchNorm2d(4)
    network = nn.Sequential(conv, grouped, linear, norm)
    nn.init.constant_(norm.weight, 5)
    initialise(network, 0)
    assert conv.weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    assert grouped.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.05)
    assert linear.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert conv.bias is not None and not conv.bias.any()
    assert norm.weight.tolist() == [1] * 4


# Resuming


def checkpoints(data: ImageData, recipe: Training = SHORT, *, seed: int = 0) -> list[bytes]:
    """What is kept after each pass of a training."""
    made = list(passes(small_network(seed), data, recipe, seed=seed, device=CPU, keep=True))
    return [each.checkpoint for each in made if each.checkpoint is not None]


@pytest.mark.parametrize("last", [1, 2, 3])
def test_interrupted_and_resumed_equals_uninterrupted(digits: ImageData, last: int) -> None:
    whole, expected = trained(digits)
    made = passes(small_network(), digits, SHORT, seed=0, device=CPU, keep=True)
    resume = [next(made).checkpoint for _ in range(last)][-1]
    made.close()
    network = small_network()
    again = list(passes(network, digits, SHORT, seed=0, device=CPU, resume=resume, keep=True))
    assert told(again) == curve_of(expected)
    # What was made before is told again, without a checkpoint.
    assert [each.record.epoch for each in again if each.checkpoint is None] == [*range(1, last + 1)]
    assert same_weights(network, whole)
    assert not network.training


def test_interruption_inside_a_pass_costs_that_pass(digits: ImageData) -> None:
    whole, expected = trained(digits)
    network = small_network()
    calls = 0

    def stop(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 25:  # Pass 1 is 17 steps and one evaluation: this is within pass 2.
            raise KeyboardInterrupt

    hook = network.register_forward_hook(stop)
    kept = []
    with pytest.raises(KeyboardInterrupt):
        for done in passes(network, digits, SHORT, seed=0, device=CPU, keep=True):
            kept.append(done.checkpoint)
    hook.remove()
    assert len(kept) == 1
    again = small_network()
    made = list(passes(again, digits, SHORT, seed=0, device=CPU, resume=kept[0]))
    assert same_weights(again, whole)
    assert told(made) == curve_of(expected)


def test_told_to_stop_it_ends_within_the_pass(digits: ImageData) -> None:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == 20  # A pass is 17 steps.

    network = small_network()
    made = passes(network, digits, SHORT, seed=0, device=CPU, should_stop=should_stop)
    assert [each.record.epoch for each in made] == [1]
    assert asked == 20


def test_closed_early_it_leaves_nothing_behind(digits: ImageData) -> None:
    network = small_network()
    threads, randomness = torch.get_num_threads(), torch.get_rng_state()
    made = passes(network, digits, SHORT, seed=0, device=CPU)
    next(made)
    made.close()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), randomness)
    assert all(weight.grad is None for weight in network.parameters())
    assert not network.training
    assert list(made) == []


@pytest.mark.parametrize("damage", ["cut", "words", "other seed", "other recipe", "other data"])
def test_from_a_damaged_or_foreign_checkpoint_it_starts_anew(
    digits: ImageData, damage: str
) -> None:
    whole, expected = trained(digits)
    if damage == "other seed":
        resume = checkpoints(digits, seed=1)[0]
    elif damage == "other recipe":
        resume = checkpoints(digits, SHORT.model_copy(update={"weight_decay": 0.1}))[0]
    elif damage == "other data":
        resume = checkpoints(replace(digits, fingerprint="another"))[0]
    else:
        written = checkpoints(digits)[0]
        resume = written[: len(written) // 2] if damage == "cut" else b"words"
    network = small_network()
    made = list(passes(network, digits, SHORT, seed=0, device=CPU, resume=resume, keep=True))
    assert told(made) == curve_of(expected)
    assert all(each.checkpoint is not None for each in made)
    assert same_weights(network, whole)


def test_everything_that_a_training_depends_on_is_in_its_identity(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(recipes.RECIPES, "another", recipes.RECIPES["sgd"])
    monkeypatch.setitem(RECIPES, "another", RECIPES["sgd"])

    class Longer(Training):
        added: float = 1.0

    def identity(
        recipe: Training = SHORT, data: ImageData = digits, start: int = 0, seed: int = 0
    ) -> str:
        plan = plan_training(len(data.train_labels), recipe)
        return identity_of(small_network(start), data, recipe, plan, seed)

    assert identity() == identity(SHORT.model_copy())
    others = [
        *(identity(SHORT.model_copy(update={key: value})) for key, value in CHANGES.items()),
        identity(Longer(epochs=3, min_steps=1)),
        identity(Longer(epochs=3, min_steps=1, added=2.0)),
        identity(data=replace(digits, fingerprint="another")),
        identity(data=replace(digits, flip=True)),
        identity(data=replace(digits, mean=(0.1,))),
        identity(start=1),
        identity(seed=1),
    ]
    assert CHANGES.keys() == Training.model_fields.keys()
    assert len({identity(), *others}) == 1 + len(others)


def test_the_number_of_trainings_is_not_in_the_identity_of_one(digits: ImageData) -> None:
    one, three = FamilyTraining(seeds=1), FamilyTraining(seeds=3)
    plan = plan_training(len(digits.train_labels), one)
    network = small_network()
    assert identity_of(network, digits, one, plan, 0) == identity_of(
        network, digits, three, plan, 0
    )


CHANGES = {
    "recipe": "another",
    "epochs": 4,
    "batch": 32,
    "learning_rate": 0.1,
    "weight_decay": 0.0,
    "label_smoothing": 0.0,
    "min_steps": 2,
}


# Failures


def test_divergence_is_a_failed_training(digits: ImageData) -> None:
    recipe = Training(epochs=4, batch=32, learning_rate=100, weight_decay=1, min_steps=1)
    with pytest.raises(TrainingFailed, match="the loss must stay a finite number") as caught:
        trained(digits, recipe)
    assert caught.value.reason == "diverged"


def test_out_of_memory_is_a_failed_training(digits: ImageData) -> None:
    class Greedy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x.flatten(1)) + torch.empty(1 << 55).sum()  # 128 PiB

    with pytest.raises(TrainingFailed, match="batch 64") as caught:
        train(Greedy(), digits)
    assert caught.value.reason == "out_of_memory"


def test_out_of_memory_frees_the_tensors_of_the_step(digits: ImageData) -> None:
    step: list[weakref.ref[torch.Tensor]] = []

    class Greedy(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = super().forward(x.flatten(1))
            step.append(weakref.ref(logits))
            if len(step) == 2:
                torch.empty(1 << 55)  # 128 PiB
            return logits

    network = Greedy(64, 10)
    with pytest.raises(TrainingFailed) as caught:
        train(network, digits)
    assert caught.value.__context__ is None
    assert step[1]() is None
    assert all(weight.grad is None for weight in network.parameters())


def test_a_bug_in_a_network_is_not_a_failed_training(digits: ImageData) -> None:
    with pytest.raises(RuntimeError, match="shape") as caught:
        train(nn.Sequential(nn.Flatten(), nn.Linear(3, 10)), digits)
    assert not isinstance(caught.value, TrainingFailed)


# How good it is


def test_digits_are_learnt_in_seconds(digits: ImageData) -> None:
    network, curve = trained(digits, Training(epochs=30))
    test = load_test(DIGITS)
    accuracy = evaluate(network, test.images, test.labels, mean=digits.mean, std=digits.std)
    assert accuracy >= 0.965
    assert curve[-1].accuracy >= 0.965
    assert not network.training


def test_the_proxy_is_far_above_chance(digits: ImageData) -> None:
    _, curve = trained(digits, Training(epochs=6))
    assert curve[-1].accuracy >= 0.9


def test_the_augmentation_of_the_data_is_used(digits: ImageData) -> None:
    curves = [
        curve_of(trained(replace(digits, augment=augment, flip=flip))[1])
        for augment, flip in (("none", False), ("none", True), ("shift", False), ("shift", True))
    ]
    assert curves[0] == curves[1]
    assert len({tuple(curve) for curve in curves}) == 3


def test_evaluate_counts_by_arithmetic() -> None:
    class Brightest(nn.Module):
        """The logits are the channels' means: the class is the brightest channel."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3))

    images = torch.zeros(1200, 3, 2, 2, dtype=torch.uint8)
    labels = torch.arange(1200) % 3
    images[torch.arange(1200), labels] = 9
    wrong = labels.clone()
    wrong[::4] = (wrong[::4] + 1) % 3
    stats = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    assert evaluate(Brightest(), images, labels, **stats) == 1.0
    assert evaluate(Brightest(), images, wrong, **stats) == 0.75


# Devices and memory


def test_choose_device() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert choose_device().type == expected
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="the device must be"):
        choose_device(name)


@pytest.mark.skipif(
    sys.platform != "linux" or "glibc" not in platform.libc_ver(), reason="about glibc"
)
def test_kept_memory_is_not_faulted_in_again() -> None:
    script = """
import resource, torch
from collabdesign.evaluate.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        tensors = [torch.zeros(4 << 20) for _ in range(4)]  # 16 MiB each
        del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
before = faults()
keep_freed_memory()
faults()
print(before, faults())
"""
    # Where glibc starts from depends on where the heap lies: with this it hands back everything.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    before, after = map(int, done.stdout.split())
    assert before >= 10 * 4 * (16 << 20) // os.sysconf("SC_PAGE_SIZE")  # Every page, every time.
    assert after < 1_000
