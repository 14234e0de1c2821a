"""Labelled pictures before any of them is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from collabdesign.evaluate.data.folder import FolderListing
from collabdesign.evaluate.data.pictures import Picture

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """Labelled pictures before any of them is needed.

    Attributes:
        class_names: A label is an index into them.
        labels: int64 [N].
        read: From an index to a picture; raises ``UnreadableImage``.
        name: From an index to what a person calls the picture.
        version: From an index to what changes when the picture's file does; None where pictures
            come from no files of a person's own.
        listing: The same pictures as files in a folder, where they are that.
    """

    class_names: tuple[str, ...]
    labels: Integers
    read: Callable[[int], Picture]
    name: Callable[[int], str]
    version: Callable[[int], str] | None = None
    listing: FolderListing | None = None
