"""What a folder of images holds: classes, sizes, unreadable and stray files. PIL, no torch.

A folder of images is ``ROOT/CLASS/PICTURE``: one folder a class, pictures directly in it.
Everything else is passed over and said (:attr:`FolderListing.stray`): hidden files and
folders, files beside the class folders, files whose suffix is not an image's, folders inside
a class folder. Links are followed one level, so a loop of links cannot hang the listing.

Listing opens no file; inspecting and reading decode each picture in full.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from collabdesign.design.folders import is_class
from collabdesign.errors import InputError, Problem
from collabdesign.evaluate.data.pictures import Progress, UnreadableImage, in_threads, read_image

# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm",
    ".ppm", ".tif", ".tiff", ".webp",
})
# fmt: on


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
        counts = Counter(self.classes[label] for _, label in self.files)
        return {name: counts[name] for name in self.classes}


@dataclass(frozen=True)
class FolderInspection:
    """What the pictures of a folder are, after opening them.

    Attributes:
        listing: What was inspected.
        inspected: Number of pictures opened: all, or the sample that was asked for.
        sizes: Number of readable pictures by (width, height) in pixels, most frequent first.
        modes: Number of readable pictures by PIL mode (``RGB``, ``L``, ...), likewise.
        unreadable: Path and reason of each picture that does not decode.
    """

    listing: FolderListing
    inspected: int
    sizes: Mapping[tuple[int, int], int]
    modes: Mapping[str, int]
    unreadable: tuple[tuple[str, str], ...]


def list_folder(root: Path) -> FolderListing:
    """List the classes and pictures of a folder, opening no file.

    Raises:
        InputError: The folder is missing, is no folder, cannot be read, has no or only one
            class folder, or has class folders without pictures (each of them is named).
    """
    if not root.exists():
        raise InputError(f"a folder of images must exist, got {root}")
    if not root.is_dir():
        raise InputError(f"a folder of images must be a folder, got the file {root}")
    files: list[tuple[Path, int]] = []
    problems: list[Problem] = []
    entries = _entries(root, problems)
    folders = [entry for entry in entries if is_class(entry)]
    stray = set(entries) - set(folders)
    classes = tuple(folder.name for folder in folders)
    if len(classes) < 2:
        problems.insert(
            0,
            Problem(
                "a folder of images needs at least two class folders, "
                f"got {', '.join(classes) or 'none'} in {root}",
                "put the pictures of each class into a folder of their own: "
                f"{root / 'CLASS' / 'picture.jpg'}",
            ),
        )
    for label, folder in enumerate(folders):
        already = len(problems)
        entries = _entries(folder, problems)
        images = [entry for entry in entries if _is_image(entry)]
        files += [(image, label) for image in images]
        stray |= set(entries) - set(images)
        if not images and len(problems) == already:
            problems.append(_empty_class(folder, entries))
    if problems:
        raise InputError(problems)
    return FolderListing(root, classes, tuple(files), tuple(sorted(stray)))


def inspect_folder(
    listing: FolderListing, sample: int, on_progress: Progress | None = None
) -> FolderInspection:
    """Decode pictures in full, at most ``sample`` of them, spread evenly over the listing.

    Progress is told now and then from the calling thread.
    """
    paths = [path for path, _ in listing.files]
    if sample < len(paths):
        paths = [paths[index * len(paths) // sample] for index in range(sample)]
    sizes: Counter[tuple[int, int]] = Counter()
    modes: Counter[str] = Counter()
    unreadable: list[tuple[str, str]] = []

    def inspect(position: int) -> tuple[tuple[int, int], str] | UnreadableImage:
        try:
            image = read_image(paths[position])
        except UnreadableImage as error:
            return error
        return image.size, image.mode

    for path, found in zip(paths, in_threads(inspect, len(paths), on_progress), strict=True):
        if isinstance(found, UnreadableImage):
            unreadable.append((str(path), found.reason))
        else:
            sizes[found[0]] += 1
            modes[found[1]] += 1
    return FolderInspection(
        listing=listing,
        inspected=len(paths),
        sizes=dict(sizes.most_common()),
        modes=dict(modes.most_common()),
        unreadable=tuple(unreadable),
    )


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
    hint = "put pictures into it or remove it"
    if inner:
        hint = (
            f"it holds folders ({', '.join(inner[:3])}{', ...' if len(inner) > 3 else ''}): if "
            f"these are the classes, name {folder} itself; pictures stand directly in their class "
            "folder"
        )
    return Problem(message, hint)
