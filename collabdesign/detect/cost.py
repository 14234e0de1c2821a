"""What a Mask R-CNN costs, by arithmetic: no weights, no data, no torch.

Multiply-accumulates, parameters and peak activation are counted as :mod:`collabdesign.design.cost`
counts them; ``CONVENTION`` says it in words. What a part computes stands in
:mod:`collabdesign.detect.detector`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from collabdesign.design.cost import BYTES_PER_VALUE, body_costs
from collabdesign.design.feature_maps import FeatureMap
from collabdesign.detect.bodies import Body
from collabdesign.detect.detector import (
    ASPECT_RATIOS,
    BOX_SIDE,
    DIVISOR,
    MASK_SIDE,
    BoxHead,
    Detector,
    MaskHead,
    Pyramid,
    RegionHead,
)
from collabdesign.detect.lifetimes import Step, peaks, totals

PARTS = ("body", "pyramid", "region head", "box head", "mask head")

CONVENTION = (
    "macs: multiply-accumulates of convolutions, transposed convolutions and linear layers for one "
    "picture, a bias one per output element (1 MAC is 2 FLOPs); normalisation, activations, "
    "pooling, sums, interpolation, RoI align, non-maximum suppression and the pasting of masks are "
    "not counted. The box head runs on all proposals, the mask head on all detections, with masks "
    "for every class. params: all that is learned, the two of normalisation a channel included. "
    "peak activation: the most bytes of tensors alive at once in float32, from their lifetimes, "
    "outputs of convolutions, linear layers, pooling, sums, interpolation and RoI align, with the "
    "maps that later parts read."
)

_ANCHORS = len(ASPECT_RATIOS)
_POOLED = 2 * 2
COCO_CLASSES = 91
"""Outputs of a detector for COCO: category ids go to 90, and there is the background."""


@dataclass(frozen=True)
class PartCost:
    """What one part costs.

    Attributes:
        name: One of ``PARTS``.
        macs: Multiply-accumulates.
        params: Parameters.
        peak_activation_bytes: The most that is alive while it runs, in float32.
    """

    name: str
    macs: int
    params: int
    peak_activation_bytes: int


@dataclass(frozen=True)
class DetectorCost:
    """What a detector costs for one picture.

    Attributes:
        name: Of the detector.
        height: Of the picture after resizing and padding, in pixels.
        width: Likewise.
        proposals: On which the box head runs.
        detections: On which the mask head runs.
        classes: The background included.
        parts: In the order in which they run.
    """

    name: str
    height: int
    width: int
    proposals: int
    detections: int
    classes: int
    parts: tuple[PartCost, ...]

    @property
    def macs(self) -> int:
        """Of all parts."""
        return sum(part.macs for part in self.parts)

    @property
    def params(self) -> int:
        """Of all parts."""
        return sum(part.params for part in self.parts)

    @property
    def peak_activation_bytes(self) -> int:
        """Of the part that has the most."""
        return max(part.peak_activation_bytes for part in self.parts)


def detector_cost(
    name: str,
    detector: Detector,
    body: Body,
    *,
    size: tuple[int, int] | None = None,
    proposals: int | None = None,
    detections: int | None = None,
    classes: int = COCO_CLASSES,
) -> DetectorCost:
    """Cost of a detector for one picture.

    Args:
        name: To show it by.
        detector: All but its body.
        body: Its body.
        size: Height and width of the picture after resizing, before padding (default: the
            detector's shorter and longer side).
        proposals: On which the box head runs (default: the detector's).
        detections: On which the mask head runs (default: the detector's).
        classes: The background included.

    Raises:
        InputError: The body has too few feature maps.
    """
    height, width = (_padded(each) for each in size or (detector.min_side, detector.max_side))
    proposals = detector.proposals if proposals is None else proposals
    detections = detector.detections if detections is None else detections
    maps = detector.maps_of(body.maps)
    body_part, sizes = _body(body, maps, height, width)
    levels = len(maps)
    given = {
        f"map {level}": each.channels * high * wide
        for level, (each, (high, wide)) in enumerate(zip(maps, sizes, strict=True))
    }
    channels = detector.pyramid.channels
    steps = [
        *_pyramid(detector.pyramid, maps, sizes),
        *_region_head(detector.region, channels, _with_extra(sizes), proposals),
        *_box_head(detector.box, channels, levels, proposals, detections, classes),
        *_mask_head(detector.mask, channels, levels, detections, classes),
    ]
    most, value = peaks(steps, given), BYTES_PER_VALUE["float32"]
    rest = (
        PartCost(part, macs, params, most[part] * value) for part, macs, params in totals(steps)
    )
    parts = (body_part, *rest)
    assert tuple(part.name for part in parts) == PARTS
    return DetectorCost(name, height, width, proposals, detections, classes, parts)


def _padded(side: int) -> int:
    return ceil(side / DIVISOR) * DIVISOR


def _with_extra(sizes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The maps of the region head: one more, of every second element of the coarsest."""
    high, wide = sizes[-1]
    return [*sizes, ((high - 1) // 2 + 1, (wide - 1) // 2 + 1)]


def _body(
    body: Body, maps: tuple[FeatureMap, ...], height: int, width: int
) -> tuple[PartCost, list[tuple[int, int]]]:
    """The body up to its last map, and height and width of the maps that are taken of it."""
    names = ["stem", *(f"body.{index}" for index in range(len(body.architecture.modules)))]
    kept = [names.index(each.name) for each in maps]
    parts = list(body_costs(body.architecture, height, width, kept))
    macs, params = (sum(getattr(part, key) for part in parts) for key in ("macs", "params"))
    peak = max(part.peak_elements for part in parts) * BYTES_PER_VALUE["float32"]
    cost = PartCost("body", macs + body.uncounted, params + body.uncounted, peak)
    return cost, [(parts[index].height, parts[index].width) for index in kept]


def _pyramid(
    pyramid: Pyramid, maps: tuple[FeatureMap, ...], sizes: list[tuple[int, int]]
) -> Iterator[Step]:
    """From the coarsest map to the finest, as torchvision's FeaturePyramidNetwork runs."""
    part, channels = "pyramid", pyramid.channels
    is_dense = pyramid.layers == "dense"
    above = ""
    for level in reversed(range(len(maps))):
        pixels = sizes[level][0] * sizes[level][1]
        inside, elements = maps[level].channels, channels * pixels
        lateral = f"lateral {level}"
        # A bias, or the scale and shift of normalisation.
        weights, learned = inside * channels, channels if is_dense else 2 * channels
        macs = weights * pixels + (elements if is_dense else 0)
        yield Step(part, lateral, elements, (f"map {level}",), macs, weights + learned)
        if above:
            yield Step(part, f"upsampled {level}", elements, (above,))
            yield Step(part, f"sum {level}", elements, (lateral, f"upsampled {level}"))
            lateral = f"sum {level}"
        yield from _layer(
            part, lateral, f"pyramid {level}", pyramid.layers, channels, channels, pixels
        )
        above = lateral
    high, wide = _with_extra(sizes)[-1]
    last = len(maps)
    yield Step(part, f"pyramid {last}", channels * high * wide, (f"pyramid {last - 1}",))


def _region_head(
    region: RegionHead, channels: int, sizes: list[tuple[int, int]], proposals: int
) -> Iterator[Step]:
    """The same weights at every map."""
    part, predicted = "region head", []
    for level, (high, wide) in enumerate(sizes):
        pixels, before, is_first = high * wide, f"pyramid {level}", level == 0
        for number in range(region.depth):
            name = f"region {level} {number}"
            for step in _layer(
                part, before, name, region.layers, channels, channels, pixels, is_normalised=False
            ):
                yield step if is_first else _without_params(step)
            before = name
        for what, outputs in (("score", _ANCHORS), ("shift", 4 * _ANCHORS)):
            name = f"{what} {level}"
            step = _linear(part, before, name, channels, outputs, pixels)
            yield step if is_first else _without_params(step)
            predicted.append(name)
    yield Step(part, "proposals", 4 * proposals, tuple(predicted))


def _box_head(
    box: BoxHead, channels: int, levels: int, proposals: int, detections: int, classes: int
) -> Iterator[Step]:
    part, pixels = "box head", BOX_SIDE**2
    reads = ("proposals", *(f"pyramid {level}" for level in range(levels)))
    yield Step(part, "box pooled", proposals * channels * pixels, reads)
    before = "box pooled"
    if box.kind == "dense":
        inside = channels * pixels
        for number in range(box.depth):
            yield _linear(part, before, f"box {number}", inside, box.width, proposals)
            before, inside = f"box {number}", box.width
    else:
        yield from _layers(
            part, before, "box", box.layers, channels, box.width, box.depth, proposals * pixels
        )
        yield Step(part, "box averages", proposals * box.width * _POOLED, (f"box {box.depth - 1}",))
        yield _linear(part, "box averages", "box linear", _POOLED * box.width, box.width, proposals)
        before = "box linear"
    yield _linear(part, before, "box classes", box.width, classes, proposals)
    yield _linear(part, before, "box sides", box.width, 4 * classes, proposals)
    yield Step(part, "detections", 4 * detections, ("box classes", "box sides", "proposals"))


def _mask_head(
    mask: MaskHead, channels: int, levels: int, detections: int, classes: int
) -> Iterator[Step]:
    part, pixels, width = "mask head", detections * MASK_SIDE**2, mask.width
    reads = ("detections", *(f"pyramid {level}" for level in range(levels)))
    yield Step(part, "mask pooled", channels * pixels, reads)
    yield from _layers(
        part, "mask pooled", "mask", mask.layers, channels, width, mask.depth, pixels
    )
    # A transposed 2x2 convolution of stride 2: each element of its input makes four.
    weights, elements = 4 * width * width, width * 4 * pixels
    yield Step(
        part, "mask finer", elements, (f"mask {mask.depth - 1}",),
        weights * pixels + elements, weights + width,
    )  # fmt: skip
    yield _linear(part, "mask finer", "masks", width, classes, 4 * pixels)


def _layers(
    part: str, before: str, name: str, kind: str, inside: int, width: int, depth: int, pixels: int
) -> Iterator[Step]:
    """A head's convolutions, the first of which takes the pyramid's channels to the width."""
    for number in range(depth):
        output = f"{name} {number}"
        yield from _layer(part, before, output, kind, inside, width, pixels)
        before, inside = output, width


def _layer(
    part: str,
    before: str,
    output: str,
    kind: str,
    inside: int,
    outside: int,
    pixels: int,
    *,
    is_normalised: bool = True,
) -> Iterator[Step]:
    """One 3x3 layer; only depthwise ones are normalised."""
    elements = outside * pixels
    if kind == "dense":
        weights = 9 * inside * outside
        macs = weights * pixels + elements
        yield Step(part, output, elements, (before,), macs, weights + outside)
        return
    each = f"{output}, each channel"
    yield Step(part, each, inside * pixels, (before,), 9 * inside * pixels, 9 * inside)
    weights, biases = inside * outside, 0 if is_normalised else elements
    learned = 2 * outside if is_normalised else outside
    yield Step(part, output, elements, (each,), weights * pixels + biases, weights + learned)


def _linear(part: str, before: str, output: str, inside: int, outside: int, times: int) -> Step:
    """A linear layer, or a 1x1 convolution with a bias, so many times."""
    weights = inside * outside + outside
    return Step(part, output, outside * times, (before,), weights * times, weights)


def _without_params(step: Step) -> Step:
    return Step(step.part, step.output, step.elements, step.reads, step.macs)
