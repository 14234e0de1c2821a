"""What a Mask R-CNN is made of beside its body, all of it decided.

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

from dataclasses import dataclass

from collabdesign.design.feature_maps import FeatureMap
from collabdesign.errors import InputError

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
# An object of an anchor's shape lies at most half a stride beside one, in either direction: at 4
# strides the two have an IoU of at least 0.62, at 2 of 0.39, which no threshold takes for a match.
_LEAST_ANCHOR_STRIDES = 4
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
        under 4 strides.
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
