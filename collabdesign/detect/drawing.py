"""What a detector found, drawn on its picture. PIL, no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from collabdesign.detect.found import Found
from collabdesign.detect.segmentation import pixels_of

# Okabe and Ito's hues, which also people tell apart who see fewer colours.
_COLOURS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
    (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip
_MASK_SHARE = 0.45


def draw(picture: Image.Image, found: Sequence[Found], names: Sequence[str]) -> Image.Image:
    """A copy of a colour picture with the mask, the box, the name and the score of each object.

    Args:
        picture: RGB.
        found: The surest first; it is drawn last, on top.
        names: Of the categories, by label from 1.
    """
    pixels = np.asarray(picture).astype(np.float32)
    for each in reversed(found):
        inside = pixels_of(each.mask).astype(bool)
        colour = np.array(colour_of(each.label), dtype=np.float32)
        pixels[inside] = (1 - _MASK_SHARE) * pixels[inside] + _MASK_SHARE * colour
    drawn = Image.fromarray(pixels.round().astype(np.uint8))
    pen, shorter = ImageDraw.Draw(drawn), min(drawn.size)
    font = ImageFont.load_default(max(9.0, shorter / 40))
    for each in reversed(found):
        colour_rgb = colour_of(each.label)
        pen.rectangle(each.box, outline=colour_rgb, width=max(1, round(shorter / 250)))
        text = f"{names[each.label - 1]} {100 * each.score:.0f} %"
        left, top = each.box[:2]
        _, _, wide, high = pen.textbbox((0, 0), text, font=font)
        # Above the box, or inside of it where there is no room.
        top = top - high - 2 if top > high + 2 else top + 1
        pen.rectangle((left, top, left + wide + 2, top + high + 1), fill=colour_rgb)
        pen.text((left + 1, top), text, fill=(0, 0, 0), font=font)
    return drawn


def colour_of(label: int) -> tuple[int, int, int]:
    """Of a category, always the same."""
    return _COLOURS[(label - 1) % len(_COLOURS)]
