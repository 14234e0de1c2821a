"""``collabdesign init`` and ``collabdesign schema``: to write requirements with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from collabdesign.cli.display import Display, named, out

if TYPE_CHECKING:
    from collabdesign.deliver.init import InitResult


def init(folder: Path, into: Path, name: str | None, force: bool) -> int:
    """Write requirements and a prototype that fit a FOLDER of pictures.

    The folder holds one folder of pictures for each class, or train and test folders of such.
    """
    from collabdesign.deliver.init import init as write

    display = Display()
    with display.shown():
        result = write(
            folder,
            into,
            name=name,
            force=force,
            on_progress=lambda done, total: display.count("opening pictures", done, total),
        )
    _show_init(result)
    return 0


def schema(prototype: bool) -> int:
    """Print the JSON Schema of requirements files, for editors."""
    from collabdesign.design.files.schema import prototype_schema, requirements_schema

    click.echo(json.dumps(prototype_schema() if prototype else requirements_schema(), indent=2))
    return 0


def _show_init(result: InitResult) -> None:
    """What was written, and how to go on."""
    pictures = "colour" if result.channels == 3 else "grey"
    out.print(
        f"{result.images:,} {pictures} pictures of {len(result.classes)} classes; networks will "
        f"see {result.resolution}x{result.resolution} pixels"
    )
    named("[yellow]worth knowing[/]", result.warnings)
    out.print(
        f"\nwrote {result.requirements} and {result.prototype}: read them, change what you like, "
        f"then\n  collabdesign check {result.requirements}\n"
        f"  collabdesign search {result.requirements}",
        markup=False,
    )
