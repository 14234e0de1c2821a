"""Masks as COCO writes them, as run lengths and as pixels.

A file has polygons, run lengths as a list of numbers, or run lengths packed into text. All become
packed run lengths, pycocotools' form, in which they are kept and compared. Run lengths go down the
columns, first those outside of the mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collabdesign.design.files.units import shown
from collabdesign.errors import InputError

OVER_THE_EDGE = 1.0
"""Pixels by which a polygon may lie outside of its picture. Tools round to either side of the edge,
and masks are cut off there."""

# What a float32 of a file's coordinate is off by.
_ROUNDING = 1e-3

# Far above the pixels of any picture.
_LARGEST = 2**40

Rle = Mapping[str, Any]
"""``size``, height and width, and ``counts``, bytes."""


def require_pycocotools() -> None:
    """Refuse to begin without it.

    Raises:
        InputError: It is not installed.
    """
    if find_spec("pycocotools") is None:
        raise InputError(
            "masks and average precision of COCO files need pycocotools, which is not installed: "
            "pip install 'collabdesign[detect]'"
        )


def is_number(value: object) -> bool:
    """Whether it can be a coordinate or an area: no truth value, not NaN, nothing endless."""
    return type(value) in (int, float) and -_LARGEST < value < _LARGEST  # type: ignore[operator]


def read_segmentation(written: object, height: int, width: int) -> Rle:
    """The mask that a file gives for an object.

    Args:
        written: The value of ``segmentation``.
        height: Of the picture in pixels.
        width: Likewise.

    Raises:
        InputError: It is none, or does not lie in the picture; the message begins with ``must``.
    """
    if isinstance(written, Mapping):
        return _from_runs(written, height, width)
    if isinstance(written, list) and written:
        polygons = [_polygon(each, height, width) for each in written]
        from pycocotools import mask

        merged: Rle = mask.merge(mask.frPyObjects(polygons, height, width))
        return merged
    raise InputError(f"must be a list of polygons or run lengths, got {shown(written)}")


def pixels_of(rle: Rle) -> NDArray[np.uint8]:
    """0 and 1, height x width."""
    from pycocotools import mask

    found: NDArray[np.uint8] = mask.decode(dict(rle))
    return found


def rle_of(pixels: NDArray[Any]) -> Rle:
    """The run lengths of true pixels, height x width."""
    from pycocotools import mask

    found: Rle = mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
    return found


def area_of(rle: Rle) -> int:
    """Pixels of the mask."""
    from pycocotools import mask

    return int(mask.area(dict(rle)))


def iou_of(first: Rle, second: Rle) -> float:
    """Share of the pixels of either mask that both have; 1 for two empty ones."""
    from pycocotools import mask

    if not area_of(first) and not area_of(second):
        return 1.0
    return float(mask.iou([dict(first)], [dict(second)], [0])[0, 0])


def unpacked(counts: str) -> list[int]:
    """The run lengths in a text: numbers in base 32, six bits a character, each from the third on
    as its difference to the last but one (pycocotools' ``rleFrString``).

    Raises:
        ValueError: The text is cut off or has characters that none of these numbers has.
    """
    found: list[int] = []
    position = 0
    while position < len(counts):
        value = shift = 0
        more = True
        while more:
            if position >= len(counts):
                raise ValueError("it is cut off")
            bits = ord(counts[position]) - 48
            if not 0 <= bits < 64 or shift > 60:
                raise ValueError(f"it has {counts[position]!r}")
            value |= (bits & 31) << shift
            more = bool(bits & 32)
            position, shift = position + 1, shift + 5
            if not more and bits & 16:
                value -= 1 << shift
        found.append(value + found[-2] if len(found) > 2 else value)
    return found


def _polygon(written: object, height: int, width: int) -> list[float]:
    numbers = written if isinstance(written, list) else []
    if not all(map(is_number, numbers)) or len(numbers) < 6 or len(numbers) % 2:
        raise InputError(
            f"must have polygons of at least three points, x and y in turn, got {shown(written)}"
        )
    for name, values, side in (("x", numbers[0::2], width), ("y", numbers[1::2], height)):
        low, high = min(values), max(values)
        beyond = max(-low, high - side)
        if beyond > OVER_THE_EDGE + _ROUNDING:
            raise InputError(
                f"must have polygons inside of the picture of {width}x{height} pixels, got "
                f"{name} from {low:g} to {high:g}"
            )
    return [float(each) for each in numbers]


def _from_runs(written: Mapping[str, Any], height: int, width: int) -> Rle:
    if written.get("size") != [height, width]:
        raise InputError(
            f"must have the size of the picture, [{height}, {width}], got "
            f"{shown(written.get('size'))}"
        )
    counts = written.get("counts")
    try:
        runs = unpacked(counts) if isinstance(counts, str) else _plain_runs(counts)
    except ValueError as error:
        raise InputError(f"must have counts that are run lengths, got {error}") from None
    if any(run < 0 for run in runs) or sum(runs) != height * width:
        raise InputError(
            f"must have run lengths that sum to the {height * width:,} pixels of the picture, got "
            f"{sum(runs):,}" + (" with negative ones" if any(run < 0 for run in runs) else "")
        )
    from pycocotools import mask

    if isinstance(counts, str):
        return {"size": [height, width], "counts": counts.encode("ascii")}
    found: Rle = mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    return found


def _plain_runs(counts: object) -> Sequence[int]:
    if not isinstance(counts, list) or not all(
        type(each) is int and is_number(each) for each in counts
    ):
        raise ValueError(shown(counts))
    return counts
