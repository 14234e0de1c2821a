"""Published networks that neither torchvision nor timm has in this form, layer by layer.

All take three channels and give logits; weights are not part of a definition.
"""

from __future__ import annotations

import torch
from torch import nn

# Table 1 of MobileNets: channels and stride of each depthwise separable convolution. The table's
# last one says stride 2 at an output of equal size; it is 1.
_SEPARABLE = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    *[(512, 1)] * 5, (1024, 2), (1024, 1),
)  # fmt: skip

_SIDE_LEFT = 4


def _convolution(
    inside: int,
    outside: int,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
    *,
    bias: bool = False,
    is_normalised: bool = True,
    is_activated: bool = True,
) -> nn.Sequential:
    # Not torchvision's: every process that trains would load all of it, for seconds.
    layers: list[nn.Module] = [
        nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=bias)
    ]
    if is_normalised:
        layers.append(nn.BatchNorm2d(outside))
    if is_activated:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def mobilenet_v1(classes: int, width: float = 1.0, halvings: int = 5) -> nn.Module:
    """Howard et al., MobileNets (arXiv 1704.04861), table 1.

    Args:
        width: Its width multiplier.
        halvings: How many of its five strides of 2 stay, the last ones; the others become 1.
    """
    left = 5 - halvings  # strides to take away, the first ones

    def kept(stride: int) -> int:
        nonlocal left
        if stride == 1 or left <= 0:
            return stride
        left -= 1
        return 1

    inside = round(32 * width)
    layers: list[nn.Module] = [_convolution(3, inside, stride=kept(2))]
    for channels, stride in _SEPARABLE:
        outside = round(channels * width)
        layers.append(_convolution(inside, inside, stride=kept(stride), groups=inside))
        layers.append(_convolution(inside, outside, 1))
        inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, classes))


def mobilenet_v1_small_strides(classes: int, resolution: int) -> nn.Module:
    """MobileNet-V1 with as many of its last strides as leave 4 pixels at the end: 3 at 32x32."""
    halvings = sum(-(-resolution // 2**count) >= _SIDE_LEFT for count in range(1, 6))
    return mobilenet_v1(classes, halvings=halvings)


class _Residual(nn.Module):
    """Two 3x3 convolutions with a shortcut, a 1x1 convolution where shapes differ."""

    def __init__(self, inside: int, outside: int, stride: int, as_in_mlperf: bool) -> None:
        super().__init__()
        bias = as_in_mlperf
        self.first = _convolution(inside, outside, 3, stride, bias=bias)
        self.second = _convolution(outside, outside, 3, bias=bias, is_activated=False)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1:
            self.shortcut = _convolution(
                inside,
                outside,
                1,
                stride,
                bias=bias,
                is_normalised=not as_in_mlperf,
                is_activated=False,
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


def _resnet(classes: int, blocks: int, as_in_mlperf: bool) -> nn.Module:
    layers: list[nn.Module] = [_convolution(3, 16, bias=as_in_mlperf)]
    inside = 16
    for outside in (16, 32, 64):
        for number in range(blocks):
            stride = 2 if number == 0 and outside != 16 else 1
            layers.append(_Residual(inside, outside, stride, as_in_mlperf))
            inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, classes))


def resnet_20(classes: int) -> nn.Module:
    """He et al. (arXiv 1512.03385), section 4.2, n = 3, with their projection shortcuts (option
    B), as the models that are passed around for CIFAR-10 have them."""
    return _resnet(classes, 3, as_in_mlperf=False)


def resnet_8(classes: int) -> nn.Module:
    """The image classifier of MLPerf Tiny (arXiv 2106.07597): one block a stage, biases in all
    convolutions, no normalisation in the shortcuts. Its strided convolutions are padded on all
    sides here, in Keras on two."""
    return _resnet(classes, 1, as_in_mlperf=True)
