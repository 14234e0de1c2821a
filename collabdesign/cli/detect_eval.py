"""``collabdesign detect eval``: average precision of a trained detector."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from collabdesign.cli.detect_train import show_precision
from collabdesign.cli.display import Display, print_json
from collabdesign.cli.options import threads_of


def eval(
    run_dir: Path,
    annotations: Path | None,
    images: Path | None,
    device: str | None,
    threads: int | None,
    as_json: bool,
) -> int:
    """Judge a trained detector."""
    threads_of(threads)
    from collabdesign.detect.run import evaluate

    with Display().shown() as display:
        precision = evaluate(
            run_dir,
            annotations=annotations,
            images=images,
            device=device,
            on_event=display.tell_detection,
        )
    if as_json:
        print_json(asdict(precision))
    else:
        show_precision(precision.box, precision.mask, str(annotations or "val"))
    return 0
