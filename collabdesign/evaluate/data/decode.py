"""Many pictures as one array, and what was found of each while it was open. PIL, no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from collabdesign.evaluate.data.pictures import Picture, Progress, UnreadableImage, in_threads
from collabdesign.evaluate.data.shown import fit_image

Pixels = NDArray[np.uint8]

DIGEST = 16
"""Bytes of the digest of a picture."""

THUMB = (9, 8)
"""Width and height of its thumbnail."""


class Found(NamedTuple):
    """What was found of one picture.

    Attributes:
        digest: Of all its pixels, as they are shown.
        size: Width and height.
        mode: PIL's.
        is_animated: Whether there are more frames.
        profile: The name of a wide colour profile, or empty.
    """

    digest: bytes
    size: tuple[int, int]
    mode: str
    is_animated: bool
    profile: str


@dataclass(frozen=True)
class Decoded:
    """Pictures of one part.

    Attributes:
        thumbs: uint8 [N, 8, 9], grey, of the square that is cut out.
        found: Of each picture; None where it cannot be read, and its pixels mean nothing.
        broken: Position in the part and reason of each of these.
    """

    thumbs: Pixels
    found: tuple[Found | None, ...]
    broken: tuple[tuple[int, str], ...]


def decode(
    read: Sequence[Callable[[int], Picture]],
    pixels: Sequence[Pixels],
    on_progress: Progress | None = None,
) -> list[Decoded]:
    """Read pictures in threads by the evaluation path of :func:`fit_image`.

    Args:
        read: Of each part, from a position to a picture; raises :class:`UnreadableImage`.
        pixels: Of each part [N, side, side, channels], filled with values from 0 to 255.
        on_progress: Called now and then from the calling thread.
    """
    thumbs = [np.zeros((len(each), *THUMB[::-1]), np.uint8) for each in pixels]
    places = [(part, position) for part, each in enumerate(pixels) for position in range(len(each))]

    def fill(number: int) -> Found | str:
        part, position = places[number]
        square = pixels[part][position]
        try:
            picture = read[part](position)
        except UnreadableImage as error:
            return error.reason
        fitted = fit_image(picture.image, len(square), square.shape[-1])
        square[:] = np.asarray(fitted).reshape(square.shape)
        small = fitted.convert("L").resize(THUMB, Image.Resampling.BOX)
        thumbs[part][position] = np.asarray(small)
        digest = _digest(picture.image, square.shape[-1])
        return Found(digest, picture.size, picture.mode, picture.is_animated, picture.profile)

    every = iter(in_threads(fill, len(places), on_progress))
    decoded = []
    for part, each in enumerate(pixels):
        found = [next(every) for _ in range(len(each))]
        broken = tuple((n, reason) for n, reason in enumerate(found) if isinstance(reason, str))
        read_ones = tuple(None if isinstance(one, str) else one for one in found)
        decoded.append(Decoded(thumbs[part], read_ones, broken))
    return decoded


def _digest(image: Image.Image, channels: int) -> bytes:
    shown = image.convert("RGB" if channels == 3 else "L")
    digest = hashlib.sha256(f"{shown.size} ".encode())
    digest.update(shown.tobytes())
    return digest.digest()[:DIGEST]
