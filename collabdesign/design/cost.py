"""Architecture -> Cost, by arithmetic alone; and the names of what a network costs besides.

What is counted:

- ``macs``: multiply-accumulates of convolutions and linear layers at batch 1 and the input
  resolution, a bias one per output element. Normalisation, activations, pooling, adds and the
  attention's products are not counted.
- ``params``: everything that is learned, the two of normalisation per channel included;
  running statistics are not.
- ``weight_bytes``: ``params`` times the bytes of the precision; nothing is folded.
- ``peak_activation_bytes``: the largest sum of the tensors alive while one operation runs,
  times the bytes of the precision. The tensors are the input and every output of convolution,
  linear, pooling, add, concat and attention; normalisation and activation work in place;
  branches run in order and the shortcut last; branches that are added are summed as they come;
  a tensor lives from its writing to its last reading.

What one layer and one attention cost stands in :mod:`collabdesign.design.operators`.

``MEASURED`` are costs that no arithmetic tells: a runtime or a device does, before any training.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from collabdesign.design.architecture import Architecture, Module
from collabdesign.design.operators import ATTENTIONS, JOINS, OPERATORS, Work
from collabdesign.errors import InputError

BYTES_PER_VALUE = {"float32": 4, "float16": 2, "int8": 1}


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number of a cost, which may be limited and made small.

    Attributes:
        title: In reports and messages.
        short: In narrow columns; the title where empty.
        unit: What it is counted in: how it is written and shown.
        limit: Help text of the limit.
    """

    title: str
    unit: Literal["count", "bytes", "ms"]
    limit: str
    short: str = ""


@dataclass(frozen=True, kw_only=True)
class Metric(Quantity):
    """A quantity that arithmetic tells.

    Attributes:
        how: How it was counted, for certificates; ``{precision}`` stands for the precision.
        count: Its value, from a network's multiply-accumulates, its parameters, the largest
            number of tensor elements alive at once, and the bytes of one value.
    """

    how: str
    count: Callable[[int, int, int, int], int]


METRICS: dict[str, Metric] = {
    "macs": Metric(
        title="multiply-adds",
        short="MACs",
        unit="count",
        limit="Multiply-adds for one image, such as 10M. 1 MAC is 2 FLOPs.",
        how="counted from the architecture: convolutions and linear layers, batch 1",
        count=lambda macs, params, peak, size: macs,
    ),
    "params": Metric(
        title="parameters",
        short="params",
        unit="count",
        limit="Parameters, such as 320k.",
        how="counted from the architecture: everything that is learned",
        count=lambda macs, params, peak, size: params,
    ),
    "weight_bytes": Metric(
        title="weight memory",
        short="weights",
        unit="bytes",
        limit="Memory for the weights at deploy.precision, such as 1.2MB.",
        how="counted from the architecture: parameters at {precision}",
        count=lambda macs, params, peak, size: params * size,
    ),
    "peak_activation_bytes": Metric(
        title="peak activation memory",
        short="peak activation",
        unit="bytes",
        limit="Most memory for feature maps at any moment, for one image at deploy.precision, "
        "such as 512KiB.",
        how="counted from the architecture: lifetimes of tensors at {precision}",
        count=lambda macs, params, peak, size: peak * size,
    ),
}

MEASURED: dict[str, Quantity] = {
    "latency_ms": Quantity(
        title="latency",
        unit="ms",
        limit="Milliseconds for one image, such as 2.5, measured before any training; see latency.",
    ),
    "file_bytes": Quantity(
        title="file size",
        short="file",
        unit="bytes",
        limit="Size of the network's ONNX file, such as 200kB, measured before any training.",
    ),
}

QUANTITIES: Mapping[str, Quantity] = ChainMap(MEASURED, METRICS)  # type: ignore[arg-type]
"""All that may be limited; a chain is walked from its end."""


