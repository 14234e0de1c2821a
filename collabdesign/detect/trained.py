"""A trained detector in its folder: what is needed to build it again, and its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torchvision.models.detection import MaskRCNN

from collabdesign.design.architecture import Architecture
from collabdesign.detect.bodies import Body
from collabdesign.detect.detector import BoxHead, Detector, MaskHead, Pyramid, RegionHead
from collabdesign.detect.network import build_detector
from collabdesign.errors import InputError
from collabdesign.evaluate.checkpoint import load_weights
from collabdesign.files import write_json

DESCRIPTION, BEST = "detector.json", "best.pt"

_PARTS = {"pyramid": Pyramid, "region": RegionHead, "box": BoxHead, "mask": MaskHead}


@dataclass(frozen=True)
class Description:
    """All of a detector but its weights.

    Attributes:
        detector: All but the body.
        body: The body; its trained weights are among the detector's.
        categories: Id and name of each, by label from 1.
    """

    detector: Detector
    body: Body
    categories: tuple[tuple[int, str], ...]

    @property
    def classes(self) -> int:
        """Outputs, the background included."""
        return len(self.categories) + 1

    def name_of(self, label: int) -> str:
        """The category of a label."""
        return self.categories[label - 1][1]

    def to_dict(self) -> dict[str, Any]:
        """Plain data; :meth:`from_dict` is its inverse."""
        return {
            "version": 1,
            "detector": asdict(self.detector),
            "body": {
                "name": self.body.name,
                "architecture": self.body.architecture.to_dict(),
                "uncounted": self.body.uncounted,
                "mean": self.body.mean,
                "std": self.body.std,
            },
            "categories": self.categories,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Description:
        """From :meth:`to_dict`'s form; the body begins untrained.

        Raises:
            KeyError: A key is missing.
            TypeError: A value is of another kind.
            ValueError: A value breaks a rule.
        """
        parts = {key: kind(**data["detector"][key]) for key, kind in _PARTS.items()}
        body = data["body"]
        return cls(
            Detector(**{**data["detector"], **parts}),
            Body(
                body["name"],
                Architecture.from_dict(body["architecture"]),
                None,
                body["uncounted"],
                tuple(body["mean"]),
                tuple(body["std"]),
            ),
            tuple((int(number), str(name)) for number, name in data["categories"]),
        )


def write_description(folder: Path, description: Description) -> None:
    """Write it into a folder."""
    write_json(folder / DESCRIPTION, description.to_dict())


def read_description(folder: Path) -> Description:
    """Of the detector in a folder.

    Raises:
        InputError: The folder holds none.
    """
    path = folder / DESCRIPTION
    try:
        return Description.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(
            f"a detector's folder holds a {DESCRIPTION}, {str(folder)!r} has none"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} must describe a detector, got: {error!r}") from None


def load_detector_network(folder: Path) -> tuple[MaskRCNN, Description]:
    """The detector in a folder with its best weights, in evaluation mode, on the CPU.

    Raises:
        InputError: The folder holds none, or its weights are another's.
    """
    description = read_description(folder)
    network = build_detector(description.detector, description.body, description.classes)
    try:
        load_weights(network, (folder / BEST).read_bytes())
    except FileNotFoundError:
        raise InputError(
            f"a trained detector's folder holds a {BEST}, {str(folder)!r} has none: its first "
            "epoch is not through"
        ) from None
    return network.eval(), description
