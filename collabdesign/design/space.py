"""DesignSpace: parameters <-> architecture, and ways through the space.

A parameter set is a flat ``{name: value}`` of the freedoms that are active: how many branches
there are decides which layers are, and so on. Every complete set decodes; what cannot be built
as drawn is repaired as :mod:`collabdesign.design.draft` says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from collabdesign.design.architecture import Architecture, Head, Stem
from collabdesign.design.cost import part_costs
from collabdesign.design.draft import (
    BranchDraft,
    ModuleDraft,
    ModuleShape,
    build_module,
    positions_with_width,
)
from collabdesign.design.encode import encode_design
from collabdesign.design.layer_words import parse_token
from collabdesign.design.operators import JOIN_OF_ONE, JOINS
from collabdesign.design.slots import (
    ModuleSlot,
    Parameter,
    design_size,
    network_slot,
    parameters_of,
    size_of,
)
from collabdesign.errors import InputError, OutsideSpace, Problem

if TYPE_CHECKING:
    from collabdesign.design.requirements import Requirements

Params = dict[str, Any]
Pick = Callable[[Parameter], Any]


class Suggester(Protocol):
    """What Optuna's trials offer and :meth:`DesignSpace.suggest` uses."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


class _Drawn(NamedTuple):
    """A parameter set, and the parts of a network that it says."""

    params: Params
    stem: Stem
    modules: list[tuple[ModuleDraft, ModuleShape]]
    head: Head