class Cost(Mapping[str, float]):
    """What a network costs: a number by the quantity's name, also as attributes.

    It cannot be edited. Arithmetic gives whole numbers, and only what was measured is there of
    ``MEASURED``. A cost that an earlier version stored may lack a later metric.
    """

    def __init__(self, *in_order: int, **numbers: float) -> None:
        """Take numbers by name, or in the order of ``METRICS``."""
        vars(self).update(zip(METRICS, in_order, strict=False), **numbers)

    def __getitem__(self, name: str) -> Any:
        return vars(self)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __len__(self) -> int:
        return len(vars(self))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a cost has {', '.join(QUANTITIES)}, got {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a cost cannot be edited")

    def __hash__(self) -> int:
        return hash(frozenset(self.items()))

    def __repr__(self) -> str:
        return f"Cost({', '.join(f'{name}={value}' for name, value in self.items())})"

    @classmethod
    def from_json(cls, data: Mapping[str, float] | Sequence[int]) -> Cost:
        """Read its dict, or the four numbers in order of earlier studies.

        Raises:
            ValueError: It is none of the two.
        """
        if not isinstance(data, Mapping):
            data = dict(zip(METRICS, data, strict=False)) if len(data) == 4 else {}
        if not data or not data.keys() <= QUANTITIES.keys():
            names = ", ".join(QUANTITIES)
            raise ValueError(f"a cost has {names}, got {', '.join(data) or 'none'}")
        return cls(**data)


@dataclass(frozen=True, slots=True)
class PartCost:
    """What one part of a network costs.

    Attributes:
        name: ``stem``, ``stage 1, module 2``, or ``head``.
        macs: Multiply-accumulates.
        params: Parameters.
        peak_elements: Largest number of tensor elements alive while the part runs.
        resolution_in: Side of its input in pixels.
        resolution_out: Side of its output in pixels; 1 for the head.
        channels_out: Output channels; the classes for the head.
    """

    name: str
    macs: int
    params: int
    peak_elements: int
    resolution_in: int
    resolution_out: int
    channels_out: int


@dataclass(frozen=True, slots=True)
class BodyCost:
    """What the stem or a module costs where a network is the body of a larger one.

    Attributes:
        macs: Multiply-accumulates.
        params: Parameters.
        peak_elements: Largest number of tensor elements alive while it runs, with the outputs of
            earlier parts that are read again later.
        channels: Of its output.
        height: Of its output.
        width: Likewise.
    """

    macs: int
    params: int
    peak_elements: int
    channels: int
    height: int
    width: int


def cost_of(architecture: Architecture, precision: str = "float32") -> Cost:
    """Cost of a network with its weights and activations at one precision.

    Args:
        architecture: The network.
        precision: ``float32``, ``float16`` or ``int8``.

    Raises:
        InputError: The precision is unknown.
    """
    if precision not in BYTES_PER_VALUE:
        raise InputError(
            f"precision must be one of {', '.join(BYTES_PER_VALUE)}, got {precision!r}"
        )
    macs = params = peak = 0
    for part_macs, part_params, part_peak, _, _, _ in _parts(architecture):
        macs += part_macs
        params += part_params
        if part_peak > peak:
            peak = part_peak
    width = BYTES_PER_VALUE[precision]
    numbers = {}
    for name, metric in METRICS.items():
        numbers[name] = metric.count(macs, params, peak, width)
    return Cost(**numbers)


def part_costs(architecture: Architecture) -> tuple[PartCost, ...]:
    """Costs of the stem, of every module and of the head; they sum to :func:`cost_of`."""
    names = ["stem"]
    stage, number = -1, 0
    for module in architecture.modules:
        number = number + 1 if module.stage == stage else 1
        stage = module.stage
        names.append(f"stage {stage + 1}, module {number}")
    parts = []
    size = architecture.resolution
    for name, part in zip([*names, "head"], _parts(architecture), strict=True):
        macs, params, peak, size_out, _, channels = part
        parts.append(PartCost(name, macs, params, peak, size, size_out, channels))
        size = size_out
    return tuple(parts)


def body_costs(
    architecture: Architecture, height: int, width: int, kept: Collection[int]
) -> Iterator[BodyCost]:
    """Costs of the stem and of every module, without the head, for a picture of any shape.

    Args:
        architecture: The network.
        height: Of the picture in pixels.
        width: Likewise.
        kept: Indices of parts, 0 for the stem, whose output is read again after the last of them;
            from its writing on it counts as alive.
    """
    *body, _ = _parts(architecture, (height, width), kept)
    held = kept_input = 0
    for index, (macs, params, peak, high, wide, channels) in enumerate(body):
        # The output of the part before it is this one's input, which its own peak has.
        yield BodyCost(macs, params, peak + held - kept_input, channels, high, wide)
        kept_input = channels * high * wide if index in kept else 0
        held += kept_input


def _parts(
    architecture: Architecture,
    picture: tuple[int, int] | None = None,
    kept: Collection[int] = (),
) -> Iterator[tuple[int, int, int, int, int, int]]:
    """MACs, parameters, peak of live elements, output's height, width and channels of each part.

    Args:
        architecture: The network.
        picture: Height and width of the input; the architecture's resolution where None.
        kept: Indices of parts, 0 for the stem, whose output stays alive.
    """
    stem = architecture.stem
    high, wide = picture or (architecture.resolution, architecture.resolution)
    in_channels, in_elements = architecture.input_channels, high * wide
    channels, high, wide = (
        stem.channels,
        (high - 1) // stem.stride + 1,
        (wide - 1) // stem.stride + 1,
    )
    weights = stem.kernel**2 * in_channels * channels
    live = in_channels * in_elements + channels * high * wide
    yield weights * high * wide, weights + 2 * channels, live, high, wide, channels
    work_of = {name: row.work for name, row in OPERATORS.items()}
    for index, module in enumerate(architecture.modules):
        macs, params, peak, high, wide = _module(
            module, channels, high, wide, work_of, index in kept
        )
        channels = module.channels
        yield macs, params, peak, high, wide, channels
    yield (*_head(architecture, channels, high * wide), 1, 1, architecture.classes)


def _module(
    module: Module,
    in_channels: int,
    high: int,
    wide: int,
    work_of: Mapping[str, Callable[..., Work] | None],
    input_stays: bool = False,
) -> tuple[int, int, int, int, int]:
    """MACs, parameters, peak of live elements, and the output's height and width.

    Written for speed: a search asks for it tens of thousands of times.
    """
    channels = module.channels
    branches = module.branches
    splits_channels = JOINS[module.join].splits_channels
    shortcut = module.shortcut
    high_out, wide_out = (high - 1) // module.stride + 1, (wide - 1) // module.stride + 1
    pixels_in, pixels_out = high * wide, high_out * wide_out
    input_elements = in_channels * pixels_in
    output_elements = channels * pixels_out
    macs = params = peak = 0

    joined = 0  # what finished branches hold: all that they are joined to, or all of them
    last = len(branches) - 1
    for index, branch in enumerate(branches):
        input_is_read_again = index < last or shortcut != "none" or input_stays
        held = joined + (input_elements if input_is_read_again else 0)
        layer_in, layer_high, layer_wide = in_channels, high, wide
        pixels, elements = pixels_in, input_elements
        beside = held if input_is_read_again else held + input_elements
        for layer in branch.layers:
            if layer.stride == 2:
                layer_high, layer_wide = (layer_high - 1) // 2 + 1, (layer_wide - 1) // 2 + 1
                pixels = layer_high * layer_wide
            layer_channels = layer.channels
            elements = layer_channels * pixels
            work = work_of[layer.op]
            if work is None:
                kernel = layer.kernel
                weights = kernel * kernel * (layer_in // layer.groups) * layer_channels
                macs += weights * pixels
                params += weights + 2 * layer_channels
                live = beside + elements
            else:
                layer_macs, layer_params, live = work(layer, layer_in, pixels)
                macs += layer_macs
                params += layer_params
                live += beside
            if live > peak:
                peak = live
            beside = held + elements
            layer_in = layer_channels
        if splits_channels or index == 0:
            joined += elements
        else:  # the sum so far, this branch and their new sum
            peak = max(peak, held + elements + output_elements)
            joined = output_elements

    input_for_shortcut = input_elements if shortcut != "none" or input_stays else 0
    if splits_channels:  # all branches and the map they are copied into
        peak = max(peak, input_for_shortcut + joined + output_elements)
    attention = ATTENTIONS[module.attention]
    if attention is not None:
        weights, learned, alive = attention.work(channels, output_elements)
        macs += weights
        params += learned
        peak = max(peak, input_for_shortcut + output_elements + alive)
    if shortcut == "projection":
        weights = in_channels * channels
        macs += weights * pixels_out
        params += weights + 2 * channels
        while_added = output_elements + (input_elements if input_stays else 0)
        peak = max(peak, 2 * output_elements + max(input_elements, while_added))
    elif shortcut == "identity":
        peak = max(peak, 2 * output_elements + input_elements)
    return macs, params, peak, high_out, wide_out


def _head(architecture: Architecture, channels: int, pixels: int) -> tuple[int, int, int]:
    features, classes = architecture.head.features, architecture.classes
    macs = params = peak = 0
    if features:
        macs = channels * features * pixels
        params = channels * features + 2 * features
        peak = (channels + features) * pixels
        channels = features
    weights = channels * classes + classes
    peak = max(peak, channels * pixels + channels, channels + classes)
    return macs + weights, params + weights, peak
