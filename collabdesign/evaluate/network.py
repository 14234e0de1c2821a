"""Architecture -> nn.Module; never changes the architecture.

The classes read plain attributes (``layer.kernel``, ``module.branches``) and need torch alone,
with the tables of :mod:`collabdesign.evaluate.operators`: :mod:`collabdesign.deliver.source`
writes their text into the ``model.py`` that a person takes away, so that both share their
state-dict keys and there is one truth about what a module computes. Tensors are N x C x H x W.
"""

from __future__ import annotations

import torch
from torch import nn

from collabdesign.design.architecture import Architecture, Layer, Module
from collabdesign.evaluate.operators import ACTIVATIONS, ATTENTIONS, JOINS, OPERATORS, ConvNorm


class DesignedModule(nn.Module):
    """Parallel branches, joined; attention; shortcut; activation."""

    def __init__(self, in_channels: int, design: Module) -> None:
        super().__init__()
        self.branches = JOINS[design.join](
            self._branch(in_channels, branch.layers, design.activation)
            for branch in design.branches
        )
        self.attention = ATTENTIONS[design.attention](design.channels)
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
            follows = activation if number < len(layers) else "none"
            steps.append(OPERATORS[layer.op](layer, in_channels, follows))
            in_channels = layer.channels
        return nn.Sequential(*steps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.attention(self.branches(x))
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
