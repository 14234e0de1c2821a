"""The freedoms of a prototype under the names that they have in a parameter set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from collabdesign.design.files.values import Section
from collabdesign.design.freedoms import Freedom
from collabdesign.design.layer_words import parse_token
from collabdesign.design.operators import JOINS
from collabdesign.design.prototype import ModuleFreedoms, Prototype, StageFreedoms


@dataclass(frozen=True, kw_only=True)
class Parameter(Freedom):
    """One freedom under its name, such as ``stage2.module1.branch1.layer2.width``."""

    name: str

    @property
    def is_free(self) -> bool:
        """Whether there is anything to choose; what is fixed is in no parameter set."""
        return len(self.values) > 1

    def steps_from(self, value: Any) -> Iterator[Any]:
        """The next values of a range, any other of choices."""
        here = self.values.index(value)
        for index, other in enumerate(self.values):
            if abs(index - here) == 1 or (index != here and not self.is_range):
                yield other


class StemSlot(NamedTuple):
    kernel: Parameter
    stride: Parameter
    channels: Parameter
    activation: Parameter


class BranchSlot(NamedTuple):
    depth: Parameter
    layers: tuple[Parameter, ...]
    widths: tuple[Parameter, ...]


class ModuleSlot(NamedTuple):
    shortcut: Parameter
    branches: Parameter
    join: Parameter
    branch: tuple[BranchSlot, ...]
    attention: Parameter
    activation: Parameter
    output: Parameter


class StageSlot(NamedTuple):
    modules: Parameter
    stride: Parameter
    channels: Parameter
    designs: tuple[ModuleSlot, ...]  # one a module, or one alone where it is shared
    shared: bool


class HeadSlot(NamedTuple):
    features: Parameter
    activation: Parameter


class NetworkSlot(NamedTuple):
    stem: StemSlot
    stages: tuple[StageSlot, ...]
    head: HeadSlot


def network_slot(prototype: Prototype) -> NetworkSlot:
    stages = enumerate(prototype.stages, start=1)
    return NetworkSlot(
        StemSlot(**_parameters("stem", prototype.stem, *StemSlot._fields)),
        tuple(_stage_slot(f"stage{i}", s, prototype.modules[s.module]) for i, s in stages),
        HeadSlot(**_parameters("head", prototype.head, *HeadSlot._fields)),
    )


def parameters_of(slot: Any) -> Iterator[Parameter]:
    """All parameters below a slot, in order."""
    if isinstance(slot, Parameter):
        yield slot
    elif isinstance(slot, tuple):
        for part in slot:
            yield from parameters_of(part)


def _parameter(name: str, freedom: Freedom) -> Parameter:
    return Parameter(name=name, **vars(freedom))


def _parameters(prefix: str, freedoms: Section, *keys: str) -> dict[str, Parameter]:
    return {key: _parameter(f"{prefix}.{key}", getattr(freedoms, key)) for key in keys}


def _stage_slot(name: str, stage: StageFreedoms, kind: ModuleFreedoms) -> StageSlot:
    shared = kind.share == "stage"
    designs = [f"module{i}" for i in range(1, max(stage.modules.values) + 1)]
    return StageSlot(
        **_parameters(name, stage, "modules", "stride", "channels"),
        designs=tuple(
            _module_slot(f"{name}.{each}", kind) for each in (["design"] if shared else designs)
        ),
        shared=shared,
    )


def _module_slot(name: str, kind: ModuleFreedoms) -> ModuleSlot:
    choices = ("shortcut", "branches", "join", "attention", "activation", "output")
    branches = range(1, max(kind.branches.values) + 1)
    return ModuleSlot(
        **_parameters(name, kind, *choices),
        branch=tuple(_branch_slot(f"{name}.branch{i}", kind) for i in branches),
    )


def _branch_slot(name: str, kind: ModuleFreedoms) -> BranchSlot:
    layers = range(max(kind.depth.values))
    return BranchSlot(
        _parameter(f"{name}.depth", kind.depth),
        tuple(_parameter(f"{name}.layer{i + 1}", kind.tokens(i)) for i in layers),
        tuple(_parameter(f"{name}.layer{i + 1}.width", kind.widths) for i in layers),
    )


def size_of(*parameters: Parameter) -> int:
    return prod(len(parameter.values) for parameter in parameters)


def design_size(slot: ModuleSlot) -> int:
    total = 0
    for count in slot.branches.values:
        for join in slot.join.values if count > 1 else (slot.join.values[0],):
            splits = count > 1 and JOINS[join].splits_channels
            total += prod(_size_of_branch(b, splits) for b in slot.branch[:count])
    return total * size_of(slot.shortcut, slot.attention, slot.activation, slot.output)


def _size_of_branch(slot: BranchSlot, has_share: bool) -> int:
    widths = len(slot.widths[0].values)
    choosing = [
        sum(parse_token(text).chooses_channels for text in layer.values) for layer in slot.layers
    ]
    keeping = [len(layer.values) - n for layer, n in zip(slot.layers, choosing, strict=True)]
    total = 0
    for depth in slot.depth.values:
        total += prod(keeping[:depth])
        for output in range(depth):
            hidden = prod(choosing[i] * widths + keeping[i] for i in range(output))
            total += hidden * choosing[output] * prod(keeping[output + 1 : depth])
    return total * (widths if has_share else 1)
