"""The rows of :mod:`collabdesign.design.operators` as torch modules.

:mod:`collabdesign.deliver.source` writes what a network uses of this file into its ``model.py``,
word for word. So a row needs torch alone, and classes and functions alone; of a layer it reads
``op``, ``kernel``, ``channels``, ``stride``, ``groups`` and ``settings``. Tensors are
N x C x H x W.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from collabdesign.design.architecture import Layer


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch normalisation, and an activation if one is named."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: str = "none",
        dilation: int = 1,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(
            in_channels, channels, kernel, stride, padding, dilation, groups, bias=False
        )
        self.norm = nn.BatchNorm2d(channels)
        if activation != "none":
            self.act = ACTIVATIONS[activation]()


class SqueezeExcite(nn.Module):
    """Scales every channel by a gate computed from the channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(4, channels // 4)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        squeezed = self.reduce(nn.functional.adaptive_avg_pool2d(x, 1)).relu()
        gate: torch.Tensor = self.expand(squeezed).sigmoid()
        return x * gate


def convolution(layer: Layer, in_channels: int, activation: str) -> nn.Module:
    settings: dict[str, Any] = {"activation": activation, **dict(layer.settings)}
    return ConvNorm(
        in_channels, layer.channels, layer.kernel, layer.stride, layer.groups, **settings
    )


def max_pooling(layer: Layer, in_channels: int, activation: str) -> nn.Module:
    return nn.MaxPool2d(layer.kernel, layer.stride, layer.kernel // 2)


def average_pooling(layer: Layer, in_channels: int, activation: str) -> nn.Module:
    return nn.AvgPool2d(layer.kernel, layer.stride, layer.kernel // 2, count_include_pad=False)


def squeeze_excite(layer: Layer, in_channels: int, activation: str) -> nn.Module:
    return SqueezeExcite(layer.channels)


class Add(nn.ModuleList):
    """Branches whose outputs are added."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self[0](x)
        for number, branch in enumerate(self):
            if number > 0:  # torch.jit.script knows no slice of modules that are called
                y = y + branch(x)
        return y


class Concat(nn.ModuleList):
    """Branches whose outputs are concatenated along the channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self], dim=1)


# From a layer, its input channels and the activation that follows it, or none.
OPERATORS: dict[str, Callable[[Layer, int, str], nn.Module]] = {
    "conv": convolution,
    "pool": max_pooling,
    "avgpool": average_pooling,
    "se": squeeze_excite,
}

# From the branches; a module that calls them.
JOINS: dict[str, Callable[[Iterable[nn.Module]], nn.ModuleList]] = {
    "add": Add,
    "concat": Concat,
}

# From the channels.
ATTENTIONS: dict[str, Callable[[int], nn.Module]] = {
    "none": nn.Identity,
    "squeeze_excite": SqueezeExcite,
}

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "hardswish": nn.Hardswish,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}
