"""Narrow strided 1 x 1 convolutions train on the CPU, and compute what was drawn."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from collabdesign.evaluate.pointwise import without_narrow_strides


def _gradients(
    network: nn.Module, x: torch.Tensor, towards: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    y = network(x)
    y.backward(towards)
    return y.detach(), [
        weight.grad.clone() for weight in network.parameters() if weight.grad is not None
    ]


@pytest.mark.parametrize(("channels", "side", "stride"), [(8, 16, 2), (12, 15, 2), (3, 17, 3)])
def test_output_and_gradients_are_those_of_the_strided(
    channels: int, side: int, stride: int
) -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(channels, 24, 1, stride)
    x = torch.randn(4, channels, side, side, requires_grad=True)
    towards = torch.randn_like(network(x))
    # Channels not last, there is no defect.
    expected, expected_weights = _gradients(network, x, towards)
    expected_x, x.grad = x.grad, None
    network.zero_grad()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with without_narrow_strides(network):
        assert network.stride == (1, 1)
        found, found_weights = _gradients(
            network, x.contiguous(memory_format=torch.channels_last), towards
        )
    assert expected_x is not None and x.grad is not None
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(x.grad, expected_x)
    torch.testing.assert_close(found_weights, expected_weights)


def test_others_are_left_alone_and_all_is_as_drawn_afterwards() -> None:
    kinds = [(8, 1, 2), (16, 1, 2), (8, 3, 2), (8, 1, 1)]
    network = nn.Sequential(*(nn.Conv2d(n, 8, kernel, stride) for n, kernel, stride in kinds))
    strides = [convolution.stride for convolution in network]
    with pytest.raises(KeyboardInterrupt), without_narrow_strides(network):
        assert [convolution.stride[0] for convolution in network] == [1, 2, 2, 1]
        raise KeyboardInterrupt
    assert [convolution.stride for convolution in network] == strides
    assert not any(convolution._forward_pre_hooks for convolution in network)


TRAINING = """
import torch
from torch import nn
from collabdesign.evaluate.replicas import Replicas

torch.set_num_threads(1)
network = nn.Sequential(nn.Conv2d(8, 16, 1, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
network.to(memory_format=torch.channels_last)
pictures = torch.randn(8, 8, 48, 48).contiguous(memory_format=torch.channels_last)
replicas = Replicas(network, 8, torch.device("cpu"))
with replicas.training():
    replicas.backward(
        lambda network, chosen, _: network(pictures[chosen]).square().sum(),
        torch.arange(8),
        [torch.Generator()],
    )
"""


def test_a_training_that_the_defect_would_kill_lives() -> None:
    """In a process of its own: where it strikes, it ends the process."""
    done = subprocess.run([sys.executable, "-c", TRAINING], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
