"""Architecture > Module > Branch > Layer: one complete proposal as plain frozen data.

An architecture holds no weights. Everything in it is explicit: kernels, strides, groups and
output channels are numbers; input channels and resolutions follow from what comes before.
A value checks itself when it is built and takes its canonical form there, so that two
spellings of one network are equal and share one :attr:`Architecture.id`.

How a module computes, which :mod:`collabdesign.design.cost` counts and
:mod:`collabdesign.evaluate.network` builds:

- every convolution has no bias and is followed by batch normalisation;
- inside a branch the module's activation follows every layer whose row in
  :mod:`collabdesign.design.operators` says so, such as convolutions, but the branch's last; a
  layer may set another one, or none;
- branches join by ``add`` (summed one after the other) or ``concat``;
- attention, where there is any, scales the joined map; the shortcut is added after it;
- the module's output is ``activated`` or left ``linear``.

The last module is followed by the head: a 1x1 convolution to ``features`` channels with
normalisation and activation (none where ``features`` is 0), global average pooling and one
linear layer with a bias.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

from collabdesign.design.operators import (
    ACTIVATIONS,
    ATTENTIONS,
    JOIN_OF_ONE,
    JOINS,
    NO_ACTIVATION,
    OPERATORS,
    OWN_ACTIVATION,
    SETTINGS,
    UNUSED_ACTIVATION,
)
from collabdesign.errors import InputError

SHORTCUTS = ("none", "identity", "projection")
OUTPUTS = ("activated", "linear")

MAX_BRANCHES = 3
MAX_DEPTH = 4


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


# These four write their message only where it is needed: they check every value of every layer.


def _a(op: str) -> str:
    return f"an {op}" if op[0] in "aeiou" else f"a {op}"


def _require_int(name: str, value: object, low: int) -> None:
    if type(value) is not int or value < low:
        raise InputError(f"{name} must be a whole number of at least {low}, got {value!r}")


def _require_one_of(name: str, value: object, allowed: Collection[str]) -> None:
    if type(value) is not str or value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _require_stride(name: str, value: object) -> None:
    if type(value) is not int or value not in (1, 2):
        raise InputError(f"{name} must be 1 or 2, got {value!r}")


def _require_odd(name: str, value: object) -> None:
    if type(value) is not int or value < 1 or value % 2 == 0:
        raise InputError(f"{name} must be an odd whole number, got {value!r}")


@dataclass(frozen=True, slots=True, order=True)
class Layer:
    """One layer of a branch.

    Canonical form: settings are sorted, and those that are as the table has them are left out.

    Attributes:
        op: Its row in ``OPERATORS``.
        kernel: Odd side of the square kernel; the padding keeps the resolution.
        stride: 1 or 2, in both directions.
        groups: Divides the input and the output channels.
        channels: Output channels.
        settings: Pairs of a name in ``SETTINGS`` and a value.
    """

    op: str
    kernel: int
    stride: int
    groups: int
    channels: int
    settings: tuple[tuple[str, int | str], ...] = ()

    def __post_init__(self) -> None:
        op = self.op
        _require_one_of("layer op", op, OPERATORS)
        _require_odd("layer kernel", self.kernel)
        _require_stride("layer stride", self.stride)
        _require_int("layer groups", self.groups, 1)
        _require_int("layer channels", self.channels, 1)
        row = OPERATORS[op]
        if self.groups > 1 and not row.has_groups:
            raise InputError(f"{_a(op)} layer has groups 1, got {self.groups}")
        if self.stride > 1 and not row.takes_stride:
            raise InputError(f"{_a(op)} layer has stride 1, got {self.stride}")
        least = row.least_kernel
        if self.kernel < least or (self.kernel > least and not row.has_kernel):
            rule = f"a kernel of at least {least}" if row.has_kernel else f"the kernel {least}"
            raise InputError(f"{_a(op)} layer has {rule}, got {self.kernel}")
        if self.settings:
            object.__setattr__(self, "settings", self._canonical_settings())

    def _canonical_settings(self) -> tuple[tuple[str, int | str], ...]:
        possible = OPERATORS[self.op].settings_at(self.kernel)
        for name, value in self.settings:
            if name not in possible:
                raise InputError(
                    f"{_a(self.op)} layer of kernel {self.kernel} has no {name} to set"
                )
            if not SETTINGS[name].allows(value):
                rule = ", ".join(map(str, SETTINGS[name].values)) or "a whole number from 1"
                raise InputError(f"layer {name} must be one of {rule}, got {value!r}")
        return tuple(sorted((name, v) for name, v in self.settings if v != SETTINGS[name].default))


@dataclass(frozen=True, slots=True, order=True)
class Branch:
    """A sequence of one to four layers."""

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        _require(
            1 <= len(self.layers) <= MAX_DEPTH,
            f"a branch has 1 to {MAX_DEPTH} layers, got {len(self.layers)}",
        )

    @property
    def stride(self) -> int:
        """Product of the strides of the layers."""
        return prod(layer.stride for layer in self.layers)

    @property
    def channels(self) -> int:
        """Output channels."""
        return self.layers[-1].channels

    def with_inputs(self, in_channels: int) -> Iterator[tuple[Layer, int]]:
        """Each layer with its input channels, from those of the branch on."""
        for layer in self.layers:
            yield layer, in_channels
            in_channels = layer.channels

    def activations(self, activation: str) -> tuple[str | None, ...]:
        """What follows each layer, ``none`` included; None where nothing can follow.

        Args:
            activation: The module's.
        """
        inside = (
            str(dict(layer.settings).get(OWN_ACTIVATION, activation))
            if OPERATORS[layer.op].is_activated
            else None
            for layer in self.layers[:-1]
        )
        return (*inside, None)

    def with_activations(self, own: Sequence[str | None]) -> Branch:
        """The same layers, each with an activation of its own or, for None, the module's."""
        if not any(own) and not any(layer.settings for layer in self.layers):
            return self
        return Branch(
            tuple(
                replace(
                    layer,
                    settings=(
                        *(pair for pair in layer.settings if pair[0] != OWN_ACTIVATION),
                        *([] if each is None else [(OWN_ACTIVATION, each)]),
                    ),
                )
                for layer, each in zip(self.layers, own, strict=True)
            )
        )


