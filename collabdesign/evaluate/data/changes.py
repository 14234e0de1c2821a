"""What the images of a search are, in a few words, to say later what changed about them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from collabdesign.design.files.units import few
from collabdesign.evaluate.data.copies import digests_of
from collabdesign.evaluate.data.parts import Part
from collabdesign.evaluate.data.source import Source

_PARTS = {"train": "to train on", "select": "held out"}

# A digest takes 40 bytes of the study; above it only counts are kept.
_MOST_FILES = 100_000
_DIGEST_BYTES = 4


def summarise(source: Source, parts: Mapping[str, Part]) -> dict[str, Any]:
    """Counts of both parts and, of a folder, a digest of each picture, as JSON takes it.

    Args:
        source: Of the pictures.
        parts: ``train`` and ``select``.

    Returns:
        ``images``: by part, images by class. ``size``: by part, height, width and channels of
        its pictures.
        ``digests``, of a folder with at most 100,000 pictures: by part, digests by path below
        the folder; under ``neither`` those of pictures that are in neither part are empty.
    """
    summary: dict[str, Any] = {"images": {}, "size": {}}
    for name, part in parts.items():
        labels = source.labels[part.wanted.indices]
        counts = np.bincount(labels, minlength=len(source.class_names)).tolist()
        summary["images"][name] = dict(zip(source.class_names, counts, strict=True))
        summary["size"][name] = "x".join(map(str, part.pixels.shape[1:]))
    listing = source.listing
    if listing is None or len(listing.files) > _MOST_FILES:
        return summary
    above = f"{listing.root}{os.sep}"
    names = [path.removeprefix(above).replace(os.sep, "/") for path, _ in listing.files]
    digests = {
        name: {
            names[index]: digest[:_DIGEST_BYTES].hex()
            for index, digest in zip(part.wanted.indices.tolist(), digests_of(part), strict=True)
        }
        for name, part in parts.items()
    }
    read = {name for part in digests.values() for name in part}
    digests["neither"] = {name: "" for name in names if name not in read}
    return {**summary, "digests": digests}


def data_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What changed about images whose fingerprints differ, a line each.

    Args:
        before: A :attr:`ImageData.summary`, empty where it was not kept.
        after: Likewise.

    Returns:
        At least one line. Of the files that were added, removed and changed five are named.
    """
    lines: list[str] = []
    if before and after:
        for part, words in _PARTS.items():
            lines += _counts(words, before["images"][part], after["images"][part])
            old, new = before["size"][part], after["size"][part]
            if old != new:
                lines.append(f"size of the images {words}: {old} -> {new}")
        if "digests" in before and "digests" in after:
            lines += _files(before, after)
    return lines or ["the pixels are others"]


def _counts(words: str, before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    changed = [
        f"{name} {before.get(name, 0):,} -> {after.get(name, 0):,}"
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    ]
    total = f"{sum(before.values()):,} -> {sum(after.values()):,}"
    return [f"images {words}: {total} ({few(changed)})"] if changed else []


def _files(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    old, new = _by_file(before), _by_file(after)
    # Only digests of pictures of one size can be compared.
    comparable = {name for name in old.keys() & new.keys() if old[name][0] == new[name][0]}
    kinds = {
        "added": new.keys() - old.keys(),
        "removed": old.keys() - new.keys(),
        "changed": {name for name in comparable if old[name] != new[name]},
    }
    return [
        f"files {word}: {len(names):,} ({few(sorted(names))})"
        for word, names in kinds.items()
        if names
    ]


def _by_file(summary: Mapping[str, Any]) -> dict[str, tuple[str | None, str]]:
    """The size and the digest of each picture."""
    return {
        name: (summary["size"].get(part), digest)
        for part, digests in summary["digests"].items()
        for name, digest in digests.items()
    }
