"""What the data holds, and whether all of it can be read: before a search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from collabdesign.design.sources import Data
from collabdesign.evaluate.data.folder import FolderListing, inspect_folder
from collabdesign.evaluate.data.images import load_data, load_test
from collabdesign.evaluate.data.pictures import Progress
from collabdesign.evaluate.data.sources import has_own_test, test_source, train_source
from collabdesign.evaluate.data.split import put_test_aside, split

# Opening every picture of a large folder would take longer than the rest of a check.
INSPECTED_AT_MOST = 4000

OnInspect = Callable[[str, int, int], None]
"""Called with what is being done, how much of it and how much there is."""


@dataclass(frozen=True)
class DataPart:
    """What was found of one part of the data.

    Attributes:
        name: ``train`` or ``test``.
        images: All of them.
        per_class: Images by class name.
        sizes: Images by ``WIDTHxHEIGHT``, most frequent first; of those inspected.
        inspected: How many were opened.
        unreadable: Path and reason.
        stray: What was passed over.
    """

    name: str
    images: int
    per_class: Mapping[str, int]
    sizes: Mapping[str, int]
    inspected: int
    unreadable: tuple[tuple[str, str], ...] = ()
    stray: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """What was found of the data.

    Attributes:
        parts: The train part and, where it is shown apart, the test part.
        images: How many a network is trained on, chosen by and tested on; None where not all
            can be read.
    """

    parts: tuple[DataPart, ...]
    images: tuple[int, int, int] | None


def inspect_data(data: Data, on_progress: OnInspect | None = None) -> Inspection:
    """Open the files of a folder, or many of them; read all of a set that others prepared.

    Raises:
        InputError: The data cannot be read at all.
    """
    source = train_source(data)
    if source.listing is None:
        return _read(data, on_progress)
    parts = [_open("train", source.listing, on_progress)]
    own_test = test_source(data, source) if has_own_test(data) else None
    if own_test is not None and own_test.listing is not None:
        parts.append(_open("test", own_test.listing, on_progress))
    if any(part.unreadable for part in parts):
        return Inspection(tuple(parts), None)
    test = put_test_aside(source, data)[0] if own_test is None else own_test.labels
    train, select = split(source, data)
    return Inspection(tuple(parts), (len(train), len(select), len(test)))


def _open(name: str, listing: FolderListing, on_progress: OnInspect | None) -> DataPart:
    found = inspect_folder(listing, INSPECTED_AT_MOST, _progress_of(name, on_progress))
    return DataPart(
        name=name,
        images=len(listing.files),
        per_class=listing.images_per_class,
        sizes={f"{width}x{height}": count for (width, height), count in found.sizes.items()},
        inspected=found.inspected,
        unreadable=found.unreadable,
        stray=tuple(map(str, listing.stray)),
    )


def _read(data: Data, on_progress: OnInspect | None) -> Inspection:
    loaded = load_data(data, on_progress=_progress_of("train", on_progress))
    test = load_test(data, on_progress=_progress_of("test", on_progress))
    parts = []
    for name, labels in (
        ("train", torch.cat([loaded.train_labels, loaded.select_labels])),
        ("test", test.labels),
    ):
        count, classes = len(labels), loaded.class_names
        per_class = torch.bincount(labels, minlength=len(classes)).tolist()
        counts = dict(zip(classes, per_class, strict=True))
        parts.append(
            DataPart(name, count, counts, {f"{data.resolution}x{data.resolution}": count}, count)
        )
    images = len(loaded.train_labels), len(loaded.select_labels), len(test.labels)
    return Inspection(tuple(parts), images)


def _progress_of(name: str, on_progress: OnInspect | None) -> Progress | None:
    return on_progress and partial(on_progress, f"opening {name} pictures")
