"""``collabdesign verify``: what a member's certificate says, measured anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from collabdesign.cli.display import Display, out, print_json, say
from collabdesign.cli.member import requirements_of
from collabdesign.deliver.report.words import counted
from collabdesign.errors import InputError

if TYPE_CHECKING:
    from collabdesign.deliver.verify import Check

_DIFFERS = 4

_MARKS = {
    True: "[green]same        [/]",
    False: "[red]DIFFERS     [/]",
    None: "[yellow]not measured[/]",
}


def verify(
    folder: Path,
    file: Path | None,
    overrides: tuple[str, ...],
    without_data: bool,
    run_model_py: bool,
    as_json: bool,
) -> int:
    """Measure everything anew that the certificate in FOLDER says."""
    requirements = requirements_of(folder, file, overrides)
    if requirements is None and not without_data:
        raise InputError(
            "a member is verified on the data that it was judged on: name them with "
            "--requirements FILE, or leave them out with --without-data"
        )
    from collabdesign.deliver.verify import TOLERATED
    from collabdesign.deliver.verify import verify as measure

    with Display().shown() as display:
        display.doing("measuring")

        def on_check(check: Check) -> None:
            display.doing(f"measured: {check.what}")

        found = measure(
            folder,
            None if without_data else requirements,
            run_model_py=run_model_py,
            on_check=on_check,
        )
    if as_json:
        print_json(found)
        return _DIFFERS if found.differing else 0
    out.print(f"[bold]{found.name}[/]")
    for each in found.checks:
        out.print(f"  {_MARKS[each.agrees]} {escape(_line(each))}")
    say(f"Accuracies may differ by {TOLERATED}: rounding differs between processors.")
    if not run_model_py:
        say("model.py was compared as a text and not run; --run-model-py runs it.")
    if found.differing:
        out.print(f"[red]{counted(len(found.differing), 'figure')} not as recorded[/]")
        return _DIFFERS
    out.print("[green]All that was measured is as recorded.[/]")
    return 0


def _line(check: Check) -> str:
    """A figure once where it is as recorded, else both."""
    text = f"{check.what}: {check.found}"
    if check.agrees is False:
        text += f", recorded {check.recorded}"
    return f"{text} ({check.note})" if check.note else text
