"""Pictures with objects from a COCO instances file: all of it checked before it is used.

What files from elsewhere have and what is made of it:

- ids may have gaps, and those of images may be text; categories are labelled from 1 in the order
  of their ids;
- a picture without objects stays, to learn that nothing is there;
- grey and palette pictures become colour. A picture with an orientation mark is as a viewer shows
  it; where the file gives width and height of its stored pixels, it is as it is stored;
- polygons may lie up to a pixel outside of the picture, boxes further; both are cut off at its
  edge. What lies further outside, or leaves nothing of a box inside, is refused;
- crowds are no objects to learn from, and count in judging as COCO counts them;
- an object whose mask covers no pixel, such as a sliver of a polygon, or whose box has a side under
  a tenth of a pixel is not learnt from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from collabdesign.detect.segmentation import Rle
from collabdesign.evaluate.data.pictures import read_picture

Id = int | str

_LEAST_SIDE = 0.1

# What undoes the turn that a picture's orientation mark asks for, where that swaps its sides.
_ORIENTATION = 0x0112
_TURN_BACK = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True)
class CocoObject:
    """An object in a picture, or a crowd of such.

    Attributes:
        label: From 1, an index into :attr:`CocoData.category_names` with 0 for the background.
        box: Left, top, right and bottom in pixels, inside of the picture.
        written_box: As the file has it: left, top, width and height.
        mask: Of the size of the picture.
        area: Pixels, as the file says or else of the mask.
        is_crowd: Whether it stands for many objects that are not told apart.
        has_pixels: Whether the mask covers any.
    """

    label: int
    box: tuple[float, float, float, float]
    written_box: tuple[float, float, float, float]
    mask: Rle
    area: float
    is_crowd: bool
    has_pixels: bool

    @property
    def is_learnt(self) -> bool:
        """Whether a detector learns from it."""
        left, top, right, bottom = self.box
        is_flat = min(right - left, bottom - top) < _LEAST_SIDE
        return not self.is_crowd and self.has_pixels and not is_flat


@dataclass(frozen=True)
class CocoImage:
    """A picture.

    Attributes:
        id: As the file has it.
        name: Its file name there.
        path: Where it lies.
        width: In pixels.
        height: In pixels.
        objects: May be none.
    """

    id: Id
    name: str
    path: Path
    width: int
    height: int
    objects: tuple[CocoObject, ...]

    @property
    def learnt(self) -> tuple[CocoObject, ...]:
        """The objects that a detector learns from."""
        return tuple(each for each in self.objects if each.is_learnt)


@dataclass(frozen=True)
class CocoData:
    """All pictures of a file.

    Attributes:
        file: The file.
        categories: Id and name of each, by rising id.
        images: In the order of the file.
        fingerprint: SHA-256 of the file, and of the names and sizes in bytes of its pictures.
    """

    file: Path
    categories: tuple[tuple[int, str], ...]
    images: tuple[CocoImage, ...]
    fingerprint: str

    @property
    def category_names(self) -> tuple[str, ...]:
        """By label, from 1."""
        return tuple(name for _, name in self.categories)

    @property
    def objects(self) -> int:
        """How many, crowds included."""
        return sum(len(image.objects) for image in self.images)


def coco_picture(image: CocoImage) -> Image.Image:
    """The picture in colour, turned so that it has the width and height that the file gives.

    Raises:
        UnreadableImage: It does not decode.
    """
    shown = read_picture(image.path).image
    stated = image.width, image.height
    if shown.size != stated and shown.size == stated[::-1]:
        with Image.open(image.path) as stored:
            mark = stored.getexif().get(_ORIENTATION)
        if mark in _TURN_BACK:
            shown = shown.transpose(_TURN_BACK[mark])
    return shown.convert("RGB")


def hold_out(images: Sequence[CocoImage], share: float) -> tuple[list[CocoImage], list[CocoImage]]:
    """What is learnt from, and the held-out part: the same pictures whatever their order.

    Which they are follows from their file names. At least one picture is on either side.
    """
    names = sorted({image.name for image in images}, key=_rank)
    count = min(max(1, round(share * len(names))), len(names) - 1)
    held = set(names[:count])
    return (
        [image for image in images if image.name not in held],
        [image for image in images if image.name in held],
    )


def _rank(name: str) -> bytes:
    return hashlib.sha256(f"held out {name}".encode()).digest()
