"""Well-known Mask R-CNNs, to be counted beside one's own."""

from __future__ import annotations

from collections.abc import Mapping

from collabdesign.detect.bodies import REFERENCE_BODIES, Body
from collabdesign.detect.cost import DetectorCost, detector_cost
from collabdesign.detect.detector import BoxHead, Detector, MaskHead, Pyramid, RegionHead


def _as_published(min_side: int = 800, max_side: int = 1333) -> Detector:
    """All but the body of torchvision's ``maskrcnn_resnet50_fpn``."""
    return Detector(
        min_side,
        max_side,
        Pyramid(256, "dense", 4),
        RegionHead("dense", 1),
        BoxHead("dense", "dense", 1024, 2),
        MaskHead("dense", 256, 4),
        proposals=1000,
        detections=100,
    )


REFERENCES: Mapping[str, tuple[Detector, Body]] = {
    "ResNet-50-FPN": (_as_published(), REFERENCE_BODIES["resnet50"]),
    "MobileNet-V3-large-FPN": (_as_published(), REFERENCE_BODIES["mobilenet_v3_large"]),
}
"""torchvision's ``maskrcnn_resnet50_fpn``, and the same pyramid and heads on MobileNet-V3-large."""


def reference_costs(like: DetectorCost, size: tuple[int, int]) -> tuple[DetectorCost, ...]:
    """The references at the picture, proposals, detections and classes of another cost."""
    return tuple(
        detector_cost(
            name,
            detector,
            body,
            size=size,
            proposals=like.proposals,
            detections=like.detections,
            classes=like.classes,
        )
        for name, (detector, body) in REFERENCES.items()
    )
