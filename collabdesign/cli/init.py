"""``collabdesign init`` and ``collabdesign schema``: to write requirements with."""

from __future__ import annotations

import json
from pathlib import Path

import click

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


def schema(prototype: bool) -> int:
    """Print a JSON Schema."""
    from collabdesign.design.files.schema import prototype_schema, requirements_schema

    click.echo(json.dumps(prototype_schema() if prototype else requirements_schema(), indent=2))
    return 0
