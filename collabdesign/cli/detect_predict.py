"""``collabdesign detect predict``: what a trained detector finds in pictures."""

from __future__ import annotations

from pathlib import Path

from collabdesign.cli.display import Display, print_json, say
from collabdesign.cli.options import threads_of
from collabdesign.deliver.report.words import counted, percent


def predict(
    run_dir: Path,
    pictures: tuple[Path, ...],
    into: Path,
    least: float,
    device: str | None,
    threads: int | None,
    as_json: bool,
) -> int:
    """Find objects and draw them."""
    threads_of(threads)
    from collabdesign.detect.predict import PREDICTIONS
    from collabdesign.detect.predict import predict as find

    with Display().shown() as display:
        found = find(
            run_dir,
            pictures,
            into,
            least=least,
            device=device,
            on_progress=lambda done, total: display.count("looking at pictures", done, total),
        )
    if as_json:
        print_json([each.to_dict() for each in found])
        return 0
    for each in found:
        say(f"{each.picture}: {counted(len(each.objects), 'object')}, drawn in {each.drawn}")
        for seen, (_, name) in each.objects:
            left, top, right, bottom = (round(side) for side in seen.box)
            place = f"{left},{top} to {right},{bottom}"
            say(f"  {percent(seen.score):>7}  {name}  {place}")
    say(f"written: {into / PREDICTIONS}")
    return 0
