"""Well-known networks: where each is from, and how it is built for other images.

What one was published with stays: its layers, strides and dropout. The first convolution is made
for the images' channels, the last layer for their classes, and the running averages of
normalisation follow as fast as in our own networks: those of MobileNet-V3, for example, were made
for hundreds of thousands of steps and are of no use after a few hundred. No weights are loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
from torch import nn

from collabdesign.evaluate.published import (
    mobilenet_v1,
    mobilenet_v1_small_strides,
    resnet_8,
    resnet_20,
)

# torch's own, which our networks have.
_MOMENTUM = 0.1


@dataclass(frozen=True)
class Reference:
    """A row of the table.

    Attributes:
        stride: The product of its strides, that is the smallest input.
        build: From the number of classes and the side of the input to the network for pictures of
            three channels.
        source: Where the definition is from.
        package: What must be installed for it, beside what always is.
        below: The side of the input in pixels from which it is not meant; None where it always is.
    """

    stride: int
    build: Callable[[int, int], nn.Module]
    source: str
    package: str = ""
    below: int | None = None


@dataclass(frozen=True)
class WellKnown:
    """One of them for some images: to train where an :class:`Architecture` may be trained too."""

    name: str
    input_channels: int
    resolution: int
    classes: int

    @property
    def id(self) -> str:
        """Names it in files and keys."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower())


def why_unfit(reference: WellKnown) -> str:
    """Why it cannot be had at this input, empty where it can."""
    row, resolution = REFERENCES[reference.name], reference.resolution
    size = f"{resolution}x{resolution}"
    if row.package and find_spec(row.package) is None:
        return f"needs {row.package}: pip install 'collabdesign[compare]'"
    if resolution < row.stride:
        reason = f"it reduces the resolution by a factor of {row.stride}, the input is {size}"
        return f"not applicable: {reason}"
    if row.below is not None and resolution >= row.below:
        return f"not applicable: it is for inputs under {row.below} pixels, the input is {size}"
    with torch.device("meta"):  # no memory, no arithmetic, no random numbers
        network = build_reference(reference)
        image = torch.empty(1, reference.input_channels, resolution, resolution)
    try:
        network.eval()(image)
    except RuntimeError as error:
        return f"not applicable: it does not run at {size} ({str(error).splitlines()[0]})"
    return ""


def build_reference(reference: WellKnown) -> nn.Module:
    """Takes N x channels x R x R, gives logits N x classes."""
    network = REFERENCES[reference.name].build(reference.classes, reference.resolution)
    first = next(part for part in network.modules() if isinstance(part, nn.Conv2d))
    if first.in_channels != reference.input_channels:
        shape = (first.out_channels, reference.input_channels, *first.kernel_size)
        first.in_channels = reference.input_channels
        first.weight = nn.Parameter(torch.empty(shape, device=first.weight.device))
        first.reset_parameters()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = _MOMENTUM
    return network


def _own(build: Callable[..., nn.Module], classes: int, _: int, /, **more: float) -> nn.Module:
    return build(classes, **more)


def _torchvision(function: str, classes: int, _: int, /, **more: float) -> nn.Module:
    from torchvision import models

    network: nn.Module = getattr(models, function)(weights=None, num_classes=classes, **more)
    return network


def _timm(name: str, classes: int, _: int, /) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes)
    return network


def _from_torchvision(function: str, stride: int = 32, **more: float) -> Reference:
    build = partial(_torchvision, function, **more)
    return Reference(stride, build, f"torchvision {function}")


def _from_timm(name: str) -> Reference:
    return Reference(32, partial(_timm, name), f"timm {name}", "timm")


_HOWARD = "arXiv 1704.04861, table 1"

# By name, as people say it. No name begins another one's.
REFERENCES: Mapping[str, Reference] = {
    "MobileNet-V1 1.0x": Reference(32, partial(_own, mobilenet_v1), _HOWARD),
    "MobileNet-V1 0.5x": Reference(32, partial(_own, mobilenet_v1, width=0.5), _HOWARD),
    "MobileNet-V1 0.25x": Reference(32, partial(_own, mobilenet_v1, width=0.25), _HOWARD),
    "MobileNet-V1 small strides": Reference(
        1, mobilenet_v1_small_strides, f"{_HOWARD}, with the first strides 1", below=64
    ),
    "MobileNet-V2 1.0x": _from_torchvision("mobilenet_v2"),
    "MobileNet-V2 0.5x": _from_torchvision("mobilenet_v2", width_mult=0.5),
    "MobileNet-V2 0.35x": _from_torchvision("mobilenet_v2", width_mult=0.35),
    "MobileNet-V3-small 1.0x": _from_torchvision("mobilenet_v3_small"),
    "MobileNet-V3-small 0.5x": _from_timm("mobilenetv3_small_050"),
    "MobileNet-V4-small": _from_timm("mobilenetv4_conv_small"),
    "ShuffleNet-V2 1.0x": _from_torchvision("shufflenet_v2_x1_0"),
    "ShuffleNet-V2 0.5x": _from_torchvision("shufflenet_v2_x0_5"),
    "SqueezeNet 1.1": _from_torchvision("squeezenet1_1", stride=16),
    "LCNet 0.5x": _from_timm("lcnet_050"),
    "MnasNet-small": _from_timm("mnasnet_small"),
    "GhostNet 0.5x": _from_timm("ghostnet_050"),
    "ResNet-20": Reference(4, partial(_own, resnet_20), "arXiv 1512.03385, section 4.2"),
    "ResNet-8": Reference(4, partial(_own, resnet_8), "MLPerf Tiny, arXiv 2106.07597"),
}
