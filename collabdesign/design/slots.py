"""The freedoms of a prototype under the names that they have in a parameter set."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from collabdesign.design.freedoms import Freedom
from collabdesign.design.layer_words import parse_token
from collabdesign.design.operators import JOINS
from collabdesign.design.prototype import ModuleFreedoms, StageFreedoms


@dataclass(frozen=True, slots=True)
class Parameter:
    """One freedom under its name in a parameter set.

    Attributes:
        name: Such as ``stage2.module1.branch1.layer2.width``.
        values: What it may be.
        own: The human's own value.
        is_range: Steps of a range (neighbours are the next values) or choices (any other is).
    """

    name: str
    values: tuple[Any, ...]
    own: Any
    is_range: bool

    @property
    def is_free(self) -> bool:
        """Whether there is anything to choose; what is fixed is in no parameter set."""
        return len(self.values) > 1


@dataclass(frozen=True, slots=True)
class BranchSlot:
    depth: Parameter
    layers: tuple[Parameter, ...]
    widths: tuple[Parameter, ...]


@dataclass(frozen=True, slots=True)
class ModuleSlot:
    shortcut: Parameter
    branches: Parameter
    join: Parameter
    attention: Parameter
    activation: Parameter
    output: Parameter
    branch: tuple[BranchSlot, ...]


@dataclass(frozen=True, slots=True)
class StageSlot:
    modules: Parameter
    stride: Parameter
    channels: Parameter
    shared: bool
    designs: tuple[ModuleSlot, ...]  # one a module, or one alone where it is shared


def parameter_of(name: str, freedom: Freedom) -> Parameter:
    return Parameter(name, freedom.values, freedom.own, freedom.is_range)


def stage_slot(number: int, stage: StageFreedoms, kind: ModuleFreedoms) -> StageSlot:
    """The slot of a stage, numbered from 1."""
    name = f"stage{number}"
    if kind.share == "stage":
        designs: tuple[ModuleSlot, ...] = (_module_slot(f"{name}.design", kind),)
    else:
        designs = tuple(
            _module_slot(f"{name}.module{i}", kind) for i in range(1, max(stage.modules.values) + 1)
        )
    return StageSlot(
        parameter_of(f"{name}.modules", stage.modules),
        parameter_of(f"{name}.stride", stage.stride),
        parameter_of(f"{name}.channels", stage.channels),
        kind.share == "stage",
        designs,
    )


def _module_slot(name: str, kind: ModuleFreedoms) -> ModuleSlot:
    depth = max(kind.depth.values)

    def branch(prefix: str) -> BranchSlot:
        return BranchSlot(
            parameter_of(f"{prefix}.depth", kind.depth),
            tuple(parameter_of(f"{prefix}.layer{i + 1}", kind.tokens(i)) for i in range(depth)),
            tuple(parameter_of(f"{prefix}.layer{i + 1}.width", kind.widths) for i in range(depth)),
        )

    return ModuleSlot(
        parameter_of(f"{name}.shortcut", kind.shortcut),
        parameter_of(f"{name}.branches", kind.branches),
        parameter_of(f"{name}.join", kind.join),
        parameter_of(f"{name}.attention", kind.attention),
        parameter_of(f"{name}.activation", kind.activation),
        parameter_of(f"{name}.output", kind.output),
        tuple(branch(f"{name}.branch{i}") for i in range(1, max(kind.branches.values) + 1)),
    )


def one_step(parameter: Parameter, value: Any) -> list[Any]:
    if not parameter.is_range:
        return [other for other in parameter.values if other != value]
    index = parameter.values.index(value)
    return list(
        parameter.values[max(0, index - 1) : index] + parameter.values[index + 1 : index + 2]
    )


def at_most(parameter: Parameter, bound: float) -> Any:
    allowed = [value for value in parameter.values if value <= bound]
    return max(allowed) if allowed else min(parameter.values)


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