@dataclass(frozen=True, slots=True)
class Module:
    """Parallel branches, their join, attention and shortcut.

    Canonical form: branches whose order does not matter stand in sorted order; one branch
    alone joins by ``add``; where nothing in the module is activated, the activation is
    ``relu``. A layer has an activation of its own only where one follows and it is another
    than the module's; where the output is linear, the module's is the first by name of those
    that follow a layer.

    Attributes:
        stage: Stage the module belongs to, from 0.
        stride: 1 or 2; every branch and the shortcut reduce the resolution by it.
        channels: Output channels.
        shortcut: ``none``, ``identity`` (same shape on both ends) or ``projection`` (1x1
            convolution with the module's stride and normalisation).
        join: ``add`` or ``concat``.
        attention: ``none`` or ``squeeze_excite``.
        activation: One kind for all layers of the module.
        output: ``activated`` or ``linear``.
        branches: One to three.
    """

    stage: int
    stride: int
    channels: int
    shortcut: str
    join: str
    attention: str
    activation: str
    output: str
    branches: tuple[Branch, ...]

    def __post_init__(self) -> None:
        _require_int("module stage", self.stage, 0)
        _require_stride("module stride", self.stride)
        _require_int("module channels", self.channels, 1)
        _require_one_of("shortcut", self.shortcut, SHORTCUTS)
        _require_one_of("join", self.join, JOINS)
        _require_one_of("attention", self.attention, ATTENTIONS)
        _require_one_of("activation", self.activation, ACTIVATIONS)
        _require_one_of("output", self.output, OUTPUTS)
        branches = tuple(self.branches)
        _require(
            1 <= len(branches) <= MAX_BRANCHES,
            f"a module has 1 to {MAX_BRANCHES} branches, got {len(branches)}",
        )
        if len(branches) == 1:
            object.__setattr__(self, "join", JOIN_OF_ONE)
        for branch in branches:
            _require(
                branch.stride == self.stride,
                f"every branch of a module reduces by its stride {self.stride}, "
                f"got {branch.stride}",
            )
        branches = self._with_canonical_activations(branches)
        widths = [branch.channels for branch in branches]
        if JOINS[self.join].splits_channels:
            _require(
                sum(widths) == self.channels,
                f"concatenated branches sum to the module's {self.channels} channels, "
                f"got {sum(widths)}",
            )
        else:
            branches = tuple(sorted(branches))
            _require(
                set(widths) == {self.channels},
                f"added branches all end in the module's {self.channels} channels, "
                f"got {sorted(set(widths))}",
            )
        object.__setattr__(self, "branches", branches)

    def _with_canonical_activations(self, branches: tuple[Branch, ...]) -> tuple[Branch, ...]:
        has_own = any(layer.settings for branch in branches for layer in branch.layers)
        if self.output == "activated" and not has_own:
            return branches
        follow = [branch.activations(self.activation) for branch in branches]
        if self.output != "activated":
            used = {each for inside in follow for each in inside if each} - {NO_ACTIVATION}
            object.__setattr__(self, "activation", min(used, default=UNUSED_ACTIVATION))
        if not has_own:
            return branches
        return tuple(
            branch.with_activations([None if each == self.activation else each for each in inside])
            for branch, inside in zip(branches, follow, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Stem:
    """The first convolution, with normalisation and activation."""

    kernel: int
    stride: int
    channels: int
    activation: str = UNUSED_ACTIVATION

    def __post_init__(self) -> None:
        _require_odd("stem kernel", self.kernel)
        _require_stride("stem stride", self.stride)
        _require_int("stem channels", self.channels, 1)
        _require_one_of("stem activation", self.activation, ACTIVATIONS)


@dataclass(frozen=True, slots=True)
class Head:
    """What follows the last module; ``features`` 0 leaves out the 1x1 convolution.

    Canonical form: without features nothing is activated, and the activation is ``relu``.
    """

    features: int
    activation: str = UNUSED_ACTIVATION

    def __post_init__(self) -> None:
        _require_int("head features", self.features, 0)
        _require_one_of("head activation", self.activation, ACTIVATIONS)
        if self.features == 0:
            object.__setattr__(self, "activation", UNUSED_ACTIVATION)


@dataclass(frozen=True)
class Architecture:
    """One complete network, without weights.

    Canonical form: the stages that have modules are counted from 0, without gaps.

    Attributes:
        input_channels: 1 or 3, usually.
        resolution: Side of the square input in pixels.
        classes: Outputs of the last linear layer.
        stem: The first convolution.
        modules: In order; their stages never fall.
        head: What follows them.
    """

    input_channels: int
    resolution: int
    classes: int
    stem: Stem
    modules: tuple[Module, ...]
    head: Head

    def __post_init__(self) -> None:
        _require_int("input_channels", self.input_channels, 1)
        _require_int("resolution", self.resolution, 1)
        _require_int("classes", self.classes, 1)
        object.__setattr__(self, "modules", tuple(self.modules))
        _require(len(self.modules) >= 1, "an architecture has at least one module")
        channels, stage = self.stem.channels, 0
        for number, module in enumerate(self.modules, start=1):
            _require(module.stage >= stage, f"module {number}: stages must not fall")
            stage = module.stage
            _check_module(number, module, channels)
            channels = module.channels
        self._count_stages()

    def _count_stages(self) -> None:
        numbers = {
            stage: number
            for number, stage in enumerate(dict.fromkeys(each.stage for each in self.modules))
        }
        if any(stage != number for stage, number in numbers.items()):
            counted = (replace(each, stage=numbers[each.stage]) for each in self.modules)
            object.__setattr__(self, "modules", tuple(counted))

    @cached_property
    def id(self) -> str:
        """Hash of the canonical form, input and classes included: 12 hexadecimal digits."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def layers_with_inputs(self) -> Iterator[tuple[Layer, int]]:
        """The layers of all modules, each with its input channels."""
        channels = self.stem.channels
        for module in self.modules:
            for branch in module.branches:
                yield from branch.with_inputs(channels)
            channels = module.channels

    def to_dict(self) -> dict[str, Any]:
        """Plain data that ``json.dumps`` takes; :meth:`from_dict` is its inverse."""
        return {"version": 1, **_plain(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Architecture:
        """Build from :meth:`to_dict`'s form.

        Raises:
            InputError: A key is missing or unknown, or a value breaks a rule.
        """
        values = _exactly("an architecture", data, ("version", *_fields(cls)))
        version = values.pop("version")
        _require(type(version) is int and version == 1, f"version must be 1, got {version!r}")
        values["stem"] = Stem(**_exactly("stem", values["stem"], _fields(Stem)))
        values["head"] = Head(**_exactly("head", values["head"], _fields(Head)))
        values["modules"] = tuple(
            _module_from_dict(f"module {number}", module)
            for number, module in enumerate(_items("modules", values["modules"]), start=1)
        )
        return cls(**values)


def _fields(kind: type[Any]) -> tuple[str, ...]:
    names: tuple[str, ...] = kind.__match_args__  # dataclasses.fields takes longer
    return names


def _plain(value: Any) -> Any:
    """Lists and mappings of plain values; the settings of a layer stand beside its fields."""
    if isinstance(value, int | str):
        return value
    if isinstance(value, Branch):
        value = value.layers
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    plain = {name: _plain(getattr(value, name)) for name in _fields(type(value))}
    settings = plain.pop("settings", ())
    return {**plain, **dict(settings)}


def _module_from_dict(name: str, data: object) -> Module:
    values = _exactly(name, data, _fields(Module))
    branches = []
    for layers in _items(f"{name}: branches", values["branches"]):
        items = _items(f"{name}: a branch", layers)
        branches.append(Branch(tuple(_layer_from_dict(f"{name}: a layer", item) for item in items)))
    return Module(**{**values, "branches": tuple(branches)})


def _layer_from_dict(name: str, data: object) -> Layer:
    settings: dict[str, Any] = {}
    if isinstance(data, Mapping):
        settings = {key: data[key] for key in data if key in SETTINGS and key != "groups"}
        data = {key: data[key] for key in data if key not in settings}
    *keys, _ = _fields(Layer)
    return Layer(**_exactly(name, data, keys), settings=tuple(settings.items()))


def _exactly(name: str, data: object, keys: Sequence[str]) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise InputError(f"{name} must be a mapping, got {type(data).__name__}")
    _require(
        data.keys() == set(keys),
        f"{name} must have the keys {', '.join(keys)}, got {', '.join(map(str, data)) or 'none'}",
    )
    return dict(data)


def _items(name: str, data: object) -> list[Any] | tuple[Any, ...]:
    if not isinstance(data, list | tuple):
        raise InputError(f"{name} must be a list, got {type(data).__name__}")
    return data


def _check_module(number: int, module: Module, in_channels: int) -> None:
    for branch in module.branches:
        for layer, channels in branch.with_inputs(in_channels):
            if channels % layer.groups or layer.channels % layer.groups:
                raise InputError(
                    f"module {number}: groups must divide {channels} input and {layer.channels} "
                    f"output channels, got {layer.groups}"
                )
            if layer.channels != channels and OPERATORS[layer.op].keeps_channels:
                raise InputError(
                    f"module {number}: {_a(layer.op)} layer keeps its {channels} channels, "
                    f"got {layer.channels}"
                )
    _require(
        module.shortcut != "identity" or (module.stride == 1 and in_channels == module.channels),
        f"module {number}: an identity shortcut needs equal shapes on both ends, got "
        f"{in_channels} to {module.channels} channels at stride {module.stride}",
    )
