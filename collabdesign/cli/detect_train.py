"""``collabdesign detect train``: a detector from its file to its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from collabdesign.cli.display import Display, out, print_json, say
from collabdesign.cli.options import threads_of
from collabdesign.cli.sheet import Sheet
from collabdesign.deliver.report.words import counted, percent
from collabdesign.detect.reading import load_detection

_TITLES = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "small",
    "ap_medium": "medium",
    "ap_large": "large",
}


def train(
    file: Path,
    run_dir: Path | None,
    overrides: tuple[str, ...],
    device: str | None,
    threads: int | None,
    as_json: bool,
) -> int:
    """Train a detector and judge it."""
    requirements = load_detection(file, overrides)
    run_dir = run_dir or Path("runs") / requirements.name
    threads_of(threads)
    from collabdesign.detect.run import train as train_whole

    with Display().shown() as display:
        done = train_whole(requirements, run_dir, device=device, on_event=display.tell_detection)
    if as_json:
        print_json({**asdict(done), "run_dir": str(done.run_dir)})
        return 0
    learnt, held_out, val = done.pictures
    best = done.curve[done.best_epoch - 1]
    say(
        f"{counted(learnt, 'picture')} learnt from, {held_out:,} held out: epoch {best.epoch} of "
        f"{len(done.curve)} is the best there, mask AP {percent(best.mask_ap)}"
    )
    show_precision(done.precision.box, done.precision.mask, f"{counted(val, 'picture')} of val")
    say(f"written: {run_dir}")
    return 0


def show_precision(
    box: Mapping[str, float | None], mask: Mapping[str, float | None], title: str
) -> None:
    """A table of average precisions."""
    table = Sheet(title, *_TITLES.values())
    for name, numbers in (("boxes", box), ("masks", mask)):
        values = (numbers[key] for key in _TITLES)
        table.add_row(name, *("-" if each is None else percent(each) for each in values))
    out.print(table)
    say("AP is the mean over IoU 0.50 to 0.95; small is under 32x32 pixels, large from 96x96.")
