"""What a folder of images holds: classes, sizes, unreadable and stray files. PIL, no torch.

A folder of images is ``ROOT/CLASS/PICTURE``: one folder a class, pictures directly in it.
Everything else is passed over and said (:attr:`FolderListing.stray`): hidden files and
folders, files beside the class folders, files whose suffix is not an image's, folders inside
a class folder. Links are followed one level, so a loop of links cannot hang the listing.

Listing opens no file; inspecting and reading decode each picture in full, in threads, since
PIL frees the interpreter while it decodes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from collabdesign.design.folders import STRAY_FOLDERS
from collabdesign.errors import InputError, Problem

# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm",
    ".ppm", ".tif", ".tiff", ".webp",
})
# fmt: on

# Resizing the shorter side makes the longer one grow with it: a line of one pixel by many
# thousands would fill the memory.
_LONGEST_ASPECT = 50

_Result = TypeVar("_Result")

_NAMED_FILES = 10
_CHUNK = 64

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


@dataclass(frozen=True)
class FolderListing:
    """The pictures of a folder, none of them opened yet.

    Attributes:
        root: As it was given.
        classes: Names of the class folders, sorted; a label is an index into them.
        files: Path and label of each picture, sorted by label, then by name.
        stray: What was passed over, sorted.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[tuple[Path, int], ...]
    stray: tuple[Path, ...]

    @property
    def images_per_class(self) -> dict[str, int]:
        """Number of pictures by class name, in the order of the classes."""
        counts = Counter(label for _, label in self.files)
        return {name: counts[label] for label, name in enumerate(self.classes)}


@dataclass(frozen=True)
class FolderInspection:
    """What the pictures of a folder are, after opening them.

    Attributes:
        listing: What was inspected.
        inspected: Number of pictures opened: all, or the sample that was asked for.
        sizes: Number of readable pictures by (width, height) in pixels, most frequent first.
        modes: Number of readable pictures by PIL mode (``RGB``, ``L``, ...), likewise.
        unreadable: Path and reason of each picture that does not decode.
        images_per_class: Number of listed pictures by class name.
    """

    listing: FolderListing
    inspected: int
    sizes: Mapping[tuple[int, int], int]
    modes: Mapping[str, int]
    unreadable: tuple[tuple[Path, str], ...]
    images_per_class: Mapping[str, int]


def list_folder(root: Path) -> FolderListing:
    """List the classes and pictures of a folder, opening no file.

    Raises:
        InputError: The folder is missing, is no folder, cannot be read, has no or only one
            class folder, or has class folders without pictures (each of them is named).
    """
    root = Path(root)
    if not root.exists():
        raise InputError(f"a folder of images must exist, got {root}")
    if not root.is_dir():
        raise InputError(f"a folder of images must be a folder, got the file {root}")
    class_folders: list[Path] = []
    files: list[tuple[Path, int]] = []
    stray: list[Path] = []
    problems: list[Problem] = []
    for entry in _entries(root, problems):
        is_class = entry.is_dir() and not _is_hidden(entry) and entry.name not in STRAY_FOLDERS
        (class_folders if is_class else stray).append(entry)
    for label, folder in enumerate(class_folders):
        already = len(problems)
        entries = _entries(folder, problems)
        images = [entry for entry in entries if _is_image(entry)]
        files += [(image, label) for image in images]
        stray += sorted(set(entries) - set(images))
        if not images and len(problems) == already:
            problems.append(_empty_class(folder, entries))
    if len(class_folders) < 2:
        names = ", ".join(folder.name for folder in class_folders) or "none"
        problems.insert(
            0,
            Problem(
                f"a folder of images needs at least two class folders, got {names} in {root}",
                "put the pictures of each class into a folder of their own: "
                f"{root / 'CLASS' / 'picture.jpg'}",
            ),
        )
    if problems:
        raise InputError(problems)
    classes = tuple(folder.name for folder in class_folders)
    return FolderListing(root, classes, tuple(files), tuple(sorted(stray)))


