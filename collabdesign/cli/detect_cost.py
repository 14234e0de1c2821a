"""``collabdesign detect cost``: what a detector costs, beside those that one could take."""

from __future__ import annotations

import re
from pathlib import Path

from collabdesign.cli.display import out, print_json, say
from collabdesign.cli.sheet import Sheet
from collabdesign.deliver.report.words import short_bytes, short_count
from collabdesign.detect.bodies import read_body
from collabdesign.detect.cost import (
    CONVENTION,
    PARTS,
    DetectorCost,
    PartCost,
    detector_cost,
)
from collabdesign.detect.reading import load_detector
from collabdesign.detect.reference_detectors import reference_costs
from collabdesign.errors import InputError


def cost(
    file: Path,
    overrides: tuple[str, ...],
    size: str | None,
    proposals: int | None,
    detections: int | None,
    classes: int,
    as_json: bool,
) -> int:
    """Count what a detector costs."""
    written = load_detector(file, overrides)
    detector, body = written.own(), read_body(written.body)
    shape = _shape(size) or (detector.min_side, detector.max_side)
    own = detector_cost(
        file.stem,
        detector,
        body,
        size=shape,
        proposals=proposals,
        detections=detections,
        classes=classes,
    )
    others = reference_costs(own, shape)
    if as_json:
        print_json(
            {"convention": CONVENTION, "detectors": [_plain(each) for each in (own, *others)]}
        )
        return 0
    say(
        f"{shape[0]}x{shape[1]} pixels, padded to {own.height}x{own.width}; {own.proposals:,} "
        f"proposals, {own.detections:,} detections, {own.classes} classes with the background"
    )
    if open_ := [name for name, each in written.all_freedoms().items() if len(each.values) > 1]:
        say(f"of what is left open, its own values: {', '.join(open_)}")
    _show(own, others)
    say(CONVENTION)
    return 0


def _shape(size: str | None) -> tuple[int, int] | None:
    if size is None:
        return None
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", size, re.ASCII)
    if match is None or min(map(int, match.groups())) < 32:
        raise InputError(
            f"--size must be height and width of at least 32 pixels such as 800x1333, got {size!r}"
        )
    return int(match[1]), int(match[2])


def _show(own: DetectorCost, others: tuple[DetectorCost, ...]) -> None:
    everyone = (own, *others)
    for title, key, words in (
        ("MACs", "macs", short_count),
        ("parameters", "params", short_count),
        ("peak activation", "peak_activation_bytes", short_bytes),
    ):
        table = Sheet(title, *(each.name for each in everyone))
        for index, part in enumerate(PARTS):
            table.add_row(part, *(words(getattr(each.parts[index], key)) for each in everyone))
        table.add_row(
            "[bold]most[/]" if words is short_bytes else "[bold]all[/]",
            *(f"[bold]{words(getattr(each, key))}[/]" for each in everyone),
        )
        table.add_row(
            "[dim]as a multiple[/]",
            *(f"[dim]{getattr(each, key) / getattr(own, key):.3g}[/]" for each in everyone),
        )
        out.print(table)


def _plain(found: DetectorCost) -> dict[str, object]:
    def numbers(each: DetectorCost | PartCost) -> dict[str, int]:
        return {
            "macs": each.macs,
            "params": each.params,
            "peak_activation_bytes": each.peak_activation_bytes,
        }

    return {
        "name": found.name,
        "input": [found.height, found.width],
        "proposals": found.proposals,
        "detections": found.detections,
        "classes": found.classes,
        **numbers(found),
        "parts": {part.name: numbers(part) for part in found.parts},
    }
