"""A training that begins with the weights of a trained network, as far as the two agree.

Two layers agree where they stand at the same place (stem; stage, module, branch and layer; head,
classifier) and have the same operator and kernel. Of these the channels that both have are
copied, with their normalisation; what one alone has is drawn as for any training. Channels
correspond by their place. Behind branches that are concatenated a channel stands where its branch
does, so that a wider branch does not shift the others. Of the branches of a module, those are
held against each other that agree in most layers.

A grouped convolution is copied where it is depthwise in both, or of one shape and on the same
channels: elsewhere its groups are of other channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations

import torch
from torch import nn

from collabdesign.design.architecture import Architecture, Branch, Layer, Module
from collabdesign.evaluate.network import AttoNet, DesignedModule
from collabdesign.evaluate.operators import ConvNorm

Places = torch.Tensor
"""Of each channel of the network that begins, its place in the trained one, or -1."""


def inherit(
    network: AttoNet, architecture: Architecture, trained: AttoNet, like: Architecture
) -> None:
    """Copy what a trained network has of another one, in place; both are on the CPU.

    Args:
        network: Initialised.
        architecture: Its.
        trained: Where the weights come from; of the same classes, and the same input.
        like: Its architecture.
    """
    with torch.no_grad():
        at = _convolution(network.stem, trained.stem, torch.arange(architecture.input_channels))
        theirs = dict(
            zip(_positions(like), zip(trained.body, like.modules, strict=True), strict=True)
        )
        for position, mine, design in zip(
            _positions(architecture), network.body, architecture.modules, strict=True
        ):
            assert isinstance(mine, DesignedModule)
            if position in theirs:
                other, other_design = theirs[position]
                assert isinstance(other, DesignedModule)
                at = _module(mine, design, other, other_design, at)
            else:
                at = torch.arange(design.channels)
        if isinstance(network.features, ConvNorm) and isinstance(trained.features, ConvNorm):
            at = _convolution(network.features, trained.features, at)
        elif type(network.features) is not type(trained.features):
            return  # the classifier sees other things
        mine_have, places = _both(at, trained.classifier.in_features)
        network.classifier.weight[:, mine_have] = trained.classifier.weight[:, places]
        network.classifier.bias.copy_(trained.classifier.bias)


def _positions(architecture: Architecture) -> list[tuple[int, int]]:
    """Stage and place in it of each module."""
    stages = [module.stage for module in architecture.modules]
    return [(stage, stages[:number].count(stage)) for number, stage in enumerate(stages)]


def _module(
    mine: DesignedModule, design: Module, other: DesignedModule, like: Module, at: Places
) -> Places:
    """Copy a module's weights; the places of what it puts out."""
    paired = _paired(design.branches, like.branches)
    ends = []
    for branch, number, layers in zip(design.branches, paired, mine.branches, strict=True):
        assert isinstance(layers, nn.Sequential)
        if number is None:
            ends.append(torch.full((branch.channels,), -1))
        else:
            trained = other.branches[number]
            assert isinstance(trained, nn.Sequential)
            ends.append(_branch(layers, branch, trained, like.branches[number], at))
    if isinstance(mine.shortcut, ConvNorm) and isinstance(other.shortcut, ConvNorm):
        _convolution(mine.shortcut, other.shortcut, at)
    if design.attention == like.attention:
        _overlap(mine.attention, other.attention)
    if design.join != like.join or sum(map(len, ends)) != design.channels:
        return torch.arange(design.channels)  # summed up, or joined in another way
    widths = [branch.channels for branch in like.branches]
    return torch.cat(
        [
            end if number is None else _shifted(end, widths[number], sum(widths[:number]))
            for end, number in zip(ends, paired, strict=True)
        ]
    )


def _paired(mine: Sequence[Branch], theirs: Sequence[Branch]) -> list[int | None]:
    """For each branch the one to hold it against, so that most layers agree; in order where orders
    are equally good."""
    missing: list[int | None] = [None] * max(0, len(mine) - len(theirs))
    orders = permutations([*range(len(theirs)), *missing], len(mine))

    def agreeing(order: Iterable[int | None]) -> int:
        return sum(
            _agree(one, other)
            for branch, number in zip(mine, order, strict=True)
            if number is not None
            for one, other in zip(branch.layers, theirs[number].layers, strict=False)
        )

    return list(max(orders, key=agreeing))


def _agree(one: Layer, other: Layer) -> bool:
    return (one.op, one.kernel) == (other.op, other.kernel)


def _branch(
    mine: nn.Sequential, branch: Branch, trained: nn.Sequential, like: Branch, at: Places
) -> Places:
    for number, (layer, module) in enumerate(zip(branch.layers, mine, strict=True)):
        known = number < len(like.layers) and _agree(layer, like.layers[number])
        if isinstance(module, ConvNorm):
            source = trained[number] if known else None
            assert source is None or isinstance(source, ConvNorm)
            at = _convolution(module, source, at)
        elif known:
            _overlap(module, trained[number])
        if len(at) != layer.channels:
            at = torch.arange(layer.channels)
    return at


def _convolution(mine: ConvNorm, trained: ConvNorm | None, at: Places) -> Places:
    """Copy a convolution and its normalisation; the places of its output channels."""
    one = mine.conv
    mixes = not _is_depthwise(one)
    out = torch.arange(one.out_channels) if mixes else at
    if trained is None or one.kernel_size != trained.conv.kernel_size:
        return out
    other = trained.conv
    inputs, places = _both(at, other.in_channels)
    rows, row_places = _both(out, other.out_channels)
    is_same = torch.equal(at, torch.arange(other.in_channels))
    if not mixes and _is_depthwise(other):
        one.weight[rows] = other.weight[row_places]
    elif one.groups == other.groups == 1:
        one.weight[rows[:, None], inputs] = other.weight[row_places[:, None], places]
    elif one.weight.shape == other.weight.shape and one.groups == other.groups and is_same:
        one.weight.copy_(other.weight)
    else:
        return out
    found, known = mine.norm.state_dict(), trained.norm.state_dict()
    for name, tensor in found.items():
        if tensor.ndim:
            tensor[rows] = known[name][row_places]
        else:
            tensor.copy_(known[name])  # how many batches were seen
    return out


def _is_depthwise(convolution: nn.Conv2d) -> bool:
    one = convolution
    return 1 < one.groups == one.in_channels == one.out_channels


def _overlap(mine: nn.Module, trained: nn.Module) -> None:
    """Copy the corner that two tensors of one name share."""
    known = trained.state_dict()
    for name, tensor in mine.state_dict().items():
        if name in known and known[name].ndim == tensor.ndim:
            corner = tuple(map(slice, map(min, tensor.shape, known[name].shape)))
            tensor[corner] = known[name][corner]


def _both(at: Places, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The channels that a layer of so many channels has too, and their places in it."""
    have = ((at >= 0) & (at < channels)).nonzero().flatten()
    return have, at[have]


def _shifted(at: Places, channels: int, by: int) -> Places:
    return torch.where((at >= 0) & (at < channels), at + by, -1)
