"""The last step of a search: what a run folder shows to people, rebuilt from its study."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from collabdesign.deliver.report.gather import (
    FRONT_CSV,
    REFERENCES,
    scale_of_record,
    write_front,
)
from collabdesign.deliver.report.page import render_report
from collabdesign.deliver.report.view import ReportView
from collabdesign.design.requirements import Requirements
from collabdesign.explore.record import requirements_of, trained_within
from collabdesign.explore.study import read_record
from collabdesign.files import write_json, write_text

REPORT = "report.html"


def write_references(run_dir: Path, requirements: Requirements) -> None:
    """Count the well-known networks at the run's input, once; needs torch."""
    path = run_dir / REFERENCES
    if not path.is_file():
        from collabdesign.deliver.compare import reference_costs

        data = requirements.data
        costs = reference_costs(data.channels, data.resolution, data.classes)
        write_json(path, [asdict(each) for each in costs])


def write_report(run_dir: Path, view: ReportView) -> Path:
    """Write ``front.csv`` and ``report.html``; needs no torch.

    Args:
        run_dir: Of the search.
        view: What :func:`gather` made of it.

    Returns:
        The report's path.

    Raises:
        InputError: The folder holds no search.
    """
    record = read_record(run_dir)
    requirements = requirements_of(record)
    text = render_report(view)
    trained = trained_within(record, requirements)
    write_front(run_dir / FRONT_CSV, trained, scale_of_record(record, requirements))
    write_text(run_dir / REPORT, text)
    return run_dir / REPORT
