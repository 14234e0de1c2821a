"""A picture from a file, and many of them as one array. PIL, no torch.

Pictures are decoded in threads, since PIL frees the interpreter while it decodes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from collabdesign.errors import InputError, Problem
from collabdesign.evaluate.library_warnings import naming_file

# Resizing the shorter side makes the longer one grow with it: a line of one pixel by many
# thousands would fill the memory.
_LONGEST_ASPECT = 50

_Result = TypeVar("_Result")

_NAMED_FILES = 10
_CHUNK = 64

Pixels = NDArray[np.uint8]

Progress = Callable[[int, int], None]
"""Called with the number of images done and their total."""


class UnreadableImage(InputError):
    """Raised when a picture cannot be decoded in full.

    Attributes:
        reason: What is wrong with it, without its name.
    """

    def __init__(self, name: object, reason: str) -> None:
        self.reason = reason
        super().__init__(f"an image must decode in full, got {name}: {reason}")


def in_threads(
    work: Callable[[int], _Result], count: int, on_progress: Progress | None
) -> list[_Result]:
    """``[work(0), ..., work(count - 1)]``, in chunks so that small pictures pay little."""

    def chunk(start: int) -> list[_Result]:
        return [work(position) for position in range(start, min(start + _CHUNK, count))]

    results: list[_Result] = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as executor:
        for part in executor.map(chunk, range(0, count, _CHUNK)):
            results += part
            if on_progress is not None:
                on_progress(len(results), count)
    return results


@naming_file
def read_image(path: Path) -> Image.Image:
    """Open a picture and decode it in full.

    Raises:
        UnreadableImage: It does not decode, has more than 8 bits a channel, or is over
            50 times longer than wide.
    """
    try:
        with Image.open(path) as image:
            image.load()
    except UnidentifiedImageError:
        empty = path.stat().st_size == 0
        reason = "the file is empty" if empty else "not a picture in a format that Pillow reads"
        raise UnreadableImage(path, reason) from None
    # PIL's decoders raise nearly anything on a broken file: OSError, SyntaxError, ValueError,
    # struct.error, DecompressionBombError, ... The reason is always reported.
    except Exception as error:
        raise UnreadableImage(path, str(error) or type(error).__name__) from None
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        # Converting these to 8 bits cuts everything above 255 to white.
        raise UnreadableImage(path, f"mode {image.mode} has more than 8 bits a channel")
    if max(image.size) > _LONGEST_ASPECT * min(image.size):
        size = "{}x{}".format(*image.size)
        raise UnreadableImage(
            path, f"{size} pixels is over {_LONGEST_ASPECT} times longer than wide"
        )
    return image


def fit_image(image: Image.Image, resolution: int, channels: int) -> Image.Image:
    """Bring a picture of any mode and size to the form that a network is evaluated on.

    Convert to RGB (3 channels) or L (1 channel), resize the shorter side to ``resolution``
    pixels with antialiased bilinear interpolation, cut out the centre square. A picture of that
    form already is unchanged.
    """
    image = image.convert("RGB" if channels == 3 else "L")
    width, height = image.size
    short = min(width, height)
    if short != resolution:
        width, height = round(width * resolution / short), round(height * resolution / short)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - resolution) // 2, (height - resolution) // 2
    return image.crop((left, top, left + resolution, top + resolution))


def decode(
    read: Callable[[int], Image.Image],
    parts: Sequence[tuple[Sequence[int], int]],
    channels: int,
    on_progress: Progress | None = None,
) -> tuple[list[Pixels], list[tuple[int, str]]]:
    """Read pictures in threads by the evaluation path of :func:`fit_image`.

    Args:
        read: From an index to a decoded picture; raises :class:`UnreadableImage`.
        parts: Indices of pictures, and the side of the square that these are brought to.
        channels: 1 or 3.
        on_progress: Called now and then from the calling thread.

    Returns:
        Of each part the pixels [N, side, side, channels] from 0 to 255, and index and reason
        of each picture that cannot be read (its pixels mean nothing), in the order of indices.
    """
    pixels = [
        np.zeros((len(indices), side, side, channels), dtype=np.uint8) for indices, side in parts
    ]
    places = [
        (index, square)
        for (indices, _), squares in zip(parts, pixels, strict=True)
        for index, square in zip(indices, squares, strict=True)
    ]

    def fill(position: int) -> tuple[int, str] | None:
        index, square = places[position]
        try:
            image = fit_image(read(index), len(square), channels)
        except UnreadableImage as error:
            return index, error.reason
        square[:] = np.asarray(image).reshape(square.shape)
        return None

    return pixels, sorted(filter(None, in_threads(fill, len(places), on_progress)))


def raise_unreadable(unreadable: Sequence[tuple[str, str]]) -> None:
    """Raise one error that names the first ten unreadable pictures and counts all, if any.

    Args:
        unreadable: Name and reason of each.
    """
    if not unreadable:
        return
    problems = [
        Problem(f"an image must decode in full, got {name}: {reason}")
        for name, reason in unreadable[:_NAMED_FILES]
    ]
    more = len(unreadable) - len(problems)
    count = "1 picture cannot" if len(unreadable) == 1 else f"{len(unreadable)} pictures cannot"
    listed = f" ({more} more not listed)" if more else ""
    problems.append(Problem(f"{count} be read{listed}: repair them or take them out of the folder"))
    raise InputError(problems)
