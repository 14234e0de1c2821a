"""``collabdesign report``: the report of a run, anew."""

from __future__ import annotations

from pathlib import Path

from collabdesign.cli.streams import say_line
from collabdesign.deliver.report.gather import gather
from collabdesign.deliver.report.page import write_report


def report(run_dir: Path) -> int:
    """Write DIR/report.html anew from what the run holds."""
    say_line(str(write_report(run_dir, gather(run_dir))))
    return 0
