"""DesignSpace: parameters <-> architecture, and ways through the space.

A parameter set is a flat ``{name: value}`` of the freedoms that are active: how many branches
there are decides which layers are, and so on. Every complete set decodes; what cannot be built
as drawn is repaired as :mod:`collabdesign.design.draft` says.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

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
    at_most,
    design_size,
    one_step,
    parameter_of,
    size_of,
    stage_slot,
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


class DesignSpace:
    """All architectures that a prototype allows, at one input size and number of classes.

    Args:
        requirements: Gives the prototype, the input and the classes.

    Raises:
        InputError: The prototype does not hold together at this resolution.
    """

    def __init__(self, requirements: Requirements) -> None:
        prototype, data = requirements.prototype, requirements.data
        problems = prototype.problems(data.resolution)
        if problems:
            raise InputError(
                [
                    Problem(f"prototype.{'.'.join(map(str, place))}: {message}")
                    for place, message in problems
                ]
            )
        self._input_channels = data.channels
        self._resolution = data.resolution
        self._classes = data.classes
        stem, head = prototype.stem, prototype.head
        self._stem_kernel = parameter_of("stem.kernel", stem.kernel)
        self._stem_stride = parameter_of("stem.stride", stem.stride)
        self._stem_channels = parameter_of("stem.channels", stem.channels)
        self._stem_activation = parameter_of("stem.activation", stem.activation)
        self._head_features = parameter_of("head.features", head.features)
        self._head_activation = parameter_of("head.activation", head.activation)
        self._stages = tuple(
            stage_slot(number, stage, prototype.modules[stage.module])
            for number, stage in enumerate(prototype.stages, start=1)
        )
        #: Every parameter that can be active, by name.
        self.parameters: dict[str, Parameter] = {
            parameter.name: parameter for parameter in self._all() if parameter.is_free
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
            if len(parameter.values) == 1:
                return parameter.own
            try:
                value = params[parameter.name]
            except KeyError:
                raise OutsideSpace(f"the parameter {parameter.name!r} is missing") from None
            return _allowed(parameter, value)

        return self._walk(pick)

    def suggest(self, trial: Suggester) -> Params:
        """Ask a trial for every active parameter, ranges as integers, choices as categories."""

        def pick(parameter: Parameter) -> Any:
            values = parameter.values
            if parameter.is_range:
                step = values[1] - values[0]
                return trial.suggest_int(parameter.name, values[0], values[-1], step=step)
            return trial.suggest_categorical(parameter.name, values)

        return self._collect(pick)

    def sample(self, rng: np.random.Generator) -> Params:
        """A parameter set with every active parameter drawn uniformly; :meth:`decode` it."""
        return self._collect(lambda p: p.values[int(rng.random() * len(p.values))])

    def own(self) -> Params:
        """The human's own values: the only, the first, the middle of each freedom."""
        return self._collect(lambda p: p.own)

    def complete(self, params: Mapping[str, Any]) -> Params:
        """Drop what is not active, give the own value to what is active and missing.

        Raises:
            OutsideSpace: An active parameter has a value it may not have.
        """
        return self._collect(lambda p: _allowed(p, params.get(p.name, p.own)))

    def active(self, params: Mapping[str, Any]) -> list[Parameter]:
        """The parameters that matter in a parameter set, in the order they are asked for."""
        return [self.parameters[name] for name in self.complete(params)]

    # -- architecture to parameters ---------------------------------------------------------

    def encode(self, architecture: Architecture) -> Params:
        """A parameter set whose :meth:`decode` is the architecture.

        Raises:
            OutsideSpace: No parameter set gives it; the message says where it leaves the space.
        """
        for what, mine, its in (
            ("input channels", self._input_channels, architecture.input_channels),
            ("resolution", self._resolution, architecture.resolution),
            ("classes", self._classes, architecture.classes),
        ):
            if mine != its:
                raise OutsideSpace(f"the space has {what} {mine}, the architecture {its}")
        params: Params = {}

        def put(parameter: Parameter, value: Any) -> None:
            value = _allowed(parameter, value)
            if parameter.is_free:
                params[parameter.name] = value

        stem, head = architecture.stem, architecture.head
        put(self._stem_kernel, stem.kernel)
        put(self._stem_stride, stem.stride)
        put(self._stem_channels, stem.channels)
        put(self._stem_activation, stem.activation)
        in_channels = stem.channels
        if architecture.modules[-1].stage + 1 != len(self._stages):
            raise OutsideSpace(
                f"the space has {len(self._stages)} stages, the architecture "
                f"{architecture.modules[-1].stage + 1}"
            )
        for index, stage in enumerate(self._stages):
            modules = [module for module in architecture.modules if module.stage == index]
            if not modules:
                raise OutsideSpace(f"stage {index + 1} has no module")
            put(stage.modules, len(modules))
            put(stage.stride, modules[0].stride)
            put(stage.channels, modules[0].channels)
            shapes = []
            for number, module in enumerate(modules):
                if module.channels != modules[0].channels:
                    raise OutsideSpace(
                        f"all modules of a stage have its channels, {modules[0].channels} in "
                        f"stage {index + 1}, got {module.channels}"
                    )
                stride = modules[0].stride if number == 0 else 1
                shapes.append(ModuleShape(index, stride, in_channels, modules[0].channels))
                in_channels = module.channels
            pairs = list(zip(modules, shapes, strict=True))
            if stage.shared:
                encode_design(stage.designs[0], pairs, put)
            else:
                for design, pair in zip(stage.designs, pairs, strict=False):
                    encode_design(design, [pair], put)
        put(self._head_features, head.features)
        if head.features:
            put(self._head_activation, head.activation)
        if self.decode(params) != architecture:
            raise OutsideSpace("no parameter set of the space gives this architecture")
        return params

    # -- ways through the space -------------------------------------------------------------

    def neighbours(self, params: Mapping[str, Any]) -> Iterator[Params]:
        """Parameter sets that differ in one parameter by one step and give another network.

        A step is the next value of a range, any other value of choices. What becomes active by
        the change gets its own value. Each network is given once.
        """
        here = self.complete(params)
        seen = {self.decode(here).id}
        for name, value in here.items():
            parameter = self.parameters[name]
            for other in one_step(parameter, value):
                neighbour = self.complete({**here, name: other})
                identity = self.decode(neighbour).id
                if identity not in seen:
                    seen.add(identity)
                    yield neighbour

    def vary(self, params: Mapping[str, Any], rng: np.random.Generator, rate: float) -> Params:
        """A variation: each active parameter is drawn anew with probability ``rate``.

        What becomes active by a change and is not among ``params`` is drawn too.
        """

        def pick(parameter: Parameter) -> Any:
            if parameter.name in params and rng.random() >= rate:
                return params[parameter.name]
            return parameter.values[int(rng.random() * len(parameter.values))]

        return self._collect(pick)

    def size(self) -> int:
        """How many parameter sets there are (several may spell one network)."""
        total = size_of(self._stem_kernel, self._stem_stride, self._stem_channels)
        total *= size_of(self._stem_activation)
        with_activation = len(self._head_activation.values)
        total *= sum(with_activation if features else 1 for features in self._head_features.values)
        for stage in self._stages:
            total *= size_of(stage.stride, stage.channels) * sum(
                prod(design_size(d) for d in stage.designs[: 1 if stage.shared else count])
                for count in stage.modules.values
            )
        return total

    def shrink(self, fits: Callable[[Architecture], bool]) -> Params | None:
        """The prototype's default network: its own values, shrunk until they fit.

        All channel counts fall together, each to the largest value it may have below the
        common factor, as little as fits; if that is not enough, the stages get their fewest
        modules, and then the hidden widths their smallest value. None where nothing of this
        fits.
        """
        scaled = {self._stem_channels.name, self._head_features.name}
        scaled |= {stage.channels.name for stage in self._stages}
        counts = {stage.modules.name for stage in self._stages}
        own = self.own()
        base = dict(own)
        for reduced in (set(), counts, {p.name for p in self._width_parameters()}):
            base |= {name: min(self.parameters[name].values) for name in reduced & own.keys()}
            for percent in range(100, -1, -1):
                params = dict(base)
                for name in scaled & base.keys():
                    params[name] = at_most(self.parameters[name], base[name] * percent / 100)
                params = self.complete(params)
                if fits(self.decode(params)):
                    return params
        return None

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

        is_enough = partial(operator.ge, enough)
        here, best = self._fall(self.complete(params), lower, is_enough)
        while best > enough:
            there, reached = self._fall(here, smaller, partial(operator.gt, best))
            if reached >= best:
                break
            here, best = self._fall(there, lower, is_enough)
        return here

    def _fall(
        self,
        here: Params,
        rank: Callable[[Architecture], tuple[float, ...]],
        is_enough: Callable[[float], bool],
    ) -> tuple[Params, float]:
        """Where no parameter alone gives a lower rank, or the first of it is enough."""
        best = rank(self.decode(here))
        improved = True
        while improved and not is_enough(best[0]):
            improved = False
            for name in list(here):
                if name not in here:
                    continue
                for value in self.parameters[name].values:
                    if value == here.get(name):
                        continue
                    there = self.complete({**here, name: value})
                    reached = rank(self.decode(there))
                    if reached < best:
                        here, best, improved = there, reached, True
                        if is_enough(best[0]):
                            return here, best[0]
                    if name not in here:
                        break
        return here, best[0]

    # -- the walk that all of the above share -----------------------------------------------

    def _collect(self, pick: Pick) -> Params:
        params: Params = {}

        def note(parameter: Parameter) -> Any:
            if len(parameter.values) == 1:
                return parameter.own
            value = params[parameter.name] = pick(parameter)
            return value

        for _ in self._visit(note):
            pass
        return params

    def _walk(self, pick: Pick) -> Architecture:
        stem, *drafts, head = self._visit(pick)
        modules = tuple(build_module(draft, shape) for draft, shape in drafts)
        return Architecture(
            self._input_channels, self._resolution, self._classes, stem, modules, head
        )

    def _visit(self, pick: Pick) -> Iterator[Any]:
        """Stem, each module's draft and shape, and head, asking for each active parameter once."""
        stem = Stem(
            pick(self._stem_kernel),
            pick(self._stem_stride),
            pick(self._stem_channels),
            pick(self._stem_activation),
        )
        yield stem
        in_channels = stem.channels
        for index, stage in enumerate(self._stages):
            count = pick(stage.modules)
            stride = pick(stage.stride)
            channels = pick(stage.channels)
            draft: ModuleDraft | None = None
            for number in range(count):
                if draft is None or not stage.shared:
                    draft = _draft(stage.designs[number], pick)
                shape = ModuleShape(index, stride if number == 0 else 1, in_channels, channels)
                yield draft, shape
                in_channels = channels
        features = pick(self._head_features)
        yield Head(features, pick(self._head_activation)) if features else Head(0)

    def _width_parameters(self) -> Iterator[Parameter]:
        for stage in self._stages:
            for design in stage.designs:
                for branch in design.branch:
                    yield from branch.widths

    def _all(self) -> Iterator[Parameter]:
        yield from (self._stem_kernel, self._stem_stride, self._stem_channels)
        yield self._stem_activation
        for stage in self._stages:
            yield from (stage.modules, stage.stride, stage.channels)
            for design in stage.designs:
                yield from (design.shortcut, design.branches, design.join)
                for branch in design.branch:
                    yield from (branch.depth, *branch.layers, *branch.widths)
                yield from (design.attention, design.activation, design.output)
        yield from (self._head_features, self._head_activation)


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
