"""``collabdesign report`` and ``collabdesign show``: what a run folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
from rich.markup import escape

from collabdesign.cli.display import out
from collabdesign.cli.options import print_json
from collabdesign.deliver.report.words import describe, percent, short_quantity
from collabdesign.errors import InputError


def report(run_dir: Path) -> int:
    """Write DIR/report.html anew from what the run holds."""
    from collabdesign.deliver.report.gather import gather
    from collabdesign.deliver.report.page import write_report
    from collabdesign.explore.lock import holder

    running = holder(run_dir) is not None
    click.echo(write_report(run_dir, gather(run_dir, running=running)))
    return 0


def show(run_dir: Path, candidate: int, as_json: bool) -> int:
    """Describe one CANDIDATE of the run in DIR, by its number."""
    from collabdesign.explore.study import read_record

    record = read_record(run_dir)
    found = next((each for each in record.candidates if each.number == candidate), None)
    if found is None:
        numbers = ", ".join(str(each.number) for each in record.candidates) or "none"
        raise InputError(f"the candidate must be one of {numbers}, got {candidate}")
    if as_json:
        print_json({"number": found.number, **found.to_json()})
        return 0
    rows = {
        "architecture": found.architecture.id,
        "proposed by": found.proposed_by,
        "outcome": found.outcome + (f" ({found.reason})" if found.reason else ""),
    }
    if found.accuracy is not None:
        rows["proxy_accuracy"] = percent(found.accuracy)
    rows |= {name: short_quantity(name, value) for name, value in found.cost.items()}
    _show_rows(f"candidate {found.number}", rows)
    for line in describe(found.architecture):
        out.print(f"  {line}", markup=False)
    return 0


def _show_rows(title: str, rows: Mapping[str, str]) -> None:
    """Names and what they are, one a line."""
    out.print(f"[bold]{escape(title)}[/]")
    for name, text in rows.items():
        out.print(f"  {escape(name)}: {escape(text)}")
