"""All parts of the data, decoded, without the copies that would make numbers lie.

A picture that is learnt from is taken out of the held-out part, and one that is learnt from or
chosen by out of test. It would be counted as right because it was seen. The data is not refused:
a person often cannot change it, and what is left is as good a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from collabdesign.design.files.units import few
from collabdesign.design.sources import Data
from collabdesign.errors import InputError
from collabdesign.evaluate.data.copies import all_differ, copies_of
from collabdesign.evaluate.data.parts import Part, Wanted, read_parts
from collabdesign.evaluate.data.pictures import Progress, raise_unreadable
from collabdesign.evaluate.data.source import Integers
from collabdesign.evaluate.data.sources import Sources, open_sources
from collabdesign.evaluate.data.split import split

# Random crops are cut from pictures stored this much larger than the network's input, as a
# crop of 224 is from 256; shifts need no margin.
_CROP_MARGIN = 8 / 7

# Up to this side in pixels ``augment: auto`` shifts, above it crops.
_LARGEST_SHIFTED = 64


@dataclass(frozen=True)
class Opened:
    """All parts, with every picture and without copies.

    Attributes:
        train: Is the same in both.
        select: Without those that stand in train too; ``select_whole`` has them.
        test: Without those that stand in train or in the whole held-out part; ``test_whole`` has
            them.
    """

    sources: Sources
    train: Part
    select: Part
    test: Part
    select_whole: Part
    test_whole: Part

    @property
    def whole(self) -> tuple[Part, Part, Part]:
        """With copies."""
        return self.train, self.select_whole, self.test_whole


def augmentation(data: Data) -> str:
    """``none``, ``shift`` or ``crop``."""
    if data.augment == "auto":
        return "shift" if data.resolution <= _LARGEST_SHIFTED else "crop"
    return data.augment


def open_data(data: Data, on_progress: Progress | None = None) -> Opened:
    """Decode what is not decoded yet.

    Raises:
        InputError: The data is missing, does not have the classes that the requirements say, has
            a class with too few images, or pictures that cannot be read: all of these at once.
    """
    opened = look_at(data, on_progress)
    raise_unreadable([each for part in opened.whole for each in part.broken])
    return opened


def look_at(data: Data, on_progress: Progress | None = None) -> Opened:
    """Like :func:`open_data`, where pictures may be broken: for what says so."""
    sources = open_sources(data)
    parts = split(sources, data)
    side = data.resolution
    stored = round(side * _CROP_MARGIN) if augmentation(data) == "crop" else side
    of_test = sources.test or sources.train
    train, select, test = read_parts(
        [
            Wanted(sources.train, parts.train, stored, data.channels),
            Wanted(sources.train, parts.select, side, data.channels),
            Wanted(of_test, parts.test, side, data.channels),
        ],
        on_progress,
    )
    whole = Opened(sources, train, select, test, select, test)
    if train.broken or select.broken or test.broken or all_differ(whole.whole):
        return whole
    return replace(
        whole,
        select=_without(select, copies_of(select, [train]), "held out"),
        test=_without(test, copies_of(test, [train, select]), "test", sources.lacking),
    )


def _without(part: Part, copies: Integers, words: str, lacking: Sequence[str] = ()) -> Part:
    """The part without some; it is read anew, so that it can be kept."""
    if not len(copies):
        return part
    wanted = part.wanted
    left = np.delete(wanted.indices, copies)
    names = wanted.source.class_names
    counts = np.bincount(wanted.source.labels[left], minlength=len(names)).tolist()
    gone = [name for name, count in zip(names, counts, strict=True) if not count]
    if gone := [name for name in gone if name not in lacking]:
        raise InputError(
            f"{words} pictures must be others than those that are learnt from, and all of "
            f"{few(gone)} are copies of these"
        )
    (found,) = read_parts([replace(wanted, indices=left)])
    return found
