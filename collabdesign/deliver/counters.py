"""Multiply-adds and parameters of a network by counters that know nothing of each other."""

from __future__ import annotations

import copy
from importlib.metadata import version

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from collabdesign.deliver.certificate import Count
from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import cost_of
from collabdesign.evaluate.network import build_network
from collabdesign.evaluate.precision import full_float32


def counts_of(architecture: Architecture) -> tuple[Count, ...]:
    """By our arithmetic on the architecture, by ptflops and by torch's own counter on the network.

    Returns:
        One each, in that order, in our convention: a multiply-accumulate one, a bias one per
        output element.
    """
    cost = cost_of(architecture)
    network = build_network(architecture).eval()
    shape = (architecture.input_channels, architecture.resolution, architecture.resolution)
    params = sum(parameter.numel() for parameter in network.parameters())
    ours = Count("collabdesign", cost.macs, cost.params, "arithmetic on the architecture")
    return ours, _by_ptflops(network, shape), _by_torch(network, shape, params)


def _by_ptflops(network: nn.Module, shape: tuple[int, int, int]) -> Count:
    from ptflops import get_model_complexity_info

    # It leaves hooks behind.
    macs, params = get_model_complexity_info(
        copy.deepcopy(network), shape, as_strings=False, print_per_layer_stat=False, backend="aten"
    )
    return Count(
        f"ptflops {version('ptflops')}", int(macs), int(params), "on the network as it runs"
    )


def _by_torch(network: nn.Module, shape: tuple[int, int, int], params: int) -> Count:
    biases = 0

    def add(module: nn.Module, given: object, output: torch.Tensor) -> None:
        nonlocal biases
        biases += output.numel()

    hooks = [
        module.register_forward_hook(add)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None
    ]
    counter = FlopCounterMode(display=False)
    try:
        with counter, torch.no_grad(), full_float32():
            network(torch.zeros(1, *shape))
    finally:
        for hook in hooks:
            hook.remove()
    return Count(
        f"torch {torch.__version__.split('+')[0]} FlopCounterMode",
        counter.get_total_flops() // 2 + biases,
        params,
        f"its FLOPs halved, and {biases:,} biases added, which it does not count",
    )
