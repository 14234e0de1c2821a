"""Parts of the data decoded: from the cache where they are there, else read and kept."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from collabdesign.evaluate.data.cache import Cache, Entry, cache_folder, entry_name
from collabdesign.evaluate.data.decode import Pixels, decode
from collabdesign.evaluate.data.findings import Findings
from collabdesign.evaluate.data.pictures import Picture, Progress
from collabdesign.evaluate.data.source import Integers, Source


@dataclass(frozen=True)
class Wanted:
    """Pictures of a source, and the form that they are brought to.

    Attributes:
        indices: Into the source.
        side: Of the square, in pixels.
        channels: 1 or 3.
    """

    source: Source
    indices: Integers
    side: int
    channels: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the array."""
        return len(self.indices), self.side, self.side, self.channels

    def read(self, position: int) -> Picture:
        """A picture by its position in the part."""
        return self.source.read(int(self.indices[position]))

    def name(self, position: int) -> str:
        """What a person calls it."""
        return self.source.name(int(self.indices[position]))

    @property
    def entry(self) -> str | None:
        """Its name in the cache; None where the source has no files to tell a change by."""
        version = self.source.version
        if version is None:
            return None
        return entry_name(map(version, self.indices.tolist()), self.shape)


@dataclass(frozen=True)
class Part:
    """Pictures of a part, decoded.

    Attributes:
        wanted: What they are.
        pixels: [N, side, side, C], perhaps mapped from a file; not to be written to.
        findings: What was found of them.
        file: That the pixels are mapped from; None where they lie in memory.
        broken: Name and reason of each picture that cannot be read; its pixels mean nothing.
    """

    wanted: Wanted
    pixels: Pixels
    findings: Findings
    file: Path | None = None
    broken: tuple[tuple[str, str], ...] = ()


def read_parts(wanted: Sequence[Wanted], on_progress: Progress | None = None) -> list[Part]:
    """Decode parts, all that are not in the cache at once.

    Progress is told of pictures that are decoded: of none where all are there.
    """
    cache, names = Cache(cache_folder()), [each.entry for each in wanted]
    entries = [
        None if name is None else cache.find(name, each.shape)
        for name, each in zip(names, wanted, strict=True)
    ]
    missing = [number for number, entry in enumerate(entries) if entry is None]
    made: dict[int, Part] = {}
    with ExitStack() as stack:
        pixels = []
        for number in missing:
            name, shape = names[number], wanted[number].shape
            on_disk = stack.enter_context(cache.writing(name, shape)) if name else None
            pixels.append(np.zeros(shape, np.uint8) if on_disk is None else on_disk)
        decoded = decode([wanted[number].read for number in missing], pixels, on_progress)
        for number, filled, each in zip(missing, pixels, decoded, strict=True):
            part, name = wanted[number], names[number]
            findings = Findings.of(each.found, each.thumbs, filled)
            broken = tuple((part.name(position), reason) for position, reason in each.broken)
            if name is not None and isinstance(filled, np.memmap) and not broken:
                entries[number] = cache.keep(name, filled, findings)
            made[number] = Part(part, filled, findings, broken=broken)
    return [
        made[number] if entry is None else _part(each, entry)
        for number, (each, entry) in enumerate(zip(wanted, entries, strict=True))
    ]


def _part(wanted: Wanted, entry: Entry) -> Part:
    return Part(wanted, entry.pixels, entry.findings, entry.file)
