"""From a folder of images to files that load: requirements, and a prototype that fits them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low

import numpy as np
import yaml

from collabdesign.deliver.templates import Filters, render
from collabdesign.design.cost import Cost, cost_of
from collabdesign.design.files.document import read_text
from collabdesign.design.files.units import exact_bytes, exact_count, few
from collabdesign.design.requirements import Requirements
from collabdesign.design.space import DesignSpace
from collabdesign.errors import InputError, Problem
from collabdesign.evaluate.data.folder import FolderListing, list_folder
from collabdesign.evaluate.data.pictures import Progress, raise_unreadable, read_picture
from collabdesign.evaluate.data.sample import FolderInspection, inspect_folder
from collabdesign.files import write_text

REQUIREMENTS_FILE, PROTOTYPE_FILE = "requirements.yaml", "prototype.yaml"

# Whatever their case; the first that is there counts.
_TRAIN_FOLDERS = ("train", "training")
_TEST_FOLDERS = ("test", "testing", "val", "valid", "validation")
_TEST_FRACTION = _SELECT_FRACTION = 0.2

# Opening pictures takes about 10 s for 50,000 small ones and far longer for photographs.
_MOST_INSPECTED = 20_000
_MOST_TRAINED_ON = 50_000
_SUBSET = 20_000
_FEW_IMAGES = 50

# Sides that halve well. Above the last, a search on a processor takes days and not minutes.
_SIDES = (8, 16, 24, 32, 48, 64, 96)
# Up to this side, pictures that are all of one size keep it: resizing would only blur them.
_KEPT_SIDE = 64

# What one proxy goes through, repeats included: a minute or so for small pictures on two
# processor cores; fewer pictures where they are larger. A full training takes five times that:
# the shorter a proxy beside it, the less its order is that of the full trainings.
_PROXY_IMAGES = 80_000
_PROXY_PIXELS = 250_000_000

# Of the last two or three stages.
_CHANNELS = (
    "{low: 16, high: 48, step: 8}",
    "{low: 16, high: 80, step: 8}",
    "{low: 32, high: 160, step: 16}",
)

_PROPOSALS = 400
_SHARE_THAT_FITS = 0.25


@dataclass(frozen=True)
class InitResult:
    """The two files written, from which classes, and what a person should know.

    Attributes:
        images: In the train folder, those put aside as test included.
        resolution: Chosen side of the network's input in pixels.
        channels: 3, or 1 where all pictures are grey.
        share_that_fits: Of random proposals, 0 to 1.
        warnings: What was passed over, and what may go badly.
    """

    requirements: Path
    prototype: Path
    classes: tuple[str, ...]
    images: int
    resolution: int
    channels: int
    share_that_fits: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Parts:
    train: FolderListing
    test: FolderListing | None
    warnings: tuple[str, ...]


def init(
    folder: Path,
    into: Path = Path(),
    *,
    name: str | None = None,
    force: bool = False,
    on_progress: Progress | None = None,
) -> InitResult:
    """Look at a folder of images and write requirements and a prototype that fit it.

    Args:
        folder: Holds a folder of images for each class, or ``train`` and perhaps ``test``.
        into: Where to write; made where it is missing.
        name: Of the run; the folder's own where None.
        force: Write over files of these names.
        on_progress: Called with the pictures opened and their total.

    Raises:
        InputError: The folder is no folder of images, pictures in it cannot be read, there
            are too few, or the files are there already or cannot be written.
    """
    targets = (into / REQUIREMENTS_FILE, into / PROTOTYPE_FILE)
    there = [str(path) for path in targets if path.exists()]
    if there and not force:
        raise InputError(
            Problem(
                f"init must not write over files, got {' and '.join(there)}",
                "write them elsewhere, or say --force to replace them",
            )
        )
    if any("\ud800" <= letter <= "\udfff" for letter in os.path.abspath(folder)):
        # Bytes that the system could not decode: no YAML file can name them.
        name_shown = ascii(str(folder))
        raise InputError(f"the name of a folder of images must be UTF-8 text, got {name_shown}")
    parts = _find_parts(folder)
    _require_enough(parts)
    inspection, warnings = _inspect(parts, on_progress)
    resolution = _choose_resolution(inspection)
    channels = 1 if _is_grey(inspection) else 3
    classes, images, subset = parts.train.classes, len(parts.train.files), _subset(parts)
    prototype = prototype_text(resolution)
    own, macs, params, share = _choose_limits(prototype, resolution, channels, len(classes))
    proxy_epochs, full_epochs = _choose_epochs(parts, resolution)
    filters: Filters = {
        "scalar": _scalar,
        "count": exact_count,
        "bytes": exact_bytes,
        "rounded_up": rounded_up,
    }
    requirements = render(
        "init_requirements.yaml.jinja",
        filters,
        name=_run_name(name or Path(os.path.abspath(folder)).name),
        train=_written_path(parts.train.root, into),
        test=_written_path(parts.test.root, into) if parts.test else _TEST_FRACTION,
        test_images=len(parts.test.files) if parts.test else 0,
        classes=len(classes),
        images=images,
        train_images=subset or rounded_up(max(2, images // 4)),
        is_subset=bool(subset),
        sizes=_about_sizes(inspection),
        resolution=resolution,
        channels=channels,
        flip=not all(len(word) == 1 or word.isdecimal() for word in classes),
        proxy_epochs=proxy_epochs,
        full_epochs=full_epochs,
        macs=macs,
        params=params,
        own=own,
        share_that_fits=share,
    )
    try:
        into.mkdir(parents=True, exist_ok=True)
        for path, text in zip(targets, (requirements, prototype), strict=True):
            write_text(path, text)
    except OSError as error:
        raise InputError(f"init must be able to write its files in {into}: {error}") from None
    return InitResult(
        requirements=targets[0],
        prototype=targets[1],
        classes=classes,
        images=images,
        resolution=resolution,
        channels=channels,
        share_that_fits=share,
        warnings=(*parts.warnings, *warnings),
    )


# -- the folder -----------------------------------------------------------------------------


def _find_parts(folder: Path) -> _Parts:
    if not folder.is_dir():
        return _Parts(list_folder(folder), None, ())  # says what is wrong
    try:
        inner = _named(folder, _TRAIN_FOLDERS)
        # A class may be called train too: then pictures stand in it, and no folders.
        if inner is None or not any(entry.is_dir() for entry in inner.iterdir()):
            return _Parts(list_folder(folder), None, ())
        beside = {entry.name for entry in folder.iterdir() if entry.is_dir() and entry != inner}
    except OSError as error:
        raise InputError(f"a folder of images must be readable, got {folder}: {error}") from None
    train = list_folder(inner)
    warnings: list[str] = []
    test = None
    unused = {name for name in beside if not name.startswith(".")}
    for name in sorted(unused, key=_rank_as_test):
        if name.lower() in _TEST_FOLDERS and test is None:
            unused.remove(name)
            try:
                test = _list_test(folder / name, train)
            except InputError as error:
                warnings.append(f"not used as test: {error.problems[0].message}")
    if unused:
        warnings.append(f"folders beside train that are not used: {few(sorted(unused))}")
    return _Parts(train, test, tuple(warnings))


def _named(folder: Path, names: Sequence[str]) -> Path | None:
    """The folder of one of these names, whatever its case."""
    found = {entry.name.lower(): entry for entry in sorted(folder.iterdir()) if entry.is_dir()}
    return next((found[name] for name in names if name in found), None)


def _rank_as_test(name: str) -> tuple[int, str]:
    known = name.lower() in _TEST_FOLDERS
    return (_TEST_FOLDERS.index(name.lower()) if known else len(_TEST_FOLDERS), name)


def _list_test(folder: Path, train: FolderListing) -> FolderListing:
    if folder.samefile(train.root):
        raise InputError(f"{folder} is the train folder")
    listing = list_folder(folder)
    if odd := sorted(set(listing.classes) ^ set(train.classes)):
        raise InputError(f"{folder} has other classes than train ({few(odd)})")
    return listing


def _require_enough(parts: _Parts) -> None:
    """Each part that is split off must have an image of each class, and leave one."""
    counts = parts.train.images_per_class
    least = 3 if parts.test is None else 2
    # The part to choose by is split off last, and is the smallest.
    left = 1 if parts.test else 1 - _TEST_FRACTION
    average = math.ceil(1 / (left * _SELECT_FRACTION))
    small = [f"{name} ({count})" for name, count in counts.items() if count < least]
    if small or sum(counts.values()) < average * len(counts):
        got = few(small) if small else f"{sum(counts.values())} for {len(counts)} classes"
        raise InputError(
            Problem(
                f"each class needs at least {least} images, and {average} on average, to be split "
                f"into parts to train on, to choose by and to test on, got {got}",
                "add images, or take out the class",
            )
        )


def _inspect(
    parts: _Parts, on_progress: Progress | None
) -> tuple[FolderInspection, tuple[str, ...]]:
    """The train part opened, and warnings about both parts."""
    warnings = []
    inspections = []
    for listing in filter(None, (parts.train, parts.test)):
        inspection = inspect_folder(listing, sample=_MOST_INSPECTED, on_progress=on_progress)
        inspections.append(inspection)
        if inspection.inspected < len(listing.files):
            warnings.append(
                f"{inspection.inspected:,} of {len(listing.files):,} pictures in {listing.root} "
                "were opened; collabdesign check opens all that a search uses"
            )
        if listing.inner:
            warnings.append(
                f"folders inside of classes in {listing.root}: {listing.inner:,}; their pictures "
                "count into the class"
            )
        for advice, paths in listing.unsupported.items():
            names = [str(path.relative_to(listing.root)) for path in paths]
            warnings.append(f"not read in {listing.root}: {few(names)}; {advice}")
        unsupported = {path for paths in listing.unsupported.values() for path in paths}
        if strays := [path for path in listing.stray if path not in unsupported]:
            names = [str(path.relative_to(listing.root)) for path in strays]
            warnings.append(f"passed over in {listing.root}, as no pictures: {few(names)}")
    raise_unreadable(
        [(str(path), reason) for found in inspections for path, reason in found.unreadable]
    )
    counts = parts.train.images_per_class
    smallest, largest = min(counts.values()), max(counts.values())
    if smallest < _FEW_IMAGES:
        rare = [f"{name} ({count})" for name, count in counts.items() if count < _FEW_IMAGES]
        warnings.append(f"classes with few images, whose accuracy will say little: {few(rare)}")
    if largest > 10 * smallest:
        warnings.append(
            f"classes have from {smallest:,} to {largest:,} images: accuracy will speak for the "
            "large ones"
        )
    if subset := _subset(parts):
        warnings.append(
            f"of {len(parts.train.files):,} images {subset:,} are trained on: see data.train_images"
        )
    return inspections[0], tuple(warnings)


def _subset(parts: _Parts) -> int | None:
    """How many images to train on where all would be too many for a first search."""
    return _SUBSET if len(parts.train.files) > _MOST_TRAINED_ON else None


def _is_grey(inspection: FolderInspection) -> bool:
    """Whether all pictures are grey; of those in a colour format, a hundred are looked at."""
    if set(inspection.modes) <= {"1", "L", "LA"}:
        return True
    files = inspection.listing.files
    some = (
        read_picture(path).image.convert("RGB") for path, _ in files[:: max(1, len(files) // 100)]
    )
    return all((pixels == pixels[..., :1]).all() for pixels in map(np.asarray, some))


def _median_side(inspection: FolderInspection) -> int:
    """Median of the pictures' shorter sides."""
    sizes = inspection.sizes.items()
    return median_low(min(size) for size, count in sizes for _ in range(count))


