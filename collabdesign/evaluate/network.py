"""Architecture -> nn.Module; never changes the architecture.

The classes read plain attributes (``layer.kernel``, ``module.branches``) and need torch alone:
:mod:`collabdesign.deliver.source` writes their text into the ``model.py`` that a person takes
away, so that both share their state-dict keys and there is one truth about what a module
computes. Tensors are N x C x H x W.
"""

from __future__ import annotations

import torch
from torch import nn

from collabdesign.design.architecture import Architecture, Layer, Module

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "hardswish": nn.Hardswish,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch normalisation, and an activation if one is named."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: str | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(channels)
        if activation:
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


class DesignedModule(nn.Module):
    """Parallel branches, joined; attention; shortcut; activation."""

    def __init__(self, in_channels: int, design: Module) -> None:
        super().__init__()
        self.concat = design.join == "concat"
        self.branches = nn.ModuleList(
            self._branch(in_channels, branch.layers, design.activation)
            for branch in design.branches
        )
        self.attention: nn.Module = nn.Identity()
        if design.attention == "squeeze_excite":
            self.attention = SqueezeExcite(design.channels)
        self.has_shortcut = design.shortcut != "none"
        self.shortcut: nn.Module = nn.Identity()
        if design.shortcut == "projection":
            self.shortcut = ConvNorm(in_channels, design.channels, stride=design.stride)
        activated = design.output == "activated"
        self.act = ACTIVATIONS[design.activation]() if activated else nn.Identity()

    @staticmethod
    def _branch(in_channels: int, layers: tuple[Layer, ...], activation: str) -> nn.Sequential:
        steps: list[nn.Module] = []
        for number, layer in enumerate(layers, start=1):
            if layer.op == "pool":
                steps.append(nn.MaxPool2d(layer.kernel, layer.stride, layer.kernel // 2))
            else:
                steps.append(
                    ConvNorm(
                        in_channels,
                        layer.channels,
                        layer.kernel,
                        layer.stride,
                        layer.groups,
                        activation if number < len(layers) else None,
                    )
                )
            in_channels = layer.channels
        return nn.Sequential(*steps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.concat:
            y = torch.cat([branch(x) for branch in self.branches], dim=1)
        else:
            y = self.branches[0](x)
            for branch in self.branches[1:]:
                y = y + branch(x)
        y = self.attention(y)
        if self.has_shortcut:
            y = y + self.shortcut(x)
        activated: torch.Tensor = self.act(y)
        return activated


class AttoNet(nn.Module):
    """Stem, modules, features, global average pooling, classifier."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        stem, head = architecture.stem, architecture.head
        self.stem = ConvNorm(
            architecture.input_channels,
            stem.channels,
            stem.kernel,
            stem.stride,
            activation=stem.activation,
        )
        channels = stem.channels
        modules = []
        for design in architecture.modules:
            modules.append(DesignedModule(channels, design))
            channels = design.channels
        self.body = nn.Sequential(*modules)
        self.features: nn.Module = nn.Identity()
        if head.features:
            self.features = ConvNorm(channels, head.features, activation=head.activation)
            channels = head.features
        self.classifier = nn.Linear(channels, architecture.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(self.body(self.stem(x)))
        logits: torch.Tensor = self.classifier(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def build_network(architecture: Architecture) -> AttoNet:
    """Build the network of an architecture.

    Input: float tensor N x ``input_channels`` x ``resolution`` x ``resolution`` (other sizes
    run too; costs are stated at this one). Output: logits N x ``classes``.
    """
    network = AttoNet(architecture)
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            # Nothing else reads what a ReLU reads, so that it may write there.
            module.inplace = True
    return network
