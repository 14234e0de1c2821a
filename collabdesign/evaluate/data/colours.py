"""Colour profiles of pictures."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

# Of the triangles that the primaries span in xy, adapted to D50: Display P3's is 1.36 times sRGB's.
_WIDER = 1.1


@lru_cache(maxsize=64)
def wide_gamut(profile: bytes) -> str:
    """The name of an ICC profile whose colours reach beyond sRGB; empty for others, and for those
    that cannot be read.

    Of a profile without primaries, as printers have, it is the name too.
    """
    try:
        from PIL import ImageCms
    except ImportError:  # Pillow was built without it
        return ""
    try:
        found = ImageCms.getOpenProfile(BytesIO(profile)).profile
    except (OSError, ImageCms.PyCMSError):
        return ""
    if found.xcolor_space.strip() == "GRAY":
        return ""
    name = (found.profile_description or "without a name").strip()
    area = _area(found)
    if area is None:
        return "" if "srgb" in name.lower() else name
    srgb = _area(ImageCms.createProfile("sRGB"))
    assert srgb is not None
    return name if area > _WIDER * srgb else ""


def _area(profile: object) -> float | None:
    """Twice that of the triangle of the primaries in xy."""
    corners = [
        getattr(profile, f"{colour}_primary", None) or getattr(profile, f"{colour}_colorant", None)
        for colour in ("red", "green", "blue")
    ]
    if not all(corners):
        return None
    (ax, ay, _), (bx, by, _), (cx, cy, _) = (corner[1] for corner in corners if corner)
    return float(abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)))
