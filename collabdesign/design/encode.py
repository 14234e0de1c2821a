"""Modules -> drafts: the design that gives a module, if the space has one.

A search through the few spellings that a module can have, judged by building each of them:
so :mod:`collabdesign.design.draft` alone knows how a draft is repaired.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from math import gcd
from typing import Any

from collabdesign.design.architecture import Branch, Layer, Module
from collabdesign.design.draft import (
    BranchDraft,
    ModuleDraft,
    Place,
    build_branch,
    build_module,
    describe_branch,
    hidden_positions,
    largest_divisor,
    positions_with_width,
    shares,
)
from collabdesign.design.freedoms import LayerToken, hidden_channels, parse_token
from collabdesign.design.slots import BranchSlot, ModuleSlot, Parameter
from collabdesign.errors import OutsideSpace


def encode_design(
    slot: ModuleSlot,
    pairs: list[tuple[Module, Place]],
    put: Callable[[Parameter, Any], None],
) -> None:
    """Find the one design that gives each of the modules at its place."""
    module, place = pairs[-1]  # the modules after a stage's first are the least repaired
    name = slot.shortcut.name.rsplit(".", 1)[0]
    count = len(module.branches)
    put(slot.branches, count)
    put(slot.attention, module.attention)
    put(slot.output, module.output)
    if count > 1:
        put(slot.join, module.join)
    split = _shares_of(module, slot)
    spellings = []
    for number, branch in enumerate(module.branches):
        # Spellings that come to the same at every place are one.
        found: dict[tuple[Branch, ...], BranchDraft] = {}
        for spelling in _spell(slot.branch[number], branch, place):
            built = tuple(build_branch(spelling, there, branch.channels) for _, there in pairs)
            found.setdefault(built, spelling)
        if not found:
            raise OutsideSpace(
                f"{name}: no choice of layers gives branch {number + 1}: "
                f"{describe_branch(branch, place.in_channels)}"
            )
        spellings.append(list(found.values()))
    activations = dict.fromkeys([*(m.activation for m, _ in pairs), slot.activation.own])
    shortcuts = dict.fromkeys([module.shortcut, *slot.shortcut.values])
    for activation, shortcut, *branches in itertools.product(
        [value for value in activations if value in slot.activation.values],
        [value for value in shortcuts if value in slot.shortcut.values],
        *spellings,
    ):
        if split is not None:
            branches = [
                _with_share(draft, share) for draft, share in zip(branches, split, strict=True)
            ]
        draft = ModuleDraft(
            shortcut, module.join, module.attention, activation, module.output, tuple(branches)
        )
        if all(build_module(draft, there) == wanted for wanted, there in pairs):
            put(slot.shortcut, shortcut)
            put(slot.activation, activation)
            for number, branch in enumerate(branches):
                _put_branch(slot.branch[number], branch, module.join == "concat", put)
            return
    raise OutsideSpace(
        f"{name}: no parameter set of the space gives this module with its shortcut "
        f"{module.shortcut} and activation {module.activation}"
    )


def _spell(slot: BranchSlot, branch: Branch, place: Place) -> Iterator[BranchDraft]:
    """All drafts of a branch, up to the widths that do not matter here."""
    depth = len(branch.layers)
    if depth not in slot.depth.values:
        return
    options = []
    in_channels = place.in_channels
    for position, layer in enumerate(branch.layers):
        options.append(
            [
                parse_token(text)
                for text in slot.layers[position].values
                if _may_give(parse_token(text), layer, in_channels)
            ]
        )
        in_channels = layer.channels
    for tokens in itertools.product(*options):
        widths = [1.0] * depth
        for position in hidden_positions(tokens):
            wanted = branch.layers[position].channels
            fitting = [
                width
                for width in slot.widths[position].values
                if hidden_channels(width, place.channels) == wanted
            ]
            if not fitting:
                break
            widths[position] = fitting[0]
        else:
            draft = BranchDraft(tokens, tuple(widths))
            if build_branch(draft, place, branch.channels) == branch:
                yield draft


def _put_branch(
    slot: BranchSlot,
    draft: BranchDraft,
    concat: bool,
    put: Callable[[Parameter, Any], None],
) -> None:
    put(slot.depth, len(draft.tokens))
    for position, token in enumerate(draft.tokens):
        texts = [t for t in slot.layers[position].values if parse_token(t) == token]
        put(slot.layers[position], texts[0])
    for position in positions_with_width(draft.tokens, concat):
        put(slot.widths[position], draft.widths[position])


def _may_give(token: LayerToken, layer: Layer, in_channels: int) -> bool:
    """Whether the token can have become the layer; :func:`build_branch` is then the judge."""
    if token.kind == "pool":
        return (layer.op == "pool" and layer.kernel == token.kernel) or layer.kernel == 1
    if layer.op == "pool" or layer.kernel != token.kernel:
        return False
    wanted = in_channels if token.kind == "dw" else token.groups
    return layer.groups == largest_divisor(gcd(in_channels, layer.channels), wanted)


def _shares_of(module: Module, slot: ModuleSlot) -> tuple[float, ...] | None:
    """Widths that give concatenated branches their channels; None where branches are added."""
    if module.join != "concat":
        return None
    wanted = [branch.channels for branch in module.branches]
    for widths in itertools.product(slot.branch[0].widths[0].values, repeat=len(wanted)):
        if shares(module.channels, widths) == wanted:
            return widths
    name = slot.shortcut.name.rsplit(".", 1)[0]
    raise OutsideSpace(f"{name}: no widths share {module.channels} channels as {wanted}")


def _with_share(draft: BranchDraft, share: float) -> BranchDraft:
    position = positions_with_width(draft.tokens, True)[-1]
    widths = list(draft.widths)
    widths[position] = share
    return BranchDraft(draft.tokens, tuple(widths))
