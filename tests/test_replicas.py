"""One step on several threads: the gradient, the statistics, the seeds, the failures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from collabdesign.design.requirements import Data, Training
from collabdesign.errors import TrainingFailed
from collabdesign.evaluate.data.images import ImageData, load_data
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.replicas import Replicas
from collabdesign.evaluate.training import passes

CPU = torch.device("cpu")


@pytest.fixture(params=[2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """As many threads for one test."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits() -> ImageData:
    """The embedded digits."""
    return load_data(Data(source="digits", resolution=8, channels=1, classes=10))


def network_of(*, norm: bool) -> nn.Module:
    network = nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False),
        nn.BatchNorm2d(6) if norm else nn.Identity(),
        nn.Flatten(),
        nn.Linear(216, 10),
    )
    initialise(network, 0)
    return network


SIZE = 100
IMAGES = torch.randn(SIZE, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(10, (SIZE,), generator=torch.Generator().manual_seed(1))


def loss_of(network: nn.Module, chosen: torch.Tensor, _: torch.Generator) -> torch.Tensor:
    return F.cross_entropy(network(IMAGES[chosen]), LABELS[chosen], reduction="sum")


def step_of(replicas: Replicas) -> torch.Tensor:
    with replicas.training():
        generators = [torch.Generator() for _ in range(len(replicas))]
        return replicas.backward(loss_of, torch.arange(SIZE), generators)


def test_the_gradient_is_that_of_the_whole_batch(threads: int) -> None:
    network = network_of(norm=False)
    replicas = Replicas(network, SIZE, CPU)
    loss = step_of(replicas)
    assert len(replicas) == threads
    expected = F.cross_entropy(network(IMAGES), LABELS)
    wanted = torch.autograd.grad(expected, list(network.parameters()))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for weight, gradient in zip(network.parameters(), wanted, strict=True):
        assert weight.grad is not None
        torch.testing.assert_close(weight.grad, gradient)


def test_statistics_are_of_the_parts_and_joined_at_the_end(threads: int) -> None:
    network = network_of(norm=True)
    with torch.no_grad():
        before = network[0](IMAGES)  # type: ignore[index]
    replicas = Replicas(network, SIZE, CPU)
    step_of(replicas)
    parts = before.tensor_split(threads)
    mean = torch.stack([part.mean((0, 2, 3)) for part in parts]).mean(0)
    variance = torch.stack([part.var((0, 2, 3)) for part in parts]).mean(0)
    for replica in replicas.networks:
        norm = replica[1]  # type: ignore[index]
        torch.testing.assert_close(norm.running_mean, 0.1 * mean)
        torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * variance)
        assert norm.num_batches_tracked == 1


@pytest.mark.parametrize("size, parts", [(16, 1), (63, 1), (64, 2), (1000, 2)])
def test_small_batches_stay_whole(size: int, parts: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert len(Replicas(network_of(norm=True), size, CPU)) == parts
    finally:
        torch.set_num_threads(before)


def test_weights_are_shared_and_threads_given_back(threads: int) -> None:
    network = network_of(norm=True)
    replicas = Replicas(network, 96, CPU)
    for replica in replicas.networks:
        for mine, theirs in zip(network.parameters(), replica.parameters(), strict=True):
            assert mine is theirs
    with replicas.training():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == threads
    with pytest.raises(KeyError), replicas.training():
        raise KeyError
    assert torch.get_num_threads() == threads


def test_same_seed_same_weights_on_many_threads(digits: ImageData, threads: int) -> None:
    recipe = Training(epochs=2, batch=96, min_steps=1)
    networks = []
    for _ in range(2):
        network = network_of(norm=True)
        list(passes(network, digits, recipe, seed=0, device=CPU))
        networks.append(network.state_dict())
    assert all(torch.equal(networks[0][key], networks[1][key]) for key in networks[0])


def test_a_thread_out_of_memory_is_a_failed_training(digits: ImageData, threads: int) -> None:
    class Greedy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 10)
            self.number = 0

        def __deepcopy__(self, memo: dict[int, object]) -> Greedy:
            copy = Greedy()
            copy.number = 1
            copy.layer = self.layer
            return copy

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.layer(x.flatten(1))
            return logits + torch.empty(1 << 55).sum() if self.number else logits  # 128 PiB

    with pytest.raises(TrainingFailed, match="batch 96") as caught:
        next(passes(Greedy(), digits, Training(batch=96), seed=0, device=CPU))
    assert caught.value.reason == "out_of_memory"
