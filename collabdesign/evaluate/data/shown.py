"""A picture as a viewer shows it, and in the form that a network takes. PIL, no torch.

``model.py`` holds both functions word for word, so that a network that was handed over sees what
it was trained on. That is why they import PIL themselves: the file needs it for pictures alone.
"""

from __future__ import annotations

from PIL.Image import Image


def as_shown(image: Image) -> Image:
    """A picture as a viewer shows it: turned as its orientation mark says, on grey where it is
    transparent, since both dark and light drawings can be seen on that. Of an animation this is
    the frame that it stands at, the first of an opened file.
    """
    from PIL import Image

    image.load()
    try:
        mark = image.getexif().get(0x0112)
    except Exception:  # broken marks raise nearly anything; viewers pass over them
        mark = None
    flips = Image.Transpose
    turns = {
        2: flips.FLIP_LEFT_RIGHT,
        3: flips.ROTATE_180,
        4: flips.FLIP_TOP_BOTTOM,
        5: flips.TRANSPOSE,
        6: flips.ROTATE_270,
        7: flips.TRANSVERSE,
        8: flips.ROTATE_90,
    }
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        if image.mode == "La":
            image = image.convert("LA")
        image = image.convert("RGBA")
        behind = Image.new("RGBA", image.size, (128, 128, 128, 255))
        image = Image.alpha_composite(behind, image)
    return image.transpose(turns[mark]) if mark in turns else image


def fit_image(image: Image, side: int, channels: int) -> Image:
    """A picture of any mode and size in the form that a network is judged on.

    It is converted to RGB (3 channels) or L (1 channel), its shorter side is resized to ``side``
    pixels with antialiased bilinear interpolation, and the centre square is cut out. A picture of
    that form already is unchanged.
    """
    from PIL import Image

    image = image.convert("RGB" if channels == 3 else "L")
    width, height = image.size
    short = min(width, height)
    if short != side:
        width, height = round(width * side / short), round(height * side / short)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    return image.crop((left, top, left + side, top + side))
