"""A picture from a file, and what is told of it. PIL, no torch.

Pictures are decoded in threads, since PIL frees the interpreter while it decodes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, TypeVar

from PIL import Image, UnidentifiedImageError

from collabdesign.design.sources import MAX_MEGAPIXELS
from collabdesign.errors import InputError, Problem
from collabdesign.evaluate.data.colours import wide_gamut
from collabdesign.evaluate.data.heif import is_heif, register_heif
from collabdesign.evaluate.data.shown import as_shown
from collabdesign.evaluate.library_warnings import naming_file

# Resizing the shorter side makes the longer one grow with it: a line of one pixel by many
# thousands would fill the memory.
_LONGEST_ASPECT = 50

# Several pictures in one file that are no animation: a phone's picture and its depth, pages.
_NOT_ANIMATED = frozenset({"MPO", "HEIF", "AVIF", "ICNS", "ICO"})

_Result = TypeVar("_Result")

_NAMED_FILES = 10
_CHUNK = 64

Progress = Callable[[int, int], None]
"""Called with the number of images done and their total."""


class Picture(NamedTuple):
    """A picture that was decoded.

    Attributes:
        image: As a viewer shows it.
        size: Width and height of it.
        mode: PIL's, as it is stored.
        is_animated: Whether there are more frames, or pages; the first counts.
        profile: The name of a colour profile whose colours reach beyond sRGB; empty for none.
            Its numbers are taken as they are.
    """

    image: Image.Image
    size: tuple[int, int]
    mode: str
    is_animated: bool
    profile: str

    @classmethod
    def of(cls, image: Image.Image) -> Picture:
        """From PIL's, at its first frame."""
        # Before it is loaded: to count the frames of some formats, PIL moves through them.
        several = image.format not in _NOT_ANIMATED and getattr(image, "is_animated", False)
        shown = as_shown(image)
        profile = image.info.get("icc_profile")
        return cls(shown, shown.size, image.mode, several, wide_gamut(profile) if profile else "")


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
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        for part in executor.map(chunk, range(0, count, _CHUNK)):
            results += part
            if on_progress is not None:
                on_progress(len(results), count)
    return results


def read_picture(path: Path | str, megapixels: float = MAX_MEGAPIXELS) -> Picture:
    """Open a picture and decode it in full.

    Args:
        path: Of its file.
        megapixels: More are refused.

    Raises:
        UnreadableImage: It does not decode, has too many pixels or more than 8 bits a channel, or
            is over 50 times longer than wide.
    """
    if is_heif(path):
        register_heif()
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise UnreadableImage(path, error.strerror or str(error)) from None
    if not size:
        raise UnreadableImage(path, "the file is empty")
    return _read(path, path, megapixels)


def read_bytes(content: bytes, name: str, megapixels: float = MAX_MEGAPIXELS) -> Picture:
    """Like :func:`read_picture`, from what a file holds; ``name`` is for the message."""
    return _read(BytesIO(content), name, megapixels)


def _read(file: Path | str | BytesIO, name: Path | str, megapixels: float) -> Picture:
    most = int(megapixels * 1e6)
    if Image.MAX_IMAGE_PIXELS is not None and most > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = most  # Pillow's own guard has one value in a process
    try:
        with naming_file(name), Image.open(file) as image:
            if image.width * image.height <= most:
                return _checked(name, Picture.of(image))
            pixels = f"with {image.width * image.height / 1e6:,.0f} megapixels "
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        reason = "not a picture in a format that Pillow reads"
        raise UnreadableImage(name, reason) from None
    except Image.DecompressionBombError:
        pixels = ""
    # PIL's decoders raise nearly anything on a broken file: OSError, SyntaxError, ValueError,
    # struct.error, ... The reason is always reported.
    except Exception as error:
        raise UnreadableImage(name, str(error) or type(error).__name__) from None
    raise UnreadableImage(
        name,
        f"{pixels}it exceeds limit data.max_megapixels: {megapixels:g}; a larger limit lets it in, "
        "at 3 MB of memory a megapixel",
    )


def _checked(path: Path | str, picture: Picture) -> Picture:
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        # Converting these to 8 bits cuts everything above 255 to white.
        raise UnreadableImage(
            path,
            f"mode {picture.mode} has more than 8 bits a channel; convert all pictures to 8 bits "
            "with one range",
        )
    if max(picture.size) > _LONGEST_ASPECT * min(picture.size):
        size = "{}x{}".format(*picture.size)
        raise UnreadableImage(
            path, f"{size} pixels is over {_LONGEST_ASPECT} times longer than wide"
        )
    return picture


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
