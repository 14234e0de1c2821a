"""``collabdesign report``: the report of a run, anew."""

from __future__ import annotations

from pathlib import Path

import click

from collabdesign.deliver.report.gather import gather
from collabdesign.deliver.report.page import write_report


def report(run_dir: Path) -> int:
    """Write DIR/report.html anew from what the run holds."""
    click.echo(write_report(run_dir, gather(run_dir)))
    return 0
