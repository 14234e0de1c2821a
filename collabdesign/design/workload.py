"""Architecture -> the work in it, from which a runtime's time and a file's size are estimated.

Arithmetic alone, batch 1 at the input resolution. Counted as operations are convolutions, linear
layers, pooling, joins and shortcuts that add or concatenate, attention, and every activation but
the ReLU, which runtimes do within the convolution before it, like normalisation.
"""

from __future__ import annotations

from typing import NamedTuple

from collabdesign.design.architecture import Architecture, Layer, Module
from collabdesign.design.operators import (
    ATTENTIONS,
    JOINS,
    NO_ACTIVATION,
    OPERATORS,
    OWN_ACTIVATION,
    UNUSED_ACTIVATION,
)

_WITHIN = (NO_ACTIVATION, UNUSED_ACTIVATION)  # is no operation of its own


class Workload(NamedTuple):
    """What a runtime has to do for one image, each number at least 0.

    Attributes:
        networks: 1, what every network costs.
        operations: How many are called, one after the other.
        dense_macs: Multiply-accumulates of convolutions in one group, of linear layers and of
            attention.
        grouped_macs: Of convolutions in groups.
        depthwise_macs: Of those whose groups are single channels.
        moved: Tensor elements that all operations read and write.
        activated: Elements that go through an activation other than ReLU.
        params: Parameters.
    """

    networks: float
    operations: float
    dense_macs: float
    grouped_macs: float
    depthwise_macs: float
    moved: float
    activated: float
    params: float


def workload_of(architecture: Architecture) -> Workload:
    """The work in a network."""
    count = _Count()
    stem, head = architecture.stem, architecture.head
    size, channels = architecture.resolution, architecture.input_channels
    size = count.convolution(stem.kernel, stem.stride, 1, channels, stem.channels, size)
    count.activation(stem.activation, stem.channels * size**2)
    channels = stem.channels
    for module in architecture.modules:
        size = _module(count, module, channels, size)
        channels = module.channels
    if head.features:
        count.convolution(1, 1, 1, channels, head.features, size)
        count.activation(head.activation, head.features * size**2)
        channels = head.features
    count.operation(channels * size**2, channels)  # the average
    count.linear(channels, architecture.classes)
    return count.workload()


def _module(count: _Count, module: Module, in_channels: int, size: int) -> int:
    """Counts a module; returns the side of its output."""
    channels = module.channels
    size_out = (size - 1) // module.stride + 1
    elements = channels * size_out**2
    for branch in module.branches:
        layer_in, layer_size = in_channels, size
        for number, layer in enumerate(branch.layers, start=1):
            layer_size = _layer(count, layer, layer_in, layer_size)
            layer_in = layer.channels
            if OPERATORS[layer.op].is_activated:
                follows = module.activation if number < len(branch.layers) else NO_ACTIVATION
                own = dict(layer.settings).get(OWN_ACTIVATION, follows)
                count.activation(str(own), layer_in * layer_size**2)
    if len(module.branches) > 1:
        if JOINS[module.join].splits_channels:
            count.operation(elements, elements)
        else:
            for _ in module.branches[1:]:
                count.operation(2 * elements, elements)
    attention = ATTENTIONS[module.attention]
    if attention is not None:
        macs, params, _ = attention.work(channels, elements)
        count.attention(macs, params, elements)
    if module.shortcut == "projection":
        count.convolution(1, module.stride, 1, in_channels, channels, size)
    if module.shortcut != "none":
        count.operation(2 * elements, elements)
    if module.output == "activated":
        count.activation(module.activation, elements)
    return size_out


def _layer(count: _Count, layer: Layer, in_channels: int, size: int) -> int:
    row = OPERATORS[layer.op]
    if row.work is None:
        groups, kernel = layer.groups, layer.kernel
        return count.convolution(kernel, layer.stride, groups, in_channels, layer.channels, size)
    size_out = (size - 1) // layer.stride + 1
    macs, params, _ = row.work(layer, in_channels, size_out**2)
    count.attention(macs, params, in_channels * size**2)
    return size_out


class _Count:
    """Sums up, operation by operation."""

    def __init__(self) -> None:
        self._operations = self._moved = self._activated = self._params = 0
        self._dense = self._grouped = self._depthwise = 0

    def operation(self, read: int, written: int) -> None:
        self._operations += 1
        self._moved += read + written

    def convolution(
        self, kernel: int, stride: int, groups: int, in_channels: int, channels: int, size: int
    ) -> int:
        """Counts one with its normalisation; returns the side of its output."""
        size_out = (size - 1) // stride + 1
        weights = kernel**2 * (in_channels // groups) * channels
        if 1 < groups == in_channels == channels:
            self._depthwise += weights * size_out**2
        elif groups > 1:
            self._grouped += weights * size_out**2
        else:
            self._dense += weights * size_out**2
        self._params += weights + 2 * channels
        self.operation(in_channels * size**2, channels * size_out**2)
        return size_out

    def linear(self, features: int, classes: int) -> None:
        self._dense += features * classes + classes
        self._params += features * classes + classes
        self.operation(features, classes)

    def attention(self, macs: int, params: int, elements: int) -> None:
        """Counts what scales a map, or pools it, as one operation."""
        self._dense += macs
        self._params += params
        self.operation(elements, elements)

    def activation(self, name: str, elements: int) -> None:
        if name not in _WITHIN:
            self.operation(elements, elements)
            self._activated += elements

    def workload(self) -> Workload:
        return Workload(
            networks=1.0,
            operations=float(self._operations),
            dense_macs=float(self._dense),
            grouped_macs=float(self._grouped),
            depthwise_macs=float(self._depthwise),
            moved=float(self._moved),
            activated=float(self._activated),
            params=float(self._params),
        )
