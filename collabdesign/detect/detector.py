"""What a Mask R-CNN is made of beside its body, and what of it is left open.

:class:`Detector` is one detector, all of it decided. :class:`DetectorFreedoms` is what a person
writes under ``detector:``: one value is fixed, a list is choices with one's own first,
``{low, high, step}`` is a range with one's own in the middle, as in a prototype.

The parts are those of Mask R-CNN (arXiv 1703.06870) with a feature pyramid (arXiv 1612.03144):

- the pyramid takes the last maps of the body; each gets a 1x1 convolution, the coarser map is
  added to the finer one, and a 3x3 convolution smooths each sum. One map more, of every second
  element of the coarsest, serves the region head alone;
- the region head looks at every place of every map: three anchors each;
- the box head takes 7x7 elements of each proposal, the mask head 14x14 of each detection.

``dense`` layers are 3x3 convolutions with a bias, as torchvision's ``maskrcnn_resnet50_fpn`` has
them. ``depthwise`` ones are a 3x3 convolution of each channel and a 1x1 convolution, followed by
batch normalisation but in the region head, whose layers see every map of the pyramid: there
statistics differ from map to map, and the 1x1 convolution has a bias instead. The first layer of a
head takes the pyramid's channels to the head's width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

from pydantic import Field

from collabdesign.design import freedoms
from collabdesign.design.feature_maps import FeatureMap
from collabdesign.design.files import values
from collabdesign.design.files.values import Section
from collabdesign.design.freedoms import Freedom
from collabdesign.errors import InputError, OutsideSpace

LAYERS = ("depthwise", "dense")
BOX_KINDS = ("conv", "dense")

ASPECT_RATIOS = (0.5, 1.0, 2.0)
"""Height by width of the three anchors at a place."""

BOX_SIDE, MASK_SIDE = 7, 14
"""Elements that are taken of a proposal and of a detection, in each direction."""

DIVISOR = 32
"""Pictures are padded to a multiple of so many pixels in both directions."""

# Of the input's shorter side for which the published anchors and pyramid levels were chosen.
_PUBLISHED_SIDE = 800
# An anchor is 8 strides at that side: 32 pixels at stride 4, 512 at stride 64.
_ANCHOR_STRIDES = 8
# Closer anchors than a stride's double overlap hardly anything that lies between two of them.
_LEAST_ANCHOR_STRIDES = 2
_DENSE_DEPTH = 2


@dataclass(frozen=True)
class Pyramid:
    """The maps that all heads look at.

    Attributes:
        channels: Of each map.
        layers: ``depthwise`` or ``dense``.
        levels: How many of the body's maps it takes, the coarsest ones.
    """

    channels: int
    layers: str
    levels: int


@dataclass(frozen=True)
class RegionHead:
    """What proposes regions, with the pyramid's channels.

    Attributes:
        layers: ``depthwise`` or ``dense``.
        depth: Layers before the two predictions.
    """

    layers: str
    depth: int


@dataclass(frozen=True)
class BoxHead:
    """What classifies a proposal and moves its sides.

    Canonical form: where the kind is ``dense``, there are no convolutions to choose, and layers
    and depth are ``dense`` and 2.

    Attributes:
        kind: ``dense``: two linear layers over all 7x7 elements, as in torchvision. ``conv``:
            convolutions, average pooling to 2x2 and one linear layer.
        layers: ``depthwise`` or ``dense`` convolutions.
        width: Channels of its layers.
        depth: Convolutions.
    """

    kind: str
    layers: str
    width: int
    depth: int

    def __post_init__(self) -> None:
        if self.kind == "dense":
            object.__setattr__(self, "layers", "dense")
            object.__setattr__(self, "depth", _DENSE_DEPTH)


@dataclass(frozen=True)
class MaskHead:
    """What draws a mask of 28x28 for a detection.

    Attributes:
        layers: ``depthwise`` or ``dense``.
        width: Channels of its layers, and of the transposed convolution after them.
        depth: Layers.
    """

    layers: str
    width: int
    depth: int


@dataclass(frozen=True)
class Detector:
    """A Mask R-CNN without its body, all of it decided.

    Attributes:
        min_side: Pixels to which the shorter side of a picture is resized.
        max_side: Most pixels of the longer side then.
        pyramid: Feature pyramid.
        region: Region head.
        box: Box head.
        mask: Mask head.
        proposals: Most regions of a picture that the box head looks at.
        detections: Most objects of a picture.
    """

    min_side: int
    max_side: int
    pyramid: Pyramid
    region: RegionHead
    box: BoxHead
    mask: MaskHead
    proposals: int
    detections: int

    def maps_of(self, maps: tuple[FeatureMap, ...]) -> tuple[FeatureMap, ...]:
        """Those of a body's maps that the pyramid takes.

        Raises:
            InputError: There are too few.
        """
        levels = self.pyramid.levels
        if levels > len(maps):
            raise InputError(
                f"detector.pyramid.levels must be at most {len(maps)}, the feature maps of the "
                f"body, got {levels}"
            )
        return maps[-levels:]

    def anchor_sides(self, maps: tuple[FeatureMap, ...]) -> tuple[int, ...]:
        """Side in pixels of the square anchor at each map of the pyramid, the extra one included.

        8 strides where the shorter side of the input is 800 pixels, as published (arXiv
        1612.03144), and in proportion for other inputs, where objects are as much smaller; never
        under 2 strides.
        """
        strides = [each.stride for each in maps]
        share = _ANCHOR_STRIDES * self.min_side / _PUBLISHED_SIDE
        return tuple(
            round(stride * max(_LEAST_ANCHOR_STRIDES, share))
            for stride in (*strides, 2 * strides[-1])
        )

    @property
    def canonical_side(self) -> int:
        """Side in pixels of a box that is taken from the map of stride 16: 224 at an input of 800
        (arXiv 1612.03144, equation 1), and in proportion."""
        return max(1, round(224 * self.min_side / _PUBLISHED_SIDE))


Layers = Annotated[Freedom, freedoms.name_in(LAYERS)]
Width = Annotated[Freedom, freedoms.whole(8, 4096)]


def _own(value: Any, description: str) -> Any:
    return Field(default=value, description=description, validate_default=True)


class Image(Section):
    """How large a picture is shown to the network."""

    min: Annotated[int, values.whole(32, 4096)] = Field(
        default=800, description="Pixels to which the shorter side is resized."
    )
    max: Annotated[int, values.whole(32, 8192)] = Field(
        default=1333, description="Most pixels of the longer side then."
    )


class PyramidFreedoms(Section):
    """The maps that all heads look at."""

    channels: Width = _own(128, "Channels of each map.")
    layers: Layers = _own("depthwise", "depthwise or dense.")
    levels: Annotated[Freedom, freedoms.whole(1, 6)] = _own(
        4, "How many of the body's maps it takes, the coarsest ones."
    )


class RegionFreedoms(Section):
    """What proposes regions."""

    layers: Layers = _own("depthwise", "depthwise or dense.")
    depth: Annotated[Freedom, freedoms.whole(1, 4)] = _own(1, "Layers before the predictions.")


class BoxFreedoms(Section):
    """What classifies proposals and moves their sides."""

    kind: Annotated[Freedom, freedoms.name_in(BOX_KINDS)] = _own(
        "conv",
        "conv: convolutions, average pooling, a linear layer; dense: two linear layers over all "
        "elements, as in torchvision.",
    )
    layers: Layers = _own("depthwise", "Of conv: depthwise or dense.")
    width: Width = _own(256, "Channels of its layers.")
    depth: Annotated[Freedom, freedoms.whole(1, 8)] = _own(2, "Of conv: how many convolutions.")


class MaskFreedoms(Section):
    """What draws the mask of a detection."""

    layers: Layers = _own("depthwise", "depthwise or dense.")
    width: Width = _own(128, "Channels of its layers.")
    depth: Annotated[Freedom, freedoms.whole(1, 8)] = _own(4, "How many convolutions.")


class DetectorFreedoms(Section):
    """A Mask R-CNN with what is left open of it."""

    body: str = Field(
        description="A member's folder; or a prototype file, for its own network without weights; "
        "or resnet50 or mobilenet_v3_large, without weights."
    )
    image: Image = Image()
    pyramid: PyramidFreedoms = PyramidFreedoms()
    region: RegionFreedoms = RegionFreedoms()
    box: BoxFreedoms = BoxFreedoms()
    mask: MaskFreedoms = MaskFreedoms()
    proposals: Annotated[Freedom, freedoms.whole(1, 10_000)] = _own(
        1000, "Most regions of a picture that the box head looks at."
    )
    detections: Annotated[Freedom, freedoms.whole(1, 1000)] = _own(
        100, "Most objects of a picture."
    )

    def all_freedoms(self) -> dict[str, Freedom]:
        """Every value by its name, such as ``pyramid.channels``."""
        return dict(_freedoms(self))

    def own(self) -> Detector:
        """The human's own: the only, the first, the middle of each freedom."""
        return self.decide({})

    def decide(self, params: Mapping[str, Any]) -> Detector:
        """The detector of a choice; what is not chosen has its own value.

        Args:
            params: By names of :meth:`all_freedoms`.

        Raises:
            OutsideSpace: A name is unknown, or a value is none of its freedom's.
        """
        open_ = self.all_freedoms()
        if unknown := params.keys() - open_.keys():
            raise OutsideSpace(f"a detector has no {min(unknown)!r} to choose")
        for name, value in params.items():
            if value not in open_[name].values:
                raise OutsideSpace(
                    f"detector.{name} must be one of {list(open_[name].values)}, got {value!r}"
                )
        chosen = {name: params.get(name, freedom.own) for name, freedom in open_.items()}

        def part(name: str, kind: type[Any]) -> Any:
            return kind(**{each.name: chosen[f"{name}.{each.name}"] for each in fields(kind)})

        return Detector(
            min_side=self.image.min,
            max_side=self.image.max,
            pyramid=part("pyramid", Pyramid),
            region=part("region", RegionHead),
            box=part("box", BoxHead),
            mask=part("mask", MaskHead),
            proposals=chosen["proposals"],
            detections=chosen["detections"],
        )


def _freedoms(section: Section, prefix: str = "") -> Iterator[tuple[str, Freedom]]:
    for key in type(section).model_fields:
        value = getattr(section, key)
        if isinstance(value, Freedom):
            yield prefix + key, value
        elif isinstance(value, Section):
            yield from _freedoms(value, f"{prefix}{key}.")