def inspect_folder(
    listing: FolderListing,
    *,
    sample: int | None = None,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> FolderInspection:
    """Decode pictures in full and say what they are and which cannot be read.

    Args:
        listing: From :func:`list_folder`.
        sample: Open about this many, spread evenly over the listing; all where None.
        workers: Threads; one a processor, at most 8, where None.
        on_progress: Called now and then from the calling thread.
    """
    paths = [path for path, _ in listing.files]
    if sample is not None and sample < len(paths):
        paths = [paths[index * len(paths) // sample] for index in range(sample)]
    sizes: Counter[tuple[int, int]] = Counter()
    modes: Counter[str] = Counter()
    unreadable: list[tuple[Path, str]] = []

    def inspect(position: int) -> tuple[tuple[int, int], str] | UnreadableImage:
        try:
            image = read_image(paths[position])
        except UnreadableImage as error:
            return error
        return image.size, image.mode

    found = _in_threads(inspect, len(paths), workers, on_progress)
    for path, what in zip(paths, found, strict=True):
        if isinstance(what, UnreadableImage):
            unreadable.append((path, what.reason))
        else:
            sizes[what[0]] += 1
            modes[what[1]] += 1
    return FolderInspection(
        listing=listing,
        inspected=len(paths),
        sizes=dict(sizes.most_common()),
        modes=dict(modes.most_common()),
        unreadable=tuple(unreadable),
        images_per_class=listing.images_per_class,
    )


def read_images(
    listing: FolderListing,
    resolution: int,
    channels: int,
    *,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read every picture of a listing by the evaluation path of :func:`fit_image`.

    Returns:
        Pixels [N, resolution, resolution, channels] from 0 to 255, and labels [N].

    Raises:
        InputError: Pictures cannot be read; the first ten are named and all are counted.
    """
    pixels, unreadable = decode(
        lambda position: read_image(listing.files[position][0]),
        range(len(listing.files)),
        resolution,
        channels,
        workers=workers,
        on_progress=on_progress,
    )
    raise_unreadable([(str(listing.files[at][0]), reason) for at, reason in unreadable])
    return pixels, np.array([label for _, label in listing.files], dtype=np.int64)


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
        raise UnreadableImage(
            path, "the file is empty" if empty else "not a picture in a format that Pillow reads"
        ) from None
    # PIL's decoders raise nearly anything on a broken file: OSError, SyntaxError, ValueError,
    # struct.error, DecompressionBombError, ... The reason is always reported.
    except Exception as error:
        raise UnreadableImage(path, str(error) or type(error).__name__) from None
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        # Converting these to 8 bits cuts everything above 255 to white.
        raise UnreadableImage(path, f"mode {image.mode} has more than 8 bits a channel")
    if max(image.size) > _LONGEST_ASPECT * min(image.size):
        width, height = image.size
        raise UnreadableImage(
            path, f"{width}x{height} pixels is over {_LONGEST_ASPECT} times longer than wide"
        )
    return image


def fit_image(image: Image.Image, resolution: int, channels: int) -> Image.Image:
    """Bring a picture to the form that a network is evaluated on.

    Convert to RGB (3 channels) or L (1 channel), resize the shorter side to ``resolution``
    with antialiased bilinear interpolation, cut out the centre square. A picture of that
    form already is unchanged.

    Args:
        image: Of any mode and size.
        resolution: Side of the square in pixels.
        channels: 1 or 3.
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
    indices: Sequence[int],
    resolution: int,
    channels: int,
    *,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> tuple[NDArray[np.uint8], list[tuple[int, str]]]:
    """Read pictures in threads by the evaluation path of :func:`fit_image`.

    Args:
        read: From an index to a decoded picture; raises :class:`UnreadableImage`.
        indices: Of the pictures, in the order of the result.
        resolution: Side of the square in pixels.
        channels: 1 or 3.
        workers: Threads; one a processor, at most 8, where None.
        on_progress: Called now and then from the calling thread.

    Returns:
        Pixels [N, resolution, resolution, channels] from 0 to 255, and index and reason of
        each picture that cannot be read (its pixels mean nothing).
    """
    pixels = np.zeros((len(indices), resolution, resolution, channels), dtype=np.uint8)

    def fill(position: int) -> UnreadableImage | None:
        try:
            image = fit_image(read(indices[position]), resolution, channels)
        except UnreadableImage as error:
            return error
        pixels[position] = np.asarray(image).reshape(resolution, resolution, channels)
        return None

    outcomes = _in_threads(fill, len(indices), workers, on_progress)
    return pixels, [
        (index, error.reason) for index, error in zip(indices, outcomes, strict=True) if error
    ]


def raise_unreadable(unreadable: Sequence[tuple[str, str]]) -> None:
    """Raise one error that names unreadable pictures, if there are any.

    Args:
        unreadable: Name and reason of each.

    Raises:
        InputError: There is at least one; the first ten are named and all are counted.
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


def _entries(folder: Path, problems: list[Problem]) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        problems.append(Problem(f"a folder of images must be readable, got {folder}: {error}"))
        return []


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not _is_hidden(path) and path.is_file()


def _empty_class(folder: Path, entries: Sequence[Path]) -> Problem:
    message = f"a class folder needs at least one image, got none in {folder}"
    inner = [entry.name for entry in entries if not _is_hidden(entry) and entry.is_dir()]
    if inner:
        return Problem(
            message,
            f"it holds folders ({', '.join(inner[:3])}{', ...' if len(inner) > 3 else ''}): "
            f"if these are the classes, name {folder} itself; pictures stand directly in "
            "their class folder",
        )
    return Problem(message, "put pictures into it or remove it")


def _in_threads(
    work: Callable[[int], _Result],
    count: int,
    workers: int | None,
    on_progress: Progress | None,
) -> list[_Result]:
    """``[work(0), ..., work(count - 1)]``, in chunks so that small pictures pay little."""

    def chunk(start: int) -> list[_Result]:
        return [work(position) for position in range(start, min(start + _CHUNK, count))]

    results: list[_Result] = []
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as executor:
        for part in executor.map(chunk, range(0, count, _CHUNK)):
            results += part
            if on_progress is not None:
                on_progress(len(results), count)
    return results
