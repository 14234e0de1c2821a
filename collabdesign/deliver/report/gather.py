"""Run folder -> ReportView: everything the report shows, gathered without torch."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from collabdesign.deliver.certificate import Certificate, read_certificate
from collabdesign.deliver.report.importance import importance
from collabdesign.deliver.report.view import (
    AskedView,
    CandidateView,
    DataView,
    FinalistView,
    PrototypeView,
    ReferenceView,
    RejectedView,
    ReportView,
    RequirementRow,
    VariantView,
)
from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import Cost
from collabdesign.design.requirements import LIMITS, Data, Requirements
from collabdesign.errors import InputError
from collabdesign.explore.calibration import (
    CALIBRATION,
    Calibration,
    calibration_of,
    misfits,
    noted_calibration,
    proxy_goal,
)
from collabdesign.explore.front import Scale, front, losses, values_of
from collabdesign.explore.record import (
    Candidate,
    Record,
    requirements_of,
    trained_within,
)
from collabdesign.explore.study import read_record
from collabdesign.files import write_text

REFERENCES = "references.json"
ENVIRONMENT = "environment.json"
FRONT_CSV = "front.csv"
FAMILY = "family"
FINALISTS = "finalists.json"

# More marks than this make the plot no clearer.
_REJECTIONS_SHOWN = 400


def gather(run_dir: Path, *, running: bool = False) -> ReportView:
    """Read a run folder as it stands.

    Args:
        run_dir: Of a search, running or not.
        running: Whether a process is at work in it.

    Raises:
        InputError: The folder holds no search.
    """
    record = read_record(run_dir)
    requirements = requirements_of(record)
    scale = scale_of_record(record, requirements)
    trained = trained_within(record, requirements)
    on_front = {each.number for each in front_of(trained, scale)}
    family = _family(run_dir)
    complete = len(record.finished) >= requirements.search.trials or record.ran_out
    state = "running" if running else "finished" if complete else "interrupted"
    return ReportView(
        name=requirements.name,
        created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        state=state,
        asked=_asked(requirements, record, family),
        candidates=tuple(_candidate(each, each.number in on_front) for each in record.finished),
        rejected=_rejected(record),
        rejected_count=record.rejected,
        rejected_by_limit=record.rejected_by,
        repeated_count=record.repeated,
        seconds=sum(each.seconds for each in record.finished),
        prototype=_prototype(record),
        family=tuple(_variant(certificate, architecture) for certificate, architecture in family),
        family_rule=str(record.attributes.get("family_rule", "")),
        finalists=tuple(FinalistView(**row) for row in _json(run_dir / FAMILY / FINALISTS) or ()),
        family_folder=str(run_dir / FAMILY),
        references=_references(run_dir),
        hypervolume=_hypervolumes(record, trained, scale),
        calibration=_calibration(run_dir, requirements, record),
        calibrate_command=_calibrate_command(run_dir, requirements, record),
        importance=importance(trained),
        continue_command=str(record.attributes.get("command", "")),
        versions=_json(run_dir / ENVIRONMENT) or {},
    )


def scale_of_record(record: Record, requirements: Requirements) -> Scale:
    """The ranges of the objectives, as the search wrote them down."""
    ranges = record.attributes["scale"]
    return Scale(
        requirements.objectives,
        1 / requirements.data.classes,
        ranges["lowest"],
        ranges["highest"],
    )


def front_of(trained: Sequence[Candidate], scale: Scale) -> list[Candidate]:
    """The trained candidates that no other beats on every objective, in order."""
    values = [_values(each, scale) for each in trained]
    return [trained[index] for index in front(losses(scale.objectives, values))]


def write_front(path: Path, trained: Sequence[Candidate], scale: Scale) -> None:
    """The front as a table: one row a candidate, the most accurate first."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["candidate", "architecture", "proposed_by", "proxy_accuracy", *LIMITS])
    rows = sorted(front_of(trained, scale), key=lambda each: -(each.accuracy or 0.0))
    for each in rows:
        table.writerow(
            [
                each.number,
                each.architecture.id,
                each.proposed_by,
                each.accuracy,
                *(getattr(each.cost, name) for name in LIMITS),
            ]
        )
    write_text(path, text.getvalue())


def _values(candidate: Candidate, scale: Scale) -> tuple[float, ...]:
    assert candidate.accuracy is not None, candidate.number
    return values_of(scale.objectives, candidate.accuracy, candidate.cost)


