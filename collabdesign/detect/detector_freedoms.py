"""What a person writes under ``detector:``, with what is left open.

One value is fixed, a list is choices with one's own first, ``{low, high, step}`` is a range with
one's own in the middle, as in a prototype. What the parts are says
:mod:`collabdesign.detect.detector`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Annotated, Any

from pydantic import Field

from collabdesign.design import freedoms
from collabdesign.design.files import values
from collabdesign.design.files.values import Section
from collabdesign.design.freedoms import Freedom
from collabdesign.detect.detector import (
    BOX_KINDS,
    LAYERS,
    BoxHead,
    Detector,
    MaskHead,
    Pyramid,
    RegionHead,
)
from collabdesign.errors import OutsideSpace

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
