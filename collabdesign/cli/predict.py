"""``collabdesign predict``: what a member sees in pictures."""

from __future__ import annotations

from pathlib import Path

from collabdesign.cli.display import print_json, say
from collabdesign.deliver.report.words import percent


def predict(folder: Path, pictures: tuple[Path, ...], form: str, most: int, as_json: bool) -> int:
    """The most probable classes of pictures."""
    from collabdesign.deliver.predict import predict as classify

    found = classify(folder, pictures, form, most)
    if as_json:
        print_json([{"picture": str(each.picture), "classes": each.classes} for each in found])
        return 0
    for each in found:
        say(str(each.picture))
        for name, probability in each.classes:
            say(f"  {percent(probability):>7}  {name}")
    return 0