class DesignSpace:
    """All architectures that a prototype allows, at one input size and number of classes.

    Args:
        requirements: Gives the prototype, the input and the classes.

    Raises:
        InputError: The prototype does not hold together at this resolution.
    """

    def __init__(self, requirements: Requirements) -> None:
        prototype, data = requirements.prototype, requirements.data
        problems = [
            Problem(f"prototype.{'.'.join(map(str, place))}: {message}")
            for place, message in prototype.problems(data.resolution)
        ]
        if problems:
            raise InputError(problems)
        self._shape = data.channels, data.resolution, data.classes
        self._slot = network_slot(prototype)
        #: Every parameter that can be active, by name.
        self.parameters: dict[str, Parameter] = {
            parameter.name: parameter
            for parameter in parameters_of(self._slot)
            if parameter.is_free
        }

    # -- parameters to architecture ---------------------------------------------------------

    def decode(self, params: Mapping[str, Any]) -> Architecture:
        """The architecture of a parameter set; inactive parameters are passed over.

        Raises:
            OutsideSpace: An active parameter is missing or has a value it may not have, or a
                name is unknown.
        """
        unknown = params.keys() - self.parameters.keys()
        if unknown:
            raise OutsideSpace(f"the space has no parameter {min(unknown)!r}")

        def pick(parameter: Parameter) -> Any:
            if parameter.name not in params:
                raise OutsideSpace(f"the parameter {parameter.name!r} is missing")
            return _allowed(parameter, params[parameter.name])

        return self._build(self._ask(pick))

    def suggest(self, trial: Suggester) -> Params:
        """Ask a trial for every active parameter, ranges as integers, choices as categories."""

        def pick(parameter: Parameter) -> Any:
            values = parameter.values
            if parameter.is_range:
                step = values[1] - values[0]
                return trial.suggest_int(parameter.name, values[0], values[-1], step=step)
            return trial.suggest_categorical(parameter.name, values)

        return self._ask(pick).params

    def sample(self, rng: np.random.Generator) -> Params:
        """A parameter set with every active parameter drawn uniformly; :meth:`decode` it."""
        return self.vary({}, rng, 1.0)

    def own(self) -> Params:
        """The human's own values: the only, the first, the middle of each freedom."""
        return self.complete({})

    def complete(self, params: Mapping[str, Any]) -> Params:
        """Drop what is not active, give the own value to what is active and missing.

        Raises:
            OutsideSpace: An active parameter has a value it may not have.
        """
        return self._completed(params).params

    # -- architecture to parameters ---------------------------------------------------------

    def encode(self, architecture: Architecture) -> Params:
        """A parameter set whose :meth:`decode` is the architecture.

        Raises:
            OutsideSpace: No parameter set gives it; the message says where it leaves the space.
        """
        shape = architecture.input_channels, architecture.resolution, architecture.classes
        names = "input channels", "resolution", "classes"
        for what, mine, its in zip(names, self._shape, shape, strict=True):
            if mine != its:
                raise OutsideSpace(f"the space has {what} {mine}, the architecture {its}")
        stages = architecture.modules[-1].stage + 1
        refusals = []
        for places in combinations(range(len(self._slot.stages)), stages):
            left_out = set(range(len(self._slot.stages))) - set(places)
            if all(0 in self._slot.stages[index].modules.values for index in left_out):
                try:
                    return self._encode_at(architecture, places)
                except OutsideSpace as refused:
                    refusals.append(refused)
        if refusals:
            raise refusals[0]
        raise OutsideSpace(
            f"the space has {len(self._slot.stages)} stages, the architecture {stages}"
        )

    def _encode_at(self, architecture: Architecture, places: Sequence[int]) -> Params:
        """The same, with the architecture's stages in these places of the space."""
        params: Params = {}

        def put(parameter: Parameter, value: Any) -> None:
            value = _allowed(parameter, value)
            if parameter.is_free:
                params[parameter.name] = value

        stem, head = architecture.stem, architecture.head
        for key, parameter in self._slot.stem._asdict().items():
            put(parameter, getattr(stem, key))
        in_channels = stem.channels
        for index, stage in enumerate(self._slot.stages):
            modules = [
                module
                for module in architecture.modules
                if index in places and module.stage == places.index(index)
            ]
            put(stage.modules, len(modules))
            if not modules:
                continue
            stride, channels = modules[0].stride, modules[0].channels
            put(stage.stride, stride)
            put(stage.channels, channels)
            pairs = []
            for module in modules:
                if module.channels != channels:
                    raise OutsideSpace(
                        f"all modules of a stage have its channels, {channels} in "
                        f"stage {index + 1}, got {module.channels}"
                    )
                pairs.append((module, ModuleShape(module.stage, stride, in_channels, channels)))
                stride, in_channels = 1, channels
            alike = [pairs] if stage.shared else [[pair] for pair in pairs]
            for design, group in zip(stage.designs, alike, strict=False):
                encode_design(design, group, put)
        put(self._slot.head.features, head.features)
        if head.features:
            put(self._slot.head.activation, head.activation)
        if self.decode(params) != architecture:
            raise OutsideSpace("no parameter set of the space gives this architecture")
        return params

    # -- ways through the space -------------------------------------------------------------

    def vary(self, params: Mapping[str, Any], rng: np.random.Generator, rate: float) -> Params:
        """A variation: each active parameter is drawn anew with probability ``rate``.

        What becomes active by a change and is not among ``params`` is drawn too.
        """

        def pick(parameter: Parameter) -> Any:
            if parameter.name in params and rng.random() >= rate:
                return params[parameter.name]
            return parameter.values[int(rng.random() * len(parameter.values))]

        return self._ask(pick).params

    def neighbours(self, params: Mapping[str, Any]) -> Iterator[Params]:
        """Parameter sets that differ in one parameter by one step and give another network.

        A step is the next value of a range, any other value of choices. What becomes active by
        the change gets its own value. Each network is given once.
        """
        here = self.complete(params)
        seen = {self.decode(here).id}
        for name, value in here.items():
            for other in self.parameters[name].steps_from(value):
                neighbour = self._completed({**here, name: other})
                identity = self._build(neighbour).id
                if identity not in seen:
                    seen.add(identity)
                    yield neighbour.params

    def size(self) -> int:
        """How many parameter sets there are (several may spell one network)."""
        features, activation = self._slot.head
        total = size_of(*self._slot.stem)
        total *= sum(size_of(activation) if count else 1 for count in features.values)
        for stage in self._slot.stages:
            shape = size_of(stage.stride, stage.channels)
            total *= sum(
                shape * prod(design_size(d) for d in stage.designs[: 1 if stage.shared else count])
                if count
                else 1
                for count in stage.modules.values
            )
        return total

    def descend(
        self, params: Params, score: Callable[[Architecture], float], enough: float = -math.inf
    ) -> Params:
        """Coordinate descent: give each parameter its best value in turn until none changes.

        Then it crosses the plateau that it stands on, towards networks with the same score whose
        parts need less memory or, where that is equal, fewer multiply-adds: the peak of a network
        whose modules need the same stays where it is until the last of them is smaller. Where a
        lower score is met, the descent goes on there. Both ways only fall, so that it ends.

        Args:
            params: Where to start.
            score: What to lower, a function of the architecture.
            enough: The score at which it ends; 0 for what only counts how much is too much.

        Returns:
            The first network found with the lowest score; ``params`` where none is lower.
        """

        def smaller(architecture: Architecture) -> tuple[float, ...]:
            parts = part_costs(architecture)
            needed = sum(part.peak_elements for part in parts)
            return score(architecture), needed, sum(part.macs for part in parts)

        def lower(architecture: Architecture) -> tuple[float, ...]:
            return (score(architecture),)

        here, best = self._fall(params, lower, enough)
        while best > enough:
            there, reached = self._fall(here, smaller, math.nextafter(best, -math.inf))
            if reached >= best:
                break
            here, best = self._fall(there, lower, enough)
        return here

    def _fall(
        self, params: Params, rank: Callable[[Architecture], tuple[float, ...]], enough: float
    ) -> tuple[Params, float]:
        """Where no parameter alone gives a lower rank, or the first of it is at most enough."""
        drawn = self._completed(params)
        here, best = drawn.params, rank(self._build(drawn))
        improved = True
        while improved and best[0] > enough:
            improved = False
            for name in list(here):
                for value in self.parameters[name].values:
                    if here.get(name, value) == value:  # or it is no longer active
                        continue
                    drawn = self._completed({**here, name: value})
                    reached = rank(self._build(drawn))
                    if reached < best:
                        here, best, improved = drawn.params, reached, True
                        if best[0] <= enough:
                            return here, best[0]
        return here, best[0]

    # -- the walk that all of the above share -----------------------------------------------

    def _completed(self, params: Mapping[str, Any]) -> _Drawn:
        return self._ask(lambda p: _allowed(p, params.get(p.name, p.own)))

    def _build(self, drawn: _Drawn) -> Architecture:
        modules = tuple(build_module(draft, shape) for draft, shape in drawn.modules)
        return Architecture(*self._shape, drawn.stem, modules, drawn.head)

    def _ask(self, pick: Pick) -> _Drawn:
        """Ask once for each active parameter that is free, in order."""
        params: Params = {}

        def value_of(parameter: Parameter) -> Any:
            if not parameter.is_free:
                return parameter.own
            value = params[parameter.name] = pick(parameter)
            return value

        stem = Stem(*map(value_of, self._slot.stem))
        modules = []
        in_channels = stem.channels
        for index, stage in enumerate(self._slot.stages):
            count = value_of(stage.modules)
            if not count:
                continue
            stride = value_of(stage.stride)
            channels = value_of(stage.channels)
            for number in range(count):
                if number == 0 or not stage.shared:
                    draft = _draft(stage.designs[number], value_of)
                modules.append((draft, ModuleShape(index, stride, in_channels, channels)))
                stride, in_channels = 1, channels
        features = value_of(self._slot.head.features)
        head = Head(features, value_of(self._slot.head.activation)) if features else Head(0)
        return _Drawn(params, stem, modules, head)


def _allowed(parameter: Parameter, value: Any) -> Any:
    """The parameter's value that equals ``value``: 2 for 2.0, so that types do not creep in."""
    try:
        return parameter.values[parameter.values.index(value)]
    except ValueError:
        raise OutsideSpace(
            f"{parameter.name} must be one of {list(parameter.values)}, got {value!r}"
        ) from None


def _draft(slot: ModuleSlot, pick: Pick) -> ModuleDraft:
    shortcut = pick(slot.shortcut)
    count = pick(slot.branches)
    join = pick(slot.join) if count > 1 else JOIN_OF_ONE
    branches = []
    for branch in slot.branch[:count]:
        depth = pick(branch.depth)
        tokens = tuple(parse_token(pick(layer)) for layer in branch.layers[:depth])
        widths = [1.0] * depth
        for position in positions_with_width(tokens, JOINS[join].splits_channels):
            widths[position] = pick(branch.widths[position])
        branches.append(BranchDraft(tokens, tuple(widths)))
    return ModuleDraft(
        shortcut,
        join,
        pick(slot.attention),
        pick(slot.activation),
        pick(slot.output),
        tuple(branches),
    )
