"""Muon: steps on matrices are orthogonal, all other weights are SGD's."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from collabdesign.evaluate.muon import Muon, orthogonal
from collabdesign.evaluate.references import WellKnown, build_reference


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 40, 90), (2, 96, 40), (1, 300, 400)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    near = orthogonal(matrices)
    assert near.shape == matrices.shape and near.dtype == matrices.dtype
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    nearest = left @ right
    # The iteration ends with singular values from 0.7 to 1.2; small ones take longer.
    cosine = (near * nearest).sum((1, 2)) / near.norm(dim=(1, 2)) / nearest.norm(dim=(1, 2))
    assert cosine.min() > 0.95
    values = torch.linalg.svdvals(near)
    assert values.max() < 1.3 and values.median() > 0.65


def test_a_matrix_of_zeros_stays_so() -> None:
    assert torch.equal(orthogonal(torch.zeros(1, 20, 30)), torch.zeros(1, 20, 30))


def network_of() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),  # a matrix of 8 x 27
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, groups=8, bias=False),  # depthwise
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 16, 1, bias=False),  # each output sees 8 numbers: too narrow
        nn.Conv2d(16, 16, 1),  # nothing normalises it
        nn.Conv2d(16, 32, 1, bias=False),  # a matrix of 32 x 16
        nn.BatchNorm2d(32),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 4),
    )


def muon(network: nn.Module, rate: float = 0.4, decay: float = 0.01) -> Muon:
    return Muon(network, rate, ratio=1 / 8, momentum=0.9, weight_decay=decay)


def backward(network: nn.Module, seed: int) -> None:
    pictures = torch.randn(8, 3, 10, 10, generator=torch.Generator().manual_seed(seed))
    network(pictures).square().mean().backward()


def test_what_is_a_matrix() -> None:
    network = network_of()
    by_muon = [
        weight
        for group in muon(network).param_groups
        if group["orthogonal"]
        for weight in group["params"]
    ]
    assert [id(weight) for weight in by_muon] == [id(network[0].weight), id(network[6].weight)]
    everything = [id(w) for group in muon(network).param_groups for w in group["params"]]
    assert sorted(everything) == sorted(id(weight) for weight in network.parameters())


@pytest.mark.parametrize(
    "name", ["ResNet-8", "ResNet-20", "MobileNet-V1 1.0x", "ShuffleNet-V2 0.5x"]
)
def test_the_matrices_of_well_known_networks_are_found(name: str) -> None:
    """Also those with a bias; all convolutions that mix channels, but shortcuts without norm."""
    network = build_reference(WellKnown(name, 3, 32, 10))
    mixing = [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and module.groups == 1 and module.weight[0].numel() >= 16
    ]
    (found,) = [group for group in muon(network).param_groups if group["orthogonal"]]
    assert len(found["params"]) == len(mixing) - (2 if name == "ResNet-8" else 0)


def test_the_rest_is_trained_as_sgd_does() -> None:
    network, other = network_of(), network_of()
    other.load_state_dict(network.state_dict())
    ours, matrices = muon(network), {0, 6}
    rest = [(i, w) for i, part in enumerate(other) for w in part.parameters() if i not in matrices]
    sgd = torch.optim.SGD(
        [
            {"params": [w for _, w in rest if w.ndim > 1], "weight_decay": 0.01},
            {"params": [w for _, w in rest if w.ndim <= 1]},
        ],
        lr=0.4,
        momentum=0.9,
        nesterov=True,
    )
    for step in range(3):
        for number in matrices:  # the same network at each step
            other[number].weight.data.copy_(network[number].weight.data)
        for each, optimizer in ((network, ours), (other, sgd)):
            backward(each, step)
            optimizer.step()
            optimizer.zero_grad()
    for number, part in enumerate(network):
        if number not in matrices:
            for mine, its in zip(part.parameters(), other[number].parameters(), strict=True):
                assert torch.allclose(mine, its, atol=1e-6)


def test_a_step_has_its_length_and_the_weight_too() -> None:
    """Before a step, a matrix of M rows has the length of one with singular values of 1."""
    network = network_of()
    ours = muon(network)
    for number, longer in ((0, 1.0), (6, math.sqrt(32 / 16))):
        weight = network[number].weight
        weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        direction = weight.detach() / weight.detach().norm()
        ours.step()
        ours.zero_grad()
        rows = weight.shape[0]
        step = weight.detach() - direction * math.sqrt(rows)
        rank = min(weight.flatten(1).shape)
        # 0.4 / 8 times what an orthogonal matrix of that rank has, of which Newton's iteration is
        # up to a third away.
        assert step.norm().item() == pytest.approx(0.05 * longer * math.sqrt(rank), rel=0.35)


def test_it_learns_and_goes_on_from_its_state() -> None:
    network = network_of()
    ours = muon(network)
    for step in range(4):
        backward(network, step)
        ours.step()
        ours.zero_grad()
    again = network_of()
    again.load_state_dict(network.state_dict())
    other = muon(again)
    other.load_state_dict(copy.deepcopy(ours.state_dict()))
    for each, optimizer in ((network, ours), (again, other)):
        backward(each, 9)
        optimizer.step()
    for mine, its in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, its)
