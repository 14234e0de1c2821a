"""Folders of pictures that a small network learns in seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIDE = 24


def _disc(draw: ImageDraw.ImageDraw, left: int, top: int) -> None:
    draw.ellipse((left, top, left + 11, top + 11), fill=(220, 60, 50))


def _square(draw: ImageDraw.ImageDraw, left: int, top: int) -> None:
    draw.rectangle((left, top, left + 10, top + 10), fill=(60, 190, 80))


def _stripes(draw: ImageDraw.ImageDraw, left: int, top: int) -> None:
    for step in range(0, SIDE, 6):
        draw.line((0, top + step - 6, SIDE, left + step - 6), fill=(70, 90, 230), width=2)


SHAPES: Mapping[str, Callable[[ImageDraw.ImageDraw, int, int], None]] = {
    "disc": _disc,
    "square": _square,
    "stripes": _stripes,
}


def draw_pictures(root: Path, each: int, *, strays: bool = False) -> Path:
    """A folder for each shape with so many pictures, on noise, from a fixed seed.

    Args:
        root: Made.
        each: Pictures a class.
        strays: Whether to leave there what an archive tool or a file manager does.
    """
    rng = np.random.default_rng(0)
    for name, paint in SHAPES.items():
        (root / name).mkdir(parents=True)
        for number in range(each):
            noise = rng.integers(0, 120, (SIDE, SIDE, 3), dtype=np.uint8)
            picture = Image.fromarray(noise)
            left, top = rng.integers(1, SIDE - 13, 2).tolist()
            paint(ImageDraw.Draw(picture), left, top)
            picture.save(root / name / f"{number:03}.png")
    if strays:
        (root / "README.md").write_text("not a picture")
        (root / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (root / "__MACOSX").mkdir()
        (root / "disc" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
        (root / "square" / ".hidden.png").write_text("not a picture")
    return root