def _choose_resolution(inspection: FolderInspection) -> int:
    side = _median_side(inspection)
    if inspection.sizes.keys() == {(side, side)} and 4 <= side <= _KEPT_SIDE:
        return side
    return max((usual for usual in _SIDES if usual <= side), default=_SIDES[0])


def _choose_epochs(parts: _Parts, resolution: int) -> tuple[int, int]:
    """Passes of the proxy and of the full training."""
    images = float(_subset(parts) or len(parts.train.files))
    if parts.test is None and not _subset(parts):
        images *= 1 - _TEST_FRACTION
    images *= 1 - _SELECT_FRACTION
    epochs = min(_PROXY_IMAGES, _PROXY_PIXELS / resolution**2) / images
    return min(20, max(2, round(epochs))), min(100, max(20, round(5 * epochs)))


def _choose_limits(
    prototype: str, resolution: int, channels: int, classes: int
) -> tuple[Cost, int, int, float]:
    """The tightest round limits that the own values and a quarter of random proposals keep.

    Returns:
        Cost of the own values, limits of macs and params, and the share that keeps both.
    """
    shape = {"resolution": resolution, "channels": channels, "classes": classes}
    data = {"source": "folder", "train": ".", **shape}
    written = {"name": "limits", "prototype": read_text(prototype).data, "data": data}
    space = DesignSpace(Requirements.model_validate(written))
    own = cost_of(space.decode(space.own()))
    rng = np.random.default_rng(0)
    drawn = [cost_of(space.decode(space.sample(rng))) for _ in range(_PROPOSALS)]
    costs = np.array([(cost.macs, cost.params) for cost in drawn])
    for macs, params in np.sort(costs, axis=0).tolist():
        limits = rounded_up(max(own.macs, macs)), rounded_up(max(own.params, params))
        share = float((costs <= limits).all(axis=1).mean())
        if share >= _SHARE_THAT_FITS:
            return own, *limits, share
    raise AssertionError("all proposals keep the cost of the largest")


