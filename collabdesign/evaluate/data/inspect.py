"""What the data holds, whether all of it can be read, and what would make numbers lie: before a
search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np

from collabdesign.design.sources import Data
from collabdesign.evaluate.data.cache import cache_folder
from collabdesign.evaluate.data.copies import Pair, copied_pairs, in_two_classes, near_copies
from collabdesign.evaluate.data.opened import Opened, look_at
from collabdesign.evaluate.data.parts import Part
from collabdesign.evaluate.data.source import Source

OnInspect = Callable[[str, int, int], None]
"""Called with what is being done, how much of it and how much there is."""

_NAMED = 20

_Key = TypeVar("_Key")


@dataclass(frozen=True)
class DataPart:
    """What was found of one part of the data.

    Attributes:
        name: ``train``, of which a part is held out, or ``test``.
        images: All of them.
        per_class: Images by class name.
        sizes: Images by ``WIDTHxHEIGHT`` as they are shown, most frequent first.
        inspected: How many were opened: all that a search uses. Where ``data.train_images`` asks
            for fewer than there are, the others are in no part.
        unreadable: Name and reason.
        stray: What was passed over.
        unsupported: Of these, how many are pictures or films that are not read, by what to do.
        inner: Folders inside of classes that count into these.
        animated: Pictures with more frames than the first, which counts.
        profiles: Pictures by the name of a colour profile wider than sRGB, which is not applied.
    """

    name: str
    images: int
    per_class: Mapping[str, int]
    sizes: Mapping[str, int]
    inspected: int
    unreadable: tuple[tuple[str, str], ...] = ()
    stray: tuple[str, ...] = ()
    unsupported: Mapping[str, int] = field(default_factory=dict)
    inner: int = 0
    animated: int = 0
    profiles: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Copies:
    """Pictures that stand there twice; of many pairs the first are named.

    Attributes:
        in_test: How many of test are learnt from or chosen by, and are left out there.
        in_select: How many of the held-out part are learnt from, and are left out there.
        two_classes: How many have two labels; they stay.
        near: How many of test and of the held-out part look like one that is learnt from; they
            stay.
        pairs: By these names.
    """

    in_test: int
    in_select: int
    two_classes: int
    near: int
    pairs: Mapping[str, tuple[Pair, ...]]


@dataclass(frozen=True)
class Inspection:
    """What was found of the data.

    Attributes:
        parts: The train part and, where it is shown apart, the test part.
        images: How many a network is trained on, chosen by and tested on; None where not all
            can be read.
        lacking: Classes without a picture in test.
        copies: None where not all can be read.
        cache: The folder that keeps the decoded pictures; None where they are not kept.
    """

    parts: tuple[DataPart, ...]
    images: tuple[int, int, int] | None
    lacking: tuple[str, ...] = ()
    copies: Copies | None = None
    cache: str | None = None


def inspect_data(data: Data, on_progress: OnInspect | None = None) -> Inspection:
    """Open every picture that a search will use; they are kept for it.

    Raises:
        InputError: The data cannot be read at all.
    """
    opened = look_at(data, on_progress and partial(on_progress, "opening pictures"))
    train, test = opened.sources.train, opened.sources.test
    learnt, judged = [opened.train, opened.select_whole], [opened.test_whole]
    if test is None and train.version is not None:
        parts = [_data_part("train", train, [*learnt, *judged])]
    else:
        parts = [_data_part("train", train, learnt), _data_part("test", test or train, judged)]
    if any(part.unreadable for part in parts):
        return Inspection(tuple(parts), None, opened.sources.lacking)
    if on_progress is not None:
        on_progress("comparing pictures", 0, 1)
    copies = _copies(opened)
    if on_progress is not None:
        on_progress("comparing pictures", 1, 1)
    images = tuple(len(part.pixels) for part in (opened.train, opened.select, opened.test))
    cache = str(cache_folder()) if opened.train.file else None
    return Inspection(
        tuple(parts), (images[0], images[1], images[2]), opened.sources.lacking, copies, cache
    )


def _data_part(name: str, source: Source, parts: Sequence[Part]) -> DataPart:
    """Of a set that others prepared only what is used is counted."""
    opened = np.concatenate([part.wanted.indices for part in parts])
    labels = source.labels if source.version else source.labels[opened]
    counts = np.bincount(labels, minlength=len(source.class_names)).tolist()
    listing = source.listing
    return DataPart(
        name=name,
        images=len(labels),
        per_class=dict(zip(source.class_names, counts, strict=True)),
        sizes={
            f"{width}x{height}": count
            for (width, height), count in _summed([part.findings.sizes for part in parts]).items()
        },
        inspected=len(opened),
        unreadable=tuple(sorted(each for part in parts for each in part.broken)),
        stray=tuple(map(str, listing.stray)) if listing else (),
        unsupported=(
            {advice: len(paths) for advice, paths in listing.unsupported.items()} if listing else {}
        ),
        inner=listing.inner if listing else 0,
        animated=sum(part.findings.animated for part in parts),
        profiles=_summed([part.findings.profiles for part in parts]),
    )


def _copies(opened: Opened) -> Copies:
    train, select, test = opened.whole
    pairs = {
        "in_test": copied_pairs(test, [train, select]),
        "in_select": copied_pairs(select, [train]),
        "two_classes": in_two_classes(opened.whole),
        "near": near_copies([train], [select, test]),
    }
    counts = {name: len(found) for name, found in pairs.items()}
    return Copies(
        **counts, pairs={name: tuple(islice(found, _NAMED)) for name, found in pairs.items()}
    )


def _summed(counts: Sequence[Mapping[_Key, int]]) -> dict[_Key, int]:
    total: Counter[_Key] = Counter()
    for each in counts:
        total.update(each)
    return dict(total.most_common())
