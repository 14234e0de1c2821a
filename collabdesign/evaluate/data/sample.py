"""Some pictures of a folder, opened to tell what it holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from collabdesign.evaluate.data.folder import FolderListing
from collabdesign.evaluate.data.pictures import (
    Progress,
    UnreadableImage,
    in_threads,
    read_picture,
)


@dataclass(frozen=True)
class FolderInspection:
    """What some pictures of a folder are, after opening them.

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
            picture = read_picture(paths[position])
        except UnreadableImage as error:
            return error
        return picture.size, picture.mode

    for path, found in zip(paths, in_threads(inspect, len(paths), on_progress), strict=True):
        if isinstance(found, UnreadableImage):
            unreadable.append((path, found.reason))
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
