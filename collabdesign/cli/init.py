"""``collabdesign init``: requirements and a prototype for a folder of pictures."""

from __future__ import annotations

from pathlib import Path

from collabdesign.cli.display import Display, named, out, say


def init(folder: Path, into: Path, name: str | None, force: bool) -> int:
    """Write requirements and a prototype that fit a folder of pictures."""
    from collabdesign.deliver.init import init as write

    with Display().shown() as display:
        result = write(
            folder,
            into,
            name=name,
            force=force,
            on_progress=lambda done, total: display.count("opening pictures", done, total),
        )
    pictures = "colour" if result.channels == 3 else "grey"
    out.print(
        f"{result.images:,} {pictures} pictures of {len(result.classes)} classes; networks will "
        f"see {result.resolution}x{result.resolution} pixels"
    )
    named("[yellow]worth knowing[/]", result.warnings)
    say(
        f"\nwrote {result.requirements} and {result.prototype}: read them, change what you like, "
        f"then\n  collabdesign check {result.requirements}\n"
        f"  collabdesign search {result.requirements}"
    )
    return 0