def _about_sizes(inspection: FolderInspection) -> str:
    sizes = list(inspection.sizes)
    width, height = sizes[0]
    if len(sizes) == 1:
        return f"All pictures are {width}x{height}."
    return (
        f"The median picture has {_median_side(inspection)} on\n"
        f"  # its shorter side; the most frequent of {len(sizes)} sizes is {width}x{height}."
    )


def _run_name(name: str) -> str:
    """A name with what a run folder's name may have."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
    return name.lstrip("._-")[:64].rstrip("._-") or "images"


def _written_path(path: Path, into: Path) -> str:
    """Relative where both lie under one folder other than the root."""
    path, into = Path(os.path.abspath(path)), Path(os.path.abspath(into))
    try:
        shared = os.path.commonpath((path, into))
    except ValueError:  # on two drives
        return path.as_posix()
    if shared == path.anchor:
        return path.as_posix()
    written = Path(os.path.relpath(path, into)).as_posix()
    return f"./{written}" if written.startswith("~") else written  # no home directory


# -- the texts ------------------------------------------------------------------------------


def prototype_text(resolution: int) -> str:
    """The prototype file for an input of this side: residual modules in two or three stages."""
    # Halved so often that 3 to 7 pixels are left on a side; the stem once where stages are few.
    halvings = max(0, round(math.log2(resolution / 4.5)))
    in_stem = 1 if halvings > 2 else 0
    in_stages = halvings - in_stem
    assert in_stages <= len(_CHANNELS)
    strides = [1] * (2 - in_stages) + [2] * in_stages
    return render(
        "init_prototype.yaml.jinja",
        stem_stride=in_stem + 1,
        resolution=resolution,
        left=math.ceil(resolution / 2**halvings),
        strides=strides,
        channels=_CHANNELS[-len(strides) :],
    )


def rounded_up(value: int) -> int:
    """To two digits, the second of them 0, 2 or 5 below 5 and 0 above."""
    power: int = 10 ** max(0, len(str(value)) - 2)
    steps = (10, 12, 15, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80, 90, 100)
    return power * next(step for step in steps if step * power >= value)


def _scalar(text: str) -> str:
    """As YAML, in quotes unless it is plainly a word or a path."""
    if re.fullmatch(r"[A-Za-z./][A-Za-z0-9._/-]*[A-Za-z/]|[A-Za-z./]+", text) and not re.fullmatch(
        r"\.inf|\.nan|null|true|false", text, re.IGNORECASE
    ):
        return text
    quoted: str = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10**6)
    return quoted.strip()
