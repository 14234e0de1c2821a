"""Modules -> drafts: the design that gives a module, if the space has one.

A search through the few spellings that a module can have, judged by building each of them:
so :mod:`collabdesign.design.draft` alone knows how a draft is repaired.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from collabdesign.design.architecture import Branch, Layer, Module
from collabdesign.design.draft import (
    BranchDraft,
    ModuleDraft,
    ModuleShape,
    build_branch,
    build_module,
    hidden_positions,
    positions_with_width,
    repaired,
    shares,
)
from collabdesign.design.freedoms import hidden_channels
from collabdesign.design.layer_words import LayerToken, describe_branch, parse_token
from collabdesign.design.operators import JOINS
from collabdesign.design.slots import BranchSlot, ModuleSlot, Parameter
from collabdesign.errors import OutsideSpace

# One module of a stage and what it must be from outside.
_Pair = tuple[Module, ModuleShape]


def encode_design(
    slot: ModuleSlot, pairs: list[_Pair], put: Callable[[Parameter, Any], None]
) -> None:
    """Find the one design that gives each of the modules its shape and its layers."""
    module, shape = pairs[-1]  # the modules after a stage's first are the least repaired
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
        # Spellings that come to the same in every module are one.
        found: dict[tuple[Branch, ...], BranchDraft] = {}
        for spelling in _spell(slot.branch[number], branch, shape):
            built = tuple(build_branch(spelling, there, branch.channels) for _, there in pairs)
            found.setdefault(built, spelling)
        if not found:
            raise OutsideSpace(
                f"{name}: no choice of layers gives branch {number + 1}: "
                f"{describe_branch(branch, shape.in_channels)}"
            )
        spellings.append(list(found.values()))
    shortcuts = sorted(slot.shortcut.values, key=lambda each: each != module.shortcut)
    for activation, branches in _with_activations(slot, pairs, spellings):
        if split is not None:
            branches = tuple(map(_with_share, branches, split))
        for shortcut in shortcuts:
            draft = ModuleDraft(
                shortcut, module.join, module.attention, activation, module.output, branches
            )
            if all(build_module(draft, there) == wanted for wanted, there in pairs):
                put(slot.shortcut, shortcut)
                put(slot.activation, activation)
                for number, branch_draft in enumerate(branches):
                    _put_branch(slot.branch[number], branch_draft, split is not None, put)
                return
    raise OutsideSpace(
        f"{name}: no parameter set of the space gives this module with its shortcut "
        f"{module.shortcut} and activation {module.activation}"
    )


def _with_activations(
    slot: ModuleSlot, pairs: list[_Pair], spellings: Sequence[Sequence[BranchDraft]]
) -> Iterator[tuple[str, tuple[BranchDraft, ...]]]:
    """Each activation that the module may have, with the branches in which the right ones follow.

    A layer's own activation and the module's can spell the same network, so that the module's is
    not always the one that the human wrote.
    """
    module, shape = pairs[-1]
    modules = dict.fromkeys(each.activation for each, _ in pairs)
    for activation in dict.fromkeys([*modules, slot.activation.own, *slot.activation.values]):
        if activation not in slot.activation.values:
            continue
        fitting = [
            [
                draft
                for draft in drafts
                if build_branch(draft, shape, branch.channels).activations(activation)
                == branch.activations(module.activation)
            ]
            for drafts, branch in zip(spellings, module.branches, strict=True)
        ]
        for branches in itertools.product(*fitting):
            yield activation, branches


def _spell(slot: BranchSlot, branch: Branch, shape: ModuleShape) -> Iterator[BranchDraft]:
    """All drafts of a branch, up to the widths that do not matter here and to activations."""
    depth = len(branch.layers)
    if depth not in slot.depth.values:
        return
    plain = branch.with_activations([None] * depth)
    options = [
        [token for token in map(parse_token, words.values) if _may_give(token, *layer_and_input)]
        for words, layer_and_input in zip(
            slot.layers, plain.with_inputs(shape.in_channels), strict=False
        )
    ]
    for tokens in itertools.product(*options):
        widths = [1.0] * depth
        for position in hidden_positions(tokens):
            wanted = branch.layers[position].channels
            fitting = [
                width
                for width in slot.widths[position].values
                if hidden_channels(width, shape.channels) == wanted
            ]
            if not fitting:
                break
            widths[position] = fitting[0]
        else:
            draft = BranchDraft(tokens, tuple(widths))
            built = build_branch(draft, shape, branch.channels)
            if built.with_activations([None] * depth) == plain:
                yield draft


def _put_branch(
    slot: BranchSlot,
    draft: BranchDraft,
    has_share: bool,
    put: Callable[[Parameter, Any], None],
) -> None:
    put(slot.depth, len(draft.tokens))
    for position, token in enumerate(draft.tokens):
        texts = [t for t in slot.layers[position].values if parse_token(t) == token]
        put(slot.layers[position], texts[0])
    for position in positions_with_width(draft.tokens, has_share):
        put(slot.widths[position], draft.widths[position])


def _may_give(token: LayerToken, layer: Layer, in_channels: int) -> bool:
    """Whether the word can have become the layer; :func:`build_branch` is then the judge."""
    for each in (token, repaired(token)):
        if layer.stride > 1 and not each.takes_stride:
            continue
        built = Branch((each.layer(layer.stride, in_channels, layer.channels),))
        if built.with_activations([None]).layers == (layer,):
            return True
    return False


def _shares_of(module: Module, slot: ModuleSlot) -> tuple[float, ...] | None:
    """Widths that give the branches their parts of the channels; None where each has all."""
    if not JOINS[module.join].splits_channels:
        return None
    wanted = [branch.channels for branch in module.branches]
    for widths in itertools.product(slot.branch[0].widths[0].values, repeat=len(wanted)):
        if shares(module.channels, widths) == wanted:
            return widths
    name = slot.shortcut.name.rsplit(".", 1)[0]
    raise OutsideSpace(f"{name}: no widths share {module.channels} channels as {wanted}")


def _with_share(draft: BranchDraft, share: float) -> BranchDraft:
    widths = list(draft.widths)
    widths[positions_with_width(draft.tokens, True)[-1]] = share
    return BranchDraft(draft.tokens, tuple(widths))
