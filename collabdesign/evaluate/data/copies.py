"""The same picture twice: where that is so, numbers lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from collabdesign.evaluate.data.decode import Pixels
from collabdesign.evaluate.data.parts import Part
from collabdesign.evaluate.data.source import Integers

# Of the bits of a perceptual hash, in bands: two that differ in few bits share a band.
_BANDS = 4
# In a band, pictures are compared with so many that follow them in order of their hashes.
_NEIGHBOURS = 16
# Thumbnails of near copies correlate at least so much; of pictures almost without contrast
# nothing is said, they are alike without being copies.
_ALIKE = 0.998
_LEAST_CONTRAST = 10.0


class Pair(NamedTuple):
    """Two pictures, by what a person calls them."""

    one: str
    other: str


def all_differ(parts: Sequence[Part]) -> bool:
    """Whether no picture stands there twice."""
    digests = [digest for part in parts for digest in digests_of(part)]
    return len(set(digests)) == len(digests)


def copies_of(part: Part, others: Sequence[Part]) -> Integers:
    """Positions of the pictures of a part that stand in one of the others too, pixel by pixel."""
    known = {digest for other in others for digest in digests_of(other)}
    return np.array([n for n, digest in enumerate(digests_of(part)) if digest in known], np.int64)


def copied_pairs(part: Part, others: Sequence[Part]) -> list[Pair]:
    """The same with the first copy of each."""
    first: dict[bytes, tuple[Part, int]] = {}
    for other in others:
        for position, digest in enumerate(digests_of(other)):
            first.setdefault(digest, (other, position))
    pairs = []
    for position, digest in enumerate(digests_of(part)):
        if digest in first:
            other, there = first[digest]
            pairs.append(Pair(part.wanted.name(position), other.wanted.name(there)))
    return pairs


def in_two_classes(parts: Sequence[Part]) -> list[Pair]:
    """Pictures that have two labels: the first of each label."""
    if all_differ(parts):
        return []
    first: dict[bytes, tuple[Part, int]] = {}
    found: dict[tuple[bytes, int], Pair] = {}
    for part in parts:
        labels = part.wanted.source.labels[part.wanted.indices].tolist()
        for position, (digest, label) in enumerate(zip(digests_of(part), labels, strict=True)):
            here, there = first.setdefault(digest, (part, position))
            if here.wanted.source.labels[here.wanted.indices[there]] != label:
                pair = Pair(here.wanted.name(there), part.wanted.name(position))
                found.setdefault((digest, label), pair)
    return list(found.values())


def near_copies(learnt: Sequence[Part], judged: Sequence[Part]) -> list[Pair]:
    """Pictures of the judged parts that look like one of those that are learnt from, and are no
    exact copies: the same picture in another size or quality.

    By a perceptual hash, whether each thumbnail's pixel is brighter than the one to its left; what
    it finds is compared by the thumbnails. Some are missed, and some are alike by chance.
    """
    parts = [*learnt, *judged]
    thumbs = np.concatenate([part.findings.thumbs for part in parts]).astype(np.float32)
    kinds = [False] * len(learnt) + [True] * len(judged)
    is_judged = np.repeat(kinds, [len(part.pixels) for part in parts])
    digests = np.concatenate([part.findings.digests for part in parts])
    flat = thumbs.reshape(len(thumbs), -1)
    flat -= flat.mean(1, keepdims=True)
    lengths = np.linalg.norm(flat, axis=1)
    has_contrast = lengths > _LEAST_CONTRAST * flat.shape[1] ** 0.5
    flat /= np.maximum(lengths, 1e-6)[:, None]
    found: dict[int, int] = {}  # of a judged picture the most alike of the others
    alike: dict[int, float] = {}
    hashes = _hashes(thumbs)
    for band in range(_BANDS):
        keys = np.roll(hashes, -2 * band, axis=1)
        order = np.lexsort(keys.T[::-1])
        for step in range(1, _NEIGHBOURS + 1):
            one, other = order[:-step], order[step:]
            same = (keys[one, :2] == keys[other, :2]).all(1)
            same &= (is_judged[one] != is_judged[other]) & has_contrast[one] & has_contrast[other]
            one, other = one[same], other[same]
            correlation = np.einsum("ij,ij->i", flat[one], flat[other])
            for a, b, value in zip(one, other, correlation.tolist(), strict=True):
                judged_one, learnt_one = (a, b) if is_judged[a] else (b, a)
                if value < max(_ALIKE, alike.get(judged_one, 0.0)):
                    continue
                if (digests[a] != digests[b]).any():
                    found[judged_one], alike[judged_one] = learnt_one, value
    starts = np.cumsum([0, *(len(part.pixels) for part in parts)])

    def name(index: int) -> str:
        part = int(np.searchsorted(starts, index, side="right")) - 1
        return parts[part].wanted.name(int(index - starts[part]))

    return [Pair(name(one), name(other)) for one, other in sorted(found.items())]


def digests_of(part: Part) -> list[bytes]:
    """Of each picture, all its pixels as they are shown; an empty one where it is broken."""
    width = part.findings.digests.shape[1]
    whole = part.findings.digests.tobytes()
    return [whole[start : start + width] for start in range(0, len(whole), width)]


def _hashes(thumbs: NDArray[np.float32]) -> Pixels:
    """uint8 [N, 8]: a bit for each two pixels beside each other."""
    return np.packbits(thumbs[:, :, 1:] > thumbs[:, :, :-1], axis=-1).reshape(len(thumbs), -1)
