"""What an architecture offers a detector: its last map at each resolution."""

from __future__ import annotations

from dataclasses import dataclass

from collabdesign.design.architecture import Architecture


@dataclass(frozen=True)
class FeatureMap:
    """One map of a network.

    Attributes:
        name: Of the part of :class:`collabdesign.evaluate.network.AttoNet` that gives it:
            ``stem``, or ``body.3`` for the module of that index.
        channels: Of the map.
        stride: Pixels of the input from one element of the map to the next.
    """

    name: str
    channels: int
    stride: int


def feature_maps(architecture: Architecture) -> tuple[FeatureMap, ...]:
    """The outputs of the last parts at each stride, finest first.

    The features before the pooling are not among them: they belong to classification.
    """
    stem = architecture.stem
    stride = stem.stride
    maps = {stride: FeatureMap("stem", stem.channels, stride)}
    for index, module in enumerate(architecture.modules):
        stride *= module.stride
        maps[stride] = FeatureMap(f"body.{index}", module.channels, stride)
    return tuple(maps.values())
