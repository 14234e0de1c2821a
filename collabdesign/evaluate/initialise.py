"""The weights that a training begins with."""

from __future__ import annotations

import math

import torch
from torch import nn


def initialise(network: nn.Module, seed: int) -> None:
    """Draw all weights of a network anew, in place; a function of the seed alone.

    Convolutions are normal with variance 2 / fan-out (He et al., arXiv 1502.01852; the fan of
    a group), linear layers normal with deviation 0.01, biases zero; everything else is as its
    own ``reset_parameters`` leaves it (normalisation: scale 1, shift 0).
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        # Drawn on the CPU whatever the network's device, so that the device does not matter.
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                height, width = module.kernel_size
                fan_out = height * width * module.out_channels // module.groups
                weight = torch.empty(module.weight.shape).normal_(0, math.sqrt(2 / fan_out))
                module.weight.copy_(weight)
            elif isinstance(module, nn.Linear):
                module.weight.copy_(torch.empty(module.weight.shape).normal_(0, 0.01))
            elif callable(reset := getattr(module, "reset_parameters", None)):
                reset()
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                module.bias.zero_()
