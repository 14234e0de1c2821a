"""Drafts: modules as their parameters say them, and how they become modules.

What cannot be built as drawn is repaired, always in the same way. What becomes of a single layer
stands in its row in :mod:`collabdesign.design.operators`:

- an identity shortcut between different shapes becomes a projection;
- groups fall to the largest divisor of the input and output channels;
- a branch ends in the channels that its module needs: the last of its layers that chooses its
  channels takes them. Where none does, its last layer must: it becomes what its row names (a
  ``pool`` becomes ``pw``), or has as many groups as divide both channels (``dw``);
- a module's stride is taken by a branch's first layer with a kernel above 1, else by its first,
  of those that can take one. Where none can, the first layer becomes what its row names;
- branches whose join splits the channels share the module's in proportion to their widths, in
  units of 4 channels where that is possible, each at least one unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from collabdesign.design.architecture import Branch, Module
from collabdesign.design.freedoms import hidden_channels
from collabdesign.design.layer_words import LayerToken, parse_token
from collabdesign.design.operators import JOINS


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
class ModuleShape:
    """What a module must be from outside: what a draft needs to become a module."""

    stage: int
    stride: int
    in_channels: int
    channels: int


# A proposal mostly differs from what it was made from in one module or two.
@lru_cache(maxsize=2**13)
def build_module(draft: ModuleDraft, shape: ModuleShape) -> Module:
    if JOINS[draft.join].splits_channels:
        widths = [
            branch.widths[positions_with_width(branch.tokens, True)[-1]]
            for branch in draft.branches
        ]
        outputs = shares(shape.channels, widths)
    else:
        outputs = [shape.channels] * len(draft.branches)
    shortcut = draft.shortcut
    if shortcut == "identity" and (shape.stride > 1 or shape.in_channels != shape.channels):
        shortcut = "projection"
    return Module(
        shape.stage,
        shape.stride,
        shape.channels,
        shortcut,
        draft.join,
        draft.attention,
        draft.activation,
        draft.output,
        tuple(
            build_branch(branch, shape, output)
            for branch, output in zip(draft.branches, outputs, strict=True)
        ),
    )


def build_branch(draft: BranchDraft, shape: ModuleShape, channels: int) -> Branch:
    tokens = draft.tokens
    output = _output_position(tokens)
    if output is None:
        output = len(tokens) - 1
        if channels != shape.in_channels:
            tokens = (*tokens[:-1], repaired(tokens[-1]))
    striding = -1
    if shape.stride > 1:
        able = [i for i, token in enumerate(tokens) if token.takes_stride]
        striding = next((i for i in able if tokens[i].kernel > 1), able[0] if able else 0)
        if not able:
            tokens = (repaired(tokens[0]), *tokens[1:])
    layers = []
    in_channels = shape.in_channels
    for position, token in enumerate(tokens):
        if position == output:
            out_channels = channels
        elif draft.tokens[position].chooses_channels:  # what a layer became has no width
            out_channels = hidden_channels(draft.widths[position], shape.channels)
        else:
            out_channels = in_channels
        stride = shape.stride if position == striding else 1
        layers.append(token.layer(stride, in_channels, out_channels))
        in_channels = out_channels
    return Branch(tuple(layers))


def repaired(token: LayerToken) -> LayerToken:
    """What becomes of a layer that must change its channels or take a stride and cannot."""
    return parse_token(token.word.becomes) if token.word.becomes else token


def _output_position(tokens: Sequence[LayerToken]) -> int | None:
    """The layer that takes the branch's output channels; None where all keep theirs."""
    return max((i for i, token in enumerate(tokens) if token.chooses_channels), default=None)


def hidden_positions(tokens: Sequence[LayerToken]) -> list[int]:
    """Positions of the layers with a hidden width: they choose, and another does after them."""
    output = _output_position(tokens)
    return [i for i in range(output or 0) if tokens[i].chooses_channels]


def positions_with_width(tokens: Sequence[LayerToken], has_share: bool) -> list[int]:
    """Positions whose width matters: the hidden ones, and last where it is the branch's share."""
    positions = hidden_positions(tokens)
    if has_share:
        output = _output_position(tokens)
        positions.append(len(tokens) - 1 if output is None else output)
    return positions


def shares(channels: int, widths: Sequence[float]) -> list[int]:
    """Split channels in proportion to widths, in units of 4 where possible, each at least one."""
    unit = 4 if channels % 4 == 0 and channels // 4 >= len(widths) else 1
    units = channels // unit
    return [part * unit for part in proportional(units, widths, [units] * len(widths))]


def proportional(count: int, weights: Sequence[float], most: Sequence[int]) -> list[int]:
    """Split a count in proportion to weights, each part from 1 to the most that it may be.

    What the proportions leave over goes to the largest remainders, the earlier first.
    """
    total = sum(weights)
    exact = [count * weight / total for weight in weights]
    parts = [min(max(1, int(share)), high) for share, high in zip(exact, most, strict=True)]
    while sum(parts) != count:
        step = 1 if sum(parts) < count else -1
        free = [i for i, part in enumerate(parts) if 1 <= part + step <= most[i]]
        parts[max(free, key=lambda i: (step * (exact[i] - parts[i]), -i))] += step
    return parts