def _asked(
    requirements: Requirements,
    record: Record,
    family: list[tuple[Certificate, Architecture]],
) -> AskedView:
    data = record.attributes["data"]
    goals = {} if requirements.goals.accuracy is None else {"accuracy": requirements.goals.accuracy}
    return AskedView(
        limits={
            name: limit
            for name in LIMITS
            if (limit := getattr(requirements.limits, name)) is not None
        },
        goals=goals,
        objectives=requirements.objectives,
        precision=requirements.deploy.precision,
        data=DataView(
            source=_source(requirements.data),
            classes=tuple(data["classes"]),
            resolution=requirements.data.resolution,
            channels=requirements.data.channels,
            train_images=data["train_images"],
            select_images=data["select_images"],
            test_images=family[0][0].test_images if family else None,
        ),
        trials=requirements.search.trials,
        seed=requirements.search.seed,
        proxy_epochs=data["proxy_epochs"],
        family_epochs=data["family_epochs"],
        family_seeds=requirements.family.training.seeds,
        proxy_goal=proxy_goal(requirements, noted_calibration(record)),
    )


def _source(data: Data) -> str:
    """What a person calls the images: a report that is passed on tells no paths."""
    if data.dataset is not None:
        return data.dataset
    return "/".join(data.train.parts[-2:]) if data.train is not None else data.source


def _candidate(candidate: Candidate, on_front: bool) -> CandidateView:
    return CandidateView(
        number=candidate.number,
        architecture=candidate.architecture,
        cost=candidate.cost,
        accuracy=candidate.accuracy,
        outcome=candidate.outcome,
        reason=candidate.reason,
        on_front=on_front,
        proposed_by=candidate.proposed_by,
        curve=candidate.curve,
        seconds=candidate.seconds,
        predicted=candidate.predicted,
    )


def _rejected(record: Record) -> tuple[RejectedView, ...]:
    kept = [each for candidate in record.candidates for each in candidate.rejections]
    step = max(1, -(-len(kept) // _REJECTIONS_SHOWN))
    return tuple(RejectedView(each.cost, each.violations) for each in kept[::step])


def _prototype(record: Record) -> PrototypeView:
    own = record.attributes["prototype"]
    first = next((each for each in record.finished if each.proposed_by == "prototype"), None)
    return PrototypeView(
        Cost.from_json(own["cost"]), None if first is None else first.number, not own["fits"]
    )


def _family(run_dir: Path) -> list[tuple[Certificate, Architecture]]:
    found = []
    for folder in sorted((run_dir / FAMILY).glob("attonet-*")):
        data = _json(folder / "architecture.json")
        if data is not None:
            found.append((read_certificate(folder), Architecture.from_dict(data)))
    return found


def _variant(certificate: Certificate, architecture: Architecture) -> VariantView:
    return VariantView(
        name=certificate.name,
        candidate=certificate.candidate,
        architecture=architecture,
        cost=certificate.cost,
        select_accuracies=certificate.select_accuracies,
        test_accuracy=certificate.test_accuracy,
        test_images=certificate.test_images,
        test_readings=certificate.test_readings,
        requirements=tuple(
            RequirementRow(row.name, row.required, row.value, row.measured, row.met, row.at_least)
            for row in certificate.requirements
        ),
        curve=certificate.curve,
    )


def _references(run_dir: Path) -> tuple[ReferenceView, ...]:
    return tuple(ReferenceView(**row) for row in _json(run_dir / REFERENCES) or ())


def _hypervolumes(
    record: Record, trained: Sequence[Candidate], scale: Scale
) -> tuple[tuple[int, float], ...]:
    counted = {each.number for each in trained}
    values: list[tuple[float, ...]] = []
    points = []
    for trials, candidate in enumerate(record.finished, start=1):
        if candidate.number in counted:
            values.append(_values(candidate, scale))
        points.append((trials, scale.hypervolume(values)))
    return tuple(points)


def _calibration(run_dir: Path, requirements: Requirements, record: Record) -> Calibration | None:
    """The run folder's, which may be newer than the search, or what the search wrote down."""
    fingerprint = record.attributes.get("data_fingerprint", "")
    return calibration_of(run_dir, requirements, fingerprint) or noted_calibration(record)


def _calibrate_command(run_dir: Path, requirements: Requirements, record: Record) -> str:
    words = ["collabdesign", "calibrate", str(run_dir / "requirements.yaml")]
    command = shlex.join([*words, "--run-dir", str(run_dir)])
    if misfits(run_dir, requirements, record.attributes.get("data_fingerprint", "")):
        # It would be refused beside one of other requirements.
        command = shlex.join(["rm", str(run_dir / CALIBRATION)]) + f" && {command}"
    return command


def _json(path: Path) -> Any:
    """What a file holds, None where there is none."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{str(path)!r} must be JSON, and is not: {error}; remove it, and the search command "
            "writes it anew"
        ) from None
