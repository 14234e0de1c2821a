"""An object that a detector found, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from collabdesign.detect.segmentation import Rle


@dataclass(frozen=True)
class Found:
    """An object that a detector found.

    Attributes:
        label: From 1.
        score: 0 to 1.
        box: Left, top, right and bottom in pixels.
        mask: Of the size of the picture.
    """

    label: int
    score: float
    box: tuple[float, float, float, float]
    mask: Rle

    @property
    def written_box(self) -> list[float]:
        """As COCO has it: left, top, width and height."""
        left, top, right, bottom = self.box
        return [left, top, right - left, bottom - top]

    def to_dict(self, category: tuple[int, str]) -> dict[str, Any]:
        """As COCO has a result, with the category's name beside its id; for JSON."""
        counts: bytes = self.mask["counts"]
        return {
            "category_id": category[0],
            "category": category[1],
            "score": self.score,
            "bbox": self.written_box,
            "segmentation": {"size": list(self.mask["size"]), "counts": counts.decode("ascii")},
        }
