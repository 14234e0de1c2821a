"""Pictures of circles, squares and triangles with their masks, as a COCO file has them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

# With gaps, as COCO's own ids have.
CATEGORIES = {3: "circle", 7: "square", 20: "triangle"}

_SIDES = {3: 24, 7: 4, 20: 3}
_COLOURS = {3: (220, 70, 60), 7: (70, 190, 90), 20: (80, 110, 230)}


def _polygon(category: int, x: float, y: float, radius: float, turn: float) -> list[float]:
    sides = _SIDES[category]
    points = []
    for number in range(sides):
        angle = turn + 2 * math.pi * number / sides
        points += [round(x + radius * math.cos(angle), 2), round(y + radius * math.sin(angle), 2)]
    return points


def _apart(placed: list[tuple[float, float, float]], x: float, y: float, radius: float) -> bool:
    return all(math.hypot(x - u, y - v) > 0.9 * (radius + r) for u, v, r in placed)


def draw_shapes(
    root: Path, part: str, count: int, *, side: int = 96, most: int = 3, seed: int = 0
) -> Path:
    """Pictures in ``root/part`` and their file ``root/part.json``, from a seed.

    Args:
        root: Folder.
        part: Name, which also varies the seed.
        count: Pictures.
        side: Of a picture in pixels.
        most: Objects in a picture; one in sixteen has none.
        seed: Of all that is drawn.
    """
    rng = np.random.default_rng([seed, *part.encode()])
    folder = root / part
    folder.mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        noise = rng.integers(0, 70, (side, side, 3), dtype=np.uint8) + np.uint8(rng.integers(60))
        picture = Image.fromarray(noise)
        draw = ImageDraw.Draw(picture)
        placed: list[tuple[float, float, float]] = []
        objects = 0 if number % 16 == 15 else int(rng.integers(1, most + 1))
        identity = 10 * number + 4
        for _ in range(objects):
            radius = float(rng.uniform(0.11, 0.24)) * side
            x, y = (float(each) for each in rng.uniform(radius, side - radius, 2))
            if not _apart(placed, x, y, radius):
                continue
            placed.append((x, y, radius))
            category = int(rng.choice(list(CATEGORIES)))
            points = _polygon(category, x, y, radius, float(rng.uniform(0, 2 * math.pi)))
            shade = int(rng.integers(-40, 40))
            colour = tuple(min(255, max(0, each + shade)) for each in _COLOURS[category])
            draw.polygon(list(zip(points[0::2], points[1::2], strict=True)), fill=colour)
            left, top, right, bottom = (
                min(points[0::2]), min(points[1::2]), max(points[0::2]), max(points[1::2]),
            )  # fmt: skip
            annotations.append(
                {
                    "id": 5 * len(annotations) + 2,
                    "image_id": identity,
                    "category_id": category,
                    "bbox": [left, top, round(right - left, 2), round(bottom - top, 2)],
                    "segmentation": [points],
                    "area": round(math.pi * radius * radius, 1),
                    "iscrowd": 0,
                }
            )
        name = f"{number:05}.png"
        picture.save(folder / name)
        images.append({"id": identity, "file_name": name, "width": side, "height": side})
    categories = [{"id": each, "name": name} for each, name in CATEGORIES.items()]
    file = root / f"{part}.json"
    file.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return file


def write_shapes(root: Path, train: int, val: int, *, side: int = 96) -> None:
    """Both parts."""
    draw_shapes(root, "train", train, side=side)
    draw_shapes(root, "val", val, side=side)
