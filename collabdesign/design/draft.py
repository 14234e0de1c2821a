"""Drafts: modules as their parameters say them, and how they become modules.

What cannot be built as drawn is repaired, always in the same way:

- an identity shortcut between different shapes becomes a projection;
- groups fall to the largest divisor of the input and output channels;
- a branch ends in the channels that its module needs: its last ``pw`` or ``conv`` takes them;
  where it has none, a last ``dw`` becomes a convolution with as many groups as divide both,
  a last ``pool`` becomes ``pw``;
- a module's stride is taken by a branch's first layer with a kernel above 1, else by its first;
- concatenated branches share the module's channels in proportion to their widths, in units of
  4 channels where that is possible, each at least one unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd

from collabdesign.design.architecture import Branch, Layer, Module
from collabdesign.design.freedoms import LayerToken, hidden_channels

# A space has few different layers, and a search decodes tens of thousands of networks.
_shared_layer = lru_cache(maxsize=2**16)(Layer)


@dataclass(frozen=True, slots=True)
class BranchDraft:
    """A branch as its parameters say it, before it knows its channels and stride."""

    tokens: tuple[LayerToken, ...]
    widths: tuple[float, ...]  # one a layer; 1.0 where none is asked for


@dataclass(frozen=True, slots=True)
class ModuleDraft:
    shortcut: str
    join: str
    attention: str
    activation: str
    output: str
    branches: tuple[BranchDraft, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a module stands: what a draft needs to become a module."""

    stage: int
    stride: int
    in_channels: int
    channels: int


# A proposal mostly differs from what it was made from in one module or two.
@lru_cache(maxsize=2**13)
def build_module(draft: ModuleDraft, place: Place) -> Module:
    if draft.join == "concat":
        widths = [
            branch.widths[positions_with_width(branch.tokens, True)[-1]]
            for branch in draft.branches
        ]
        outputs = shares(place.channels, widths)
    else:
        outputs = [place.channels] * len(draft.branches)
    same_shape = place.stride == 1 and place.in_channels == place.channels
    shortcut = draft.shortcut
    if shortcut == "identity" and not same_shape:
        shortcut = "projection"
    return Module(
        place.stage,
        place.stride,
        place.channels,
        shortcut,
        draft.join,
        draft.attention,
        draft.activation,
        draft.output,
        tuple(
            build_branch(branch, place, output)
            for branch, output in zip(draft.branches, outputs, strict=True)
        ),
    )


def build_branch(draft: BranchDraft, place: Place, channels: int) -> Branch:
    tokens = draft.tokens
    last = len(tokens) - 1
    output = _output_position(tokens)
    if output is None:
        output = last
        if channels != place.in_channels and tokens[last].kind == "pool":
            tokens = (*tokens[:last], LayerToken("pw", 1, 1))
    striding = next((i for i, token in enumerate(tokens) if token.kernel > 1), 0)
    layers = []
    in_channels = place.in_channels
    for position, token in enumerate(tokens):
        if position == output:
            out_channels = channels
        elif token.chooses_channels:
            out_channels = hidden_channels(draft.widths[position], place.channels)
        else:
            out_channels = in_channels
        stride = place.stride if position == striding else 1
        if token.kind == "pool":
            layers.append(_shared_layer("pool", token.kernel, stride, 1, out_channels))
        else:
            wanted = in_channels if token.kind == "dw" else token.groups
            groups = largest_divisor(gcd(in_channels, out_channels), wanted)
            layers.append(_shared_layer("conv", token.kernel, stride, groups, out_channels))
        in_channels = out_channels
    return Branch(tuple(layers))


def _output_position(tokens: Sequence[LayerToken]) -> int | None:
    """The layer that takes the branch's output channels; None where all keep theirs."""
    for position in range(len(tokens) - 1, -1, -1):
        if tokens[position].chooses_channels:
            return position
    return None


def hidden_positions(tokens: Sequence[LayerToken]) -> list[int]:
    """Positions of the layers with a hidden width: they choose, and another does after them."""
    output = _output_position(tokens)
    return [i for i in range(output or 0) if tokens[i].chooses_channels]


def positions_with_width(tokens: Sequence[LayerToken], concat: bool) -> list[int]:
    """Positions whose width matters: the hidden ones, and for concat the branch's share."""
    positions = hidden_positions(tokens)
    if concat:
        output = _output_position(tokens)
        positions.append(len(tokens) - 1 if output is None else output)
    return positions


def shares(channels: int, widths: Sequence[float]) -> list[int]:
    """Split channels in proportion to widths, in units of 4 where possible, each at least one.

    What the proportions leave over goes to the largest remainders, the earlier first.
    """
    unit = 4 if channels % 4 == 0 and channels // 4 >= len(widths) else 1
    units = channels // unit
    total = sum(widths)
    exact = [units * width / total for width in widths]
    parts = [max(1, int(share)) for share in exact]
    while sum(parts) < units:
        parts[max(range(len(parts)), key=lambda i: (exact[i] - parts[i], -i))] += 1
    while sum(parts) > units:  # the least of one unit gave too much away
        above = [i for i, part in enumerate(parts) if part > 1]
        parts[max(above, key=lambda i: (parts[i] - exact[i], -i))] -= 1
    return [part * unit for part in parts]


def largest_divisor(number: int, at_most: int) -> int:
    if number % at_most == 0:
        return at_most
    return next(d for d in range(min(number, at_most), 0, -1) if number % d == 0)


def layer_kind(layer: Layer, in_channels: int) -> str:
    """``pool``, ``depthwise``, ``grouped``, ``pointwise`` or ``conv``."""
    if layer.op == "pool":
        return "pool"
    if layer.groups > 1:
        same = layer.groups == in_channels == layer.channels
        return "depthwise" if same else "grouped"
    return "pointwise" if layer.kernel == 1 else "conv"


def _layer(layer: Layer, in_channels: int) -> str:
    kind = layer_kind(layer, in_channels)
    if kind == "pool":
        text = f"pool{layer.kernel}"
    elif kind == "depthwise":
        text = f"dw{layer.kernel}"
    else:
        name = "pw" if layer.kernel == 1 else f"conv{layer.kernel}"
        groups = f"/g{layer.groups}" if layer.groups > 1 else ""
        text = f"{name}{groups}({layer.channels})"
    return text + ("/2" if layer.stride == 2 else "")


def describe_branch(branch: Branch, channels: int) -> str:
    """A branch in words, from its input channels on: ``pw(64) - dw3/2 - pw(32)``."""
    words = []
    for layer in branch.layers:
        words.append(_layer(layer, channels))
        channels = layer.channels
    return " - ".join(words)
