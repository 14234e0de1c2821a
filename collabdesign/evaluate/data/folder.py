"""What a folder of images holds: classes, pictures and what is passed over. No picture is opened.

A folder of images is ``ROOT/CLASS/PICTURE``. Folders inside of a class, of sessions or cameras,
count into it. Everything else is passed over and said (:attr:`FolderListing.stray`): hidden files
and folders, files beside the class folders, files whose suffix is not an image's. Links are
followed, a folder that was seen already is not entered again: so a loop of links ends.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from collabdesign.design.files.units import few
from collabdesign.design.folders import class_name, is_class
from collabdesign.errors import InputError, Problem
from collabdesign.evaluate.data.heif import SUFFIXES as HEIF_SUFFIXES
from collabdesign.evaluate.data.heif import can_read_heif

# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm",
    ".ppm", ".tif", ".tiff", ".webp",
})

# Pictures and films that Pillow does not read, and what to do about them.
_UNSUPPORTED = {
    "install the extra heif (pip install 'collabdesign[heif]'), or convert them to JPEG":
        HEIF_SUFFIXES,
    "develop them to JPEG or PNG": frozenset({
        ".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".kdc", ".mos", ".mrw", ".nef", ".nrw",
        ".orf", ".pef", ".raf", ".raw", ".rw2", ".sr2", ".srf", ".x3f",
    }),
    "take single frames out of them, as JPEG or PNG": frozenset({
        ".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv",
    }),
    "convert them to JPEG or PNG": frozenset({".dcm", ".eps", ".jxl", ".pdf", ".psd", ".svg"}),
}
# fmt: on

# Folders of these names hold classes, and are none.
PART_NAMES = frozenset({"test", "testing", "train", "training", "val", "valid", "validation"})


@dataclass(frozen=True)
class FolderListing:
    """The pictures of a folder, none of them opened yet.

    Attributes:
        root: As it was given.
        classes: Names of the class folders in one form of Unicode, sorted; a label is an index
            into them.
        files: Path and label of each picture, sorted by label, then by name.
        stray: What was passed over, sorted.
        inner: Folders inside of classes that pictures lie in.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[tuple[str, int], ...]
    stray: tuple[Path, ...]
    inner: int = 0

    @property
    def images_per_class(self) -> dict[str, int]:
        """Number of pictures by class name, in the order of the classes."""
        counts = Counter([label for _, label in self.files])
        return {name: counts[label] for label, name in enumerate(self.classes)}

    @property
    def unsupported(self) -> dict[str, tuple[Path, ...]]:
        """Of what was passed over, pictures in formats that are not read, by what to do."""
        found = {
            advice: tuple(path for path in self.stray if path.suffix.lower() in suffixes)
            for advice, suffixes in _UNSUPPORTED.items()
        }
        return {advice: paths for advice, paths in found.items() if paths}


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
    problems: list[Problem] = []
    entries = _entries(root, problems)
    folders = sorted((entry for entry in entries if is_class(entry)), key=_class_of)
    classes = tuple(map(_class_of, folders))
    stray = {entry.path for entry in entries} - {entry.path for entry in folders}
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
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        problems.append(
            Problem(f"a class must have one folder, got two of the same name: {few(twice)}")
        )
    # Where no picture stands directly in its class, and a name is that of a part, the classes lie
    # one level below.
    found = [_walk(folder.path, {_key(root), _key(folder.path)}, problems) for folder in folders]
    is_too_high = any(name.lower() in PART_NAMES for name in classes) and not any(
        pictures.direct for pictures in found
    )
    files: list[tuple[str, int]] = []
    inner = 0
    for label, (folder, pictures) in enumerate(zip(folders, found, strict=True)):
        files += [(path, label) for path in pictures.paths]
        stray |= set(pictures.stray)
        inner += pictures.inner
        # Folders of classes inside of a class: the data set lies there once more, or deeper.
        is_too_deep = not pictures.direct and not pictures.folders.isdisjoint(classes)
        if is_too_high or is_too_deep or not (pictures.paths or pictures.is_unreadable):
            problems.append(_empty_class(Path(folder.path), pictures.stray))
    if problems:
        raise InputError(problems)
    return FolderListing(root, classes, tuple(files), tuple(sorted(map(Path, stray))), inner)


def is_picture(name: str) -> bool:
    """Whether a file of this name is taken for a picture."""
    suffix = f".{name.rpartition('.')[2].lower()}"
    return suffix in IMAGE_SUFFIXES or (suffix in HEIF_SUFFIXES and can_read_heif())


@dataclass
class _Pictures:
    """What lies below a class folder.

    Attributes:
        paths: Of pictures.
        direct: How many of these lie in no folder below.
        stray: Other paths.
        folders: Names of the folders below.
        inner: How many of these hold pictures.
        is_unreadable: Whether one of them is.
    """

    paths: list[str] = field(default_factory=list)
    direct: int = 0
    stray: list[str] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)
    inner: int = 0
    is_unreadable: bool = False


def _walk(folder: str, seen: set[tuple[int, int]], problems: list[Problem]) -> _Pictures:
    """Pictures below a folder, sorted; ``seen`` are folders that are not entered again."""
    before = len(problems)
    entries = _entries(folder, problems)
    found = _Pictures(is_unreadable=len(problems) > before)
    for entry in entries:
        if entry.name.startswith("."):
            found.stray.append(entry.path)
        elif is_picture(entry.name) and _is_file(entry):
            found.paths.append(entry.path)
            found.direct += 1
        elif is_class(entry) and (key := _key(entry.path)) not in seen:
            seen.add(key)
            below = _walk(entry.path, seen, problems)
            found.paths += below.paths
            found.stray += below.stray or ([] if below.paths else [entry.path])
            found.folders |= {class_name(entry.name), *below.folders}
            found.inner += below.inner + bool(below.direct)
            found.is_unreadable |= below.is_unreadable
        else:
            found.stray.append(entry.path)
    return found


def _entries(folder: str | Path, problems: list[Problem]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        problems.append(Problem(f"a folder of images must be readable, got {folder}: {error}"))
        return []


def _class_of(entry: os.DirEntry[str]) -> str:
    return class_name(entry.name)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a loop of links
        return False


def _key(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _empty_class(folder: Path, stray: Iterable[str]) -> Problem:
    message = f"a class folder needs at least one image, got none in {folder}"
    with os.scandir(folder) as entries:
        inner = sorted(entry.name for entry in entries if is_class(entry))
    names: Sequence[str] = [os.path.splitext(path)[1].lower() for path in stray]
    for advice, suffixes in _UNSUPPORTED.items():
        if odd := sorted({name for name in names if name in suffixes}):
            return Problem(f"{message} that can be read: it holds {', '.join(odd)}", advice)
    hint = "put pictures into it or remove it"
    if inner:
        hint = (
            f"it holds folders ({', '.join(inner[:3])}{', ...' if len(inner) > 3 else ''}): if "
            f"these are the classes, name {folder} itself"
        )
    return Problem(message, hint)
