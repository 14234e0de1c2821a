"""Architecture -> Cost, by arithmetic alone.

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
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from collabdesign.design.architecture import Architecture, Module
from collabdesign.errors import InputError

BYTES_PER_VALUE = {"float32": 4, "float16": 2, "int8": 1}


@dataclass(frozen=True, slots=True)
class Cost(Mapping[str, int]):
    """What a network costs, by the metric's name; the module's docstring says what is counted."""

    macs: int
    params: int
    weight_bytes: int
    peak_activation_bytes: int

    def __getitem__(self, name: str) -> int:
        if name not in _NAMES:
            raise KeyError(name)
        value: int = getattr(self, name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)

    def to_json(self) -> dict[str, int]:
        """Plain data; :meth:`from_json` is its inverse."""
        return dict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, int] | Sequence[int]) -> Cost:
        """Read what :meth:`to_json` gave, or the four numbers in order of earlier studies."""
        return cls(**data) if isinstance(data, Mapping) else cls(*data)


_NAMES = ("macs", "params", "weight_bytes", "peak_activation_bytes")


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
    macs, params, peak, size = _stem(architecture)
    channels = architecture.stem.channels
    for module in architecture.modules:
        module_macs, module_params, module_peak, size = _module(module, channels, size)
        macs += module_macs
        params += module_params
        if module_peak > peak:
            peak = module_peak
        channels = module.channels
    head_macs, head_params, head_peak = _head(architecture, channels, size)
    params += head_params
    width = BYTES_PER_VALUE[precision]
    return Cost(macs + head_macs, params, params * width, max(peak, head_peak) * width)


def part_costs(architecture: Architecture) -> tuple[PartCost, ...]:
    """Costs of the stem, of every module and of the head; they sum to :func:`cost_of`."""
    macs, params, peak, size = _stem(architecture)
    channels = architecture.stem.channels
    parts = [PartCost("stem", macs, params, peak, architecture.resolution, size, channels)]
    stage, number = -1, 0
    for module in architecture.modules:
        number = number + 1 if module.stage == stage else 1
        stage = module.stage
        macs, params, peak, size_out = _module(module, channels, size)
        channels = module.channels
        name = f"stage {stage + 1}, module {number}"
        parts.append(PartCost(name, macs, params, peak, size, size_out, channels))
        size = size_out
    macs, params, peak = _head(architecture, channels, size)
    parts.append(PartCost("head", macs, params, peak, size, 1, architecture.classes))
    return tuple(parts)


def _stem(architecture: Architecture) -> tuple[int, int, int, int]:
    stem, in_channels, size = (
        architecture.stem,
        architecture.input_channels,
        architecture.resolution,
    )
    size_out = (size - 1) // stem.stride + 1
    weights = stem.kernel * stem.kernel * in_channels * stem.channels
    pixels = size_out * size_out
    live = in_channels * size * size + stem.channels * pixels
    return weights * pixels, weights + 2 * stem.channels, live, size_out


def _module(module: Module, in_channels: int, size: int) -> tuple[int, int, int, int]:
    """MACs, parameters, peak of live elements, and the output's resolution.

    Written for speed: a search asks for it tens of thousands of times.
    """
    channels = module.channels
    branches = module.branches
    concat = module.join == "concat"
    shortcut = module.shortcut
    size_out = (size - 1) // module.stride + 1
    pixels_out = size_out * size_out
    input_elements = in_channels * size * size
    output_elements = channels * pixels_out
    macs = params = peak = 0

    joined = 0  # what finished branches hold: their sum, or all of them for concat
    last = len(branches) - 1
    for index, branch in enumerate(branches):
        input_is_read_again = index < last or shortcut != "none"
        held = joined + (input_elements if input_is_read_again else 0)
        layer_in, layer_size, elements = in_channels, size, input_elements
        source_beside_held = 0 if input_is_read_again else input_elements
        for layer in branch.layers:
            layer_channels = layer.channels
            if layer.stride == 2:
                layer_size = (layer_size - 1) // 2 + 1
            pixels = layer_size * layer_size
            elements = layer_channels * pixels
            if layer.op == "conv":
                kernel = layer.kernel
                weights = kernel * kernel * (layer_in // layer.groups) * layer_channels
                macs += weights * pixels
                params += weights + 2 * layer_channels
            live = held + source_beside_held + elements
            if live > peak:
                peak = live
            source_beside_held = elements
            layer_in = layer_channels
        if concat or index == 0:
            joined += elements
        else:  # the sum so far, this branch and their new sum
            live = held + elements + output_elements
            if live > peak:
                peak = live
            joined = output_elements

    input_for_shortcut = input_elements if shortcut != "none" else 0
    if concat:  # all branches and the map they are copied into
        live = input_for_shortcut + joined + output_elements
        if live > peak:
            peak = live
    if module.attention == "squeeze_excite":
        squeezed = max(4, channels // 4)
        weights = 2 * channels * squeezed + squeezed + channels
        macs += weights
        params += weights
        # The map is alive beside: its means and the squeezed, the squeezed and the gate, and
        # at last the gate and the scaled map.
        live = input_for_shortcut + output_elements + channels + max(squeezed, output_elements)
        if live > peak:
            peak = live
    if shortcut == "projection":
        weights = in_channels * channels
        macs += weights * pixels_out
        params += weights + 2 * channels
        live = output_elements + input_elements + output_elements
        if live > peak:
            peak = live
        live = 3 * output_elements
        if live > peak:
            peak = live
    elif shortcut == "identity":
        live = output_elements + input_elements + output_elements
        if live > peak:
            peak = live
    return macs, params, peak, size_out


def _head(architecture: Architecture, channels: int, size: int) -> tuple[int, int, int]:
    features, classes = architecture.head.features, architecture.classes
    pixels = size * size
    macs = params = peak = 0
    if features:
        macs = channels * features * pixels
        params = channels * features + 2 * features
        peak = (channels + features) * pixels
        channels = features
    weights = channels * classes + classes
    live = max(channels * pixels + channels, channels + classes)
    return macs + weights, params + weights, max(peak, live)
