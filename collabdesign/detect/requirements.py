"""Everything that a human asks for of a detector: its parts, its pictures, its training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool

from collabdesign.design.files import values
from collabdesign.design.files.document import write_text
from collabdesign.design.files.values import Section
from collabdesign.detect.detector_freedoms import DetectorFreedoms

REQUIREMENTS = "requirements.yaml"
"""In a run folder, as it was understood."""

PLACES = tuple(
    f"data.{part}.{key}" for part in ("train", "val") for key in ("annotations", "images")
)
"""Where the pictures lie: what they are is told by their fingerprint."""


class CocoFiles(Section):
    """Pictures with objects, in the format of COCO."""

    annotations: Annotated[Path, values.PATH] = Field(
        description="The JSON file: images, categories, and annotations with boxes and masks."
    )
    images: Annotated[Path, values.PATH] = Field(
        description="Folder to which the file names of the images are relative."
    )


class DetectionData(Section):
    """What the detector learns from, and what it is judged on."""

    train: CocoFiles = Field(description="To learn from; a part of it is held out.")
    val: CocoFiles = Field(description="To judge the finished detector on, once.")
    select: Annotated[float, values.number(0, 0.5, above=True)] = Field(
        default=0.1,
        description="Fraction of the pictures of train that is held out to choose by.",
    )
    flip: StrictBool = Field(
        default=True, description="Whether training may mirror a picture left to right."
    )


class DetectionTraining(Section):
    """How the detector is trained."""

    epochs: Annotated[int, values.whole(1, 100_000)] = Field(
        default=12, description="Passes over the train pictures."
    )
    batch: Annotated[int, values.whole(1, 256)] = Field(
        default=2, description="Pictures of a step."
    )
    regions: Annotated[int, values.whole(4, 4096)] = Field(
        default=512,
        description="Regions of a picture, a quarter of them objects, that the box head learns "
        "from in a step; fewer are faster.",
    )
    optimizer: Literal["sgd", "adamw"] = Field(
        default="sgd", description="sgd with momentum 0.9, or adamw."
    )
    learning_rate: Annotated[float, values.number(0, 10, above=True)] | None = Field(
        default=None,
        description="At its highest (default: 0.0025 a picture of the batch with sgd, 0.0002 with "
        "adamw).",
    )
    weight_decay: Annotated[float, values.number(0, 1)] = Field(
        default=1e-4, description="Of weights, not of biases and normalisation."
    )
    warm_up: Annotated[int, values.whole(0, 1_000_000)] = Field(
        default=100,
        description="Steps in which the learning rate rises; at most a tenth of all. Then it "
        "falls to 0 along a half cosine.",
    )
    seed: Annotated[int, values.whole(0, 2**32 - 1)] = Field(
        default=0, description="The same seed gives the same detector on the same machine."
    )

    @property
    def highest_rate(self) -> float:
        """The learning rate after the warm-up."""
        if self.learning_rate is not None:
            return self.learning_rate
        # 0.005 at 2 pictures: torchvision's tutorial on fine-tuning a Mask R-CNN.
        return 0.0025 * self.batch if self.optimizer == "sgd" else 2e-4


# A heading whose lines are all commented out stands for its defaults.
_IfWritten = BeforeValidator(lambda value: {} if value is None else value)


class DetectionRequirements(Section):
    """A detection file."""

    version: Annotated[int, values.whole(1, 1)] = Field(
        default=1, description="Of this file format."
    )
    name: Annotated[str, values.NAME] = Field(description="Names the run folder, runs/NAME.")
    detector: DetectorFreedoms = Field(
        description="The Mask R-CNN: a file, relative to this one, or written in place."
    )
    data: DetectionData
    training: Annotated[DetectionTraining, _IfWritten] = DetectionTraining()

    def changes(self, other: DetectionRequirements) -> list[str]:
        """What another one asks differently, a line for each key; places do not count."""
        before, after = (dict(_flat(each.to_dict())) for each in (self, other))
        return [
            f"{key}: {before.get(key, 'not set')} -> {after.get(key, 'not set')}"
            for key in dict.fromkeys((*before, *after))
            if before.get(key) != after.get(key) and key not in PLACES
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain data as a person could have written it: all defaults, the detector in place."""
        return self.model_dump(mode="json", exclude_none=True)


def resolved_yaml(requirements: DetectionRequirements) -> str:
    """The file that reads back as equal requirements."""
    return write_text(requirements.to_dict())


def _flat(data: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for key, value in data.items():
        if isinstance(value, dict) and {"low", "high", "step"} != value.keys():
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, value if isinstance(value, str) else json.dumps(value)))
    return found
