"""Run folder -> ReportView: everything the report shows, gathered without torch."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from collabdesign.deliver.certificate import CERTIFICATE, read_certificate
from collabdesign.deliver.comparison import read_comparison
from collabdesign.deliver.references import REFERENCES, references_at
from collabdesign.deliver.report.importance import importance
from collabdesign.deliver.report.view import FinalistView, NearMissView, ReportView, Variant
from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import Cost
from collabdesign.errors import InputError
from collabdesign.explore.aim import aim_of
from collabdesign.explore.calibration import (
    CALIBRATION,
    calibration_of,
    noted_calibration,
)
from collabdesign.explore.front import Scale, scale_of_record
from collabdesign.explore.lock import holder
from collabdesign.explore.provenance import read_environments
from collabdesign.explore.record import (
    Candidate,
    Record,
    as_of_today,
    requirements_of,
    trained_within,
)
from collabdesign.explore.study import read_record

FAMILY = "family"
FINALISTS = "finalists.json"
NEAR_MISSES = "near_misses.json"

# More marks than this make the plot no clearer.
_REJECTIONS_SHOWN = 400


def gather(run_dir: Path, *, running: bool | None = None) -> ReportView:
    """Read a run folder as it stands.

    Args:
        run_dir: Of a search, running or not.
        running: Whether a process is at work in it; looked up where None.

    Raises:
        InputError: The folder holds no search, or one of its files is broken.
    """
    running = holder(run_dir) is not None if running is None else running
    record = read_record(run_dir)
    requirements = requirements_of(record)
    scale = scale_of_record(record, requirements)
    trained = trained_within(record, requirements)
    complete = record.is_complete(requirements.search.trials)
    noted = noted_calibration(record)
    fingerprint = record.attributes.get("data_fingerprint", "")
    calibration, misfits = calibration_of(run_dir, requirements, fingerprint)
    own = record.attributes["prototype"]
    family = _family(run_dir)
    # Costs at today's precision, where the input is today's.
    today = {each.number: each for each in as_of_today(record.candidates, requirements)}
    candidates = tuple(today.get(each.number, each) for each in record.candidates)
    rejections = [each for candidate in candidates for each in candidate.rejections]
    step = max(1, math.ceil(len(rejections) / _REJECTIONS_SHOWN))
    return ReportView(
        created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        state="running" if running else "finished" if complete else "interrupted",
        requirements=requirements,
        record=replace(record, candidates=candidates),
        front=scale.front(trained),
        rejections=tuple(rejections[::step]),
        drawn=None if own["fits"] else Cost.from_json(own["cost"]),
        family=family,
        finalists=tuple(FinalistView(**row) for row in _json(run_dir / FAMILY / FINALISTS) or ()),
        near_misses=tuple(_near_misses(_json(run_dir / FAMILY / NEAR_MISSES) or ())),
        family_folder=str(run_dir / FAMILY),
        comparison=read_comparison(run_dir),
        compare_command=shlex.join(["collabdesign", "compare", str(run_dir)]) if family else "",
        references=references_at(_json(run_dir / REFERENCES), requirements),
        hypervolume=_hypervolumes(record, trained, scale),
        # The run folder's may be newer than the one that the search used.
        calibration=calibration or noted,
        calibrate_command=_calibrate_command(run_dir, bool(misfits)),
        aim=aim_of(record, requirements),
        importance=importance(trained),
        environments=tuple(_environments(read_environments(run_dir), record)),
    )


def _family(run_dir: Path) -> tuple[Variant, ...]:
    return tuple(
        Variant(read_certificate(path.parent), Architecture.from_dict(data))
        for path in sorted((run_dir / FAMILY).glob(f"attonet-*/{CERTIFICATE}"))
        if (data := _json(path.with_name("architecture.json"))) is not None
    )


def _near_misses(rows: Sequence[Mapping[str, Any]]) -> Iterator[NearMissView]:
    for row in rows:
        yield NearMissView(**{**row, "cost": Cost.from_json(row["cost"])})


def _hypervolumes(
    record: Record, trained: Sequence[Candidate], scale: Scale
) -> tuple[tuple[int, float], ...]:
    within = {each.number: each for each in trained}
    values: list[tuple[float, ...]] = []
    points = []
    for trials, candidate in enumerate(record.finished, start=1):
        if candidate.number in within:
            values.append(scale.values(within[candidate.number]))
        points.append((trials, scale.hypervolume(values)))
    return tuple(points)


def _calibrate_command(run_dir: Path, has_other: bool) -> str:
    words = ["collabdesign", "calibrate", str(run_dir / "requirements.yaml")]
    # It would be refused beside one of other requirements.
    remove = shlex.join(["rm", str(run_dir / CALIBRATION)]) + " && " if has_other else ""
    return remove + shlex.join([*words, "--run-dir", str(run_dir)])


def _environments(runs: Sequence[Mapping[str, Any]], record: Record) -> Iterator[str]:
    """Newest first, each with its candidates where there are several."""
    for run in reversed(runs):
        first, last = run["candidates"]
        last = record.next_number - 1 if last is None else last
        versions = [f"{name} {value}" for name, value in run.items() if name != "candidates"]
        numbers = f"Candidates {first} to {last}: " if len(runs) > 1 else ""
        yield numbers + " · ".join(versions)


def _json(path: Path) -> Any:
    """What a file holds, None where there is none."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{str(path)!r} must be JSON, and is not: {error}; remove it, and the search command "
            "writes it again"
        ) from None
