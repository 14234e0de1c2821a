"""What a trained detector finds in pictures: drawn on them, and as data."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from collabdesign.detect.drawing import draw
from collabdesign.detect.evaluation import detect
from collabdesign.detect.examples import to_tensor
from collabdesign.detect.found import Found
from collabdesign.detect.segmentation import require_pycocotools
from collabdesign.detect.trained import load_detector_network
from collabdesign.errors import InputError, Problem
from collabdesign.evaluate.data.pictures import UnreadableImage, read_picture
from collabdesign.evaluate.device import choose_device
from collabdesign.files import write_bytes, write_json

PREDICTIONS = "predictions.json"


@dataclass(frozen=True)
class Predicted:
    """A picture and what was found in it.

    Attributes:
        picture: As it was named.
        drawn: Where it was drawn.
        size: Width and height in pixels.
        objects: With their category's id and name, the surest first.
    """

    picture: Path
    drawn: Path
    size: tuple[int, int]
    objects: tuple[tuple[Found, tuple[int, str]], ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the keys of an object are those of a result of COCO."""
        return {
            "picture": str(self.picture),
            "drawn": str(self.drawn),
            "width": self.size[0],
            "height": self.size[1],
            "objects": [found.to_dict(category) for found, category in self.objects],
        }


def predict(
    folder: Path,
    pictures: Sequence[Path],
    into: Path,
    *,
    least: float = 0.5,
    device: str | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Predicted]:
    """Find objects, draw them into a folder, and write ``predictions.json`` there.

    Args:
        folder: Of a trained detector.
        pictures: Files.
        into: Made if need be.
        least: Score from which an object counts.
        device: Where to compute.
        on_progress: Told the pictures done and their total.

    Raises:
        InputError: The folder holds no detector, or pictures cannot be read: all of them.
    """
    require_pycocotools()
    where = choose_device(device)
    _require_readable(pictures)
    network, description = load_detector_network(folder)
    network.to(where)
    names = [name for _, name in description.categories]
    into.mkdir(parents=True, exist_ok=True)
    done = []
    for picture, drawn_as in zip(pictures, _names(pictures), strict=True):
        image = read_picture(picture).image.convert("RGB")
        found = [
            each
            for each in detect(network, to_tensor(np.asarray(image)), where)
            if each.score >= least
        ]
        write_bytes(into / drawn_as, _png(draw(image, found, names)))
        objects = tuple((each, description.categories[each.label - 1]) for each in found)
        done.append(Predicted(picture, into / drawn_as, image.size, objects))
        on_progress(len(done), len(pictures))
    write_json(into / PREDICTIONS, [each.to_dict() for each in done])
    return done


def _require_readable(pictures: Sequence[Path]) -> None:
    problems = []
    for picture in pictures:
        if not picture.is_file():
            problems.append(Problem(f"a picture must be a file that exists, got {picture}"))
            continue
        try:
            read_picture(picture)
        except UnreadableImage as error:
            problems += error.problems
    if problems:
        raise InputError(problems)


def _names(pictures: Sequence[Path]) -> list[str]:
    """A name for each drawing: its picture's, with a number where another one has it too."""
    names: list[str] = []
    for picture in pictures:
        name, number = f"{picture.stem}.png", 2
        while name in names:
            name, number = f"{picture.stem}-{number}.png", number + 1
        names.append(name)
    return names


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
