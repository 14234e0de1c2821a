"""``collabdesign detect export``: a trained detector as ONNX."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from collabdesign.cli.display import Display, out, print_json, say
from collabdesign.deliver.report.words import counted, short_bytes

_DIFFERS = 4


def export(run_dir: Path, form: str, pictures: tuple[Path, ...], as_json: bool) -> int:
    """Write a trained detector in another form."""
    assert form == "onnx"
    from collabdesign.detect.export import LEAST_IOU, MOST_PIXELS
    from collabdesign.detect.export import export as write

    with Display().shown() as display:
        made = write(
            run_dir,
            pictures,
            on_progress=lambda done, total: display.count("comparing", done, total),
        )
    found = made.parity
    if as_json:
        print_json(
            {"file": str(made.file), "bytes": made.bytes, **asdict(found), "agrees": found.agrees}
        )
        return 0 if found.agrees else _DIFFERS
    say(
        f"Beside torch on {counted(found.pictures, 'picture')}: {counted(found.objects, 'object')} "
        f"found by both, {found.unmatched} by one alone; a side of a box differs by at most "
        f"{found.largest_difference:.2g} pixels, the lowest IoU of two masks is "
        f"{found.lowest_iou:.4f}"
    )
    say(f"written: {made.file}, {short_bytes(made.bytes)}")
    if not found.agrees:
        out.print(
            f"[red]That is more than rounding makes:[/] boxes may differ by {MOST_PIXELS} pixels, "
            f"masks must have an IoU over {LEAST_IOU}"
        )
        return _DIFFERS
    if not found.objects:
        out.print("[yellow]Nothing was found in these pictures: name others with --picture[/]")
    return 0
