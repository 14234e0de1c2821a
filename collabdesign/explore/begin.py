"""What a search begins with: what is refused, what is read, what is written down first."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from collabdesign.design.cost import MEASURED
from collabdesign.design.requirements import (
    FREE_KEYS,
    MEASURING,
    PLACES,
    Requirements,
    resolved_yaml,
)
from collabdesign.design.space import DesignSpace
from collabdesign.errors import InputError
from collabdesign.evaluate.data.changes import data_changes
from collabdesign.evaluate.data.images import ImageData, TestData, load_data
from collabdesign.evaluate.device import choose_device
from collabdesign.evaluate.plan import plan_training, trained_images
from collabdesign.explore.calibration import calibration_of
from collabdesign.explore.feasible import require_possible, scale_of
from collabdesign.explore.first_networks import OnMeasured, pricing_of
from collabdesign.explore.measurements import DEFAULT, Meter
from collabdesign.explore.pricing import Pricing
from collabdesign.explore.provenance import note_environment
from collabdesign.explore.record import Record, requirements_of
from collabdesign.explore.study import has_study, read_record, without_password
from collabdesign.explore.study_writer import StudyWriter
from collabdesign.files import write_json, write_text

_IMAGES = "images.json"
_CONSENT = "choose another --run-dir, or say --accept-changes"


@dataclass(frozen=True)
class Prepared:
    """What a search works with, and the family after it: read once."""

    space: DesignSpace
    data: ImageData
    device: torch.device
    pricing: Pricing


def prepare(
    requirements: Requirements,
    run_dir: Path,
    *,
    device: str | None = None,
    accept_changes: bool = False,
    on_data: Callable[[int, int], None] | None = None,
    on_measured: OnMeasured | None = None,
) -> Prepared:
    """Refuse what cannot be searched, then read the images; writes nothing but what was measured.

    Raises:
        InputError: What a person wrote cannot be used.
        NothingFits: No network of the space fits the limits.
        NotMeasured: What has to be measured of the networks cannot be.
    """
    space = DesignSpace(requirements)
    require_folder(run_dir)
    if has_study(run_dir):
        _require_same(read_record(run_dir), requirements, accept_changes)
    if requirements.measured:
        Meter.of(requirements)  # refuses what cannot be measured before pictures are read
    require_possible(space, _counted(requirements))
    chosen = choose_device(device)
    data = load_data(requirements.data, chosen, on_progress=on_data)
    trained_images(len(data.train_labels), requirements.search.proxy)  # refuses what is not there
    pricing = pricing_of(space, requirements, run_dir, on_measured)
    if requirements.measured:
        require_possible(space, requirements, pricing)
    return Prepared(space, data, chosen, pricing)


def _counted(requirements: Requirements) -> Requirements:
    """Without what has to be measured."""
    limits = requirements.limits.model_copy(update=dict.fromkeys(MEASURED))
    objectives = Requirements.model_fields["objectives"].default
    return requirements.model_copy(update={"limits": limits, "objectives": objectives})


def require_folder(run_dir: Path) -> None:
    """Refuse what cannot become a run folder, before anything is written."""
    nearest = next(each for each in (run_dir, *run_dir.parents) if each.exists())
    if not nearest.is_dir():
        rule = "be" if nearest == run_dir else "lie in"
        raise InputError(f"the run folder must {rule} a folder, and {str(nearest)!r} is a file")


def _require_same(record: Record, requirements: Requirements, accept_changes: bool) -> None:
    """Refuse to continue with other requirements than a run began with."""
    if "requirements" not in record.attributes:
        return
    began_with = requirements_of(record)
    for key, before, now in (
        ("objectives", began_with.objectives, requirements.objectives),
        ("storage", (began_with.storage,), (requirements.storage,)),
        ("measured limits", began_with.measured or ("none",), requirements.measured or ("none",)),
        ("way to measure", _way(began_with, requirements), _way(requirements, began_with)),
    ):
        if before != now:
            raise InputError(
                f"a run keeps its {key} {_listed(before)}, got {_listed(now)}; choose another "
                "--run-dir"
            )
    # Where the pictures lie is not what they are: their fingerprint is compared once it is known.
    changes = began_with.changes(requirements, (*FREE_KEYS, *PLACES, *MEASURING))
    if changes and not accept_changes:
        rule = "a run continues with the requirements it began with, but these changed"
        raise refusal(rule, changes, _CONSENT)


def _way(one: Requirements, other: Requirements) -> tuple[str, ...]:
    """How networks are measured: two ways do not compare. Empty where neither asks for it."""
    if not (one.measured and other.measured):
        return ()
    command = one.latency.command if "latency_ms" in one.measured else None
    return (command or "onnxruntime", one.deploy.precision)


def refusal(rule: str, changes: Sequence[str], remedy: str) -> InputError:
    """The error for what changed and may not, a line each."""
    return InputError("\n    ".join([f"{rule}:", *changes, remedy]))


def _listed(values: Iterable[str | None]) -> str:
    return ", ".join(without_password(str(each)) for each in values)


def begin(
    run_dir: Path,
    study: StudyWriter,
    requirements: Requirements,
    prepared: Prepared,
    *,
    test: TestData | None,
    accept_changes: bool,
    notes: Mapping[str, str],
    environment: Mapping[str, str],
) -> list[str]:
    """Compare with what the run began with, and write down what it goes on with.

    Returns:
        What changed in the images, by consent; empty where nothing did.

    Raises:
        InputError: The requirements or the images are others.
    """
    space, data, pricing = prepared.space, prepared.data, prepared.pricing
    before = study.read()
    _require_same(before, requirements, accept_changes)
    changed = require_same_images(run_dir, before, data, test, accept_changes)
    scale = scale_of(space, requirements, pricing)
    calibration, _ = calibration_of(run_dir, requirements, data.fingerprint)
    own = space.decode(space.own())
    own_cost, violations = pricing.at(DEFAULT).judged(own)
    images = len(data.train_labels)
    if changed or not (run_dir / _IMAGES).is_file():
        write_json(run_dir / _IMAGES, data.summary)
    study.set(
        {
            "data_fingerprint": data.fingerprint,
            **({} if test is None else {"test_fingerprint": test.fingerprint}),
            "data": {
                "classes": list(data.class_names),
                "train_images": images,
                "proxy_images": trained_images(images, requirements.search.proxy),
                "select_images": len(data.select_labels),
                "proxy_epochs": plan_training(images, requirements.search.proxy).epochs,
                "family_epochs": plan_training(images, requirements.family.training).epochs,
            },
            "scale": {"lowest": dict(scale.lowest), "highest": dict(scale.highest)},
            "prototype": {
                "architecture": own.to_dict(),
                "cost": dict(own_cost),
                "fits": all(value <= 0 for value in violations.values()),
            },
            "calibration": calibration and asdict(calibration),
            "tail": None,
            **notes,
            # Last: where it stands, the rest does too, wherever a kill fell.
            "requirements": requirements.to_dict(),
        }
    )
    write_text(run_dir / "requirements.yaml", resolved_yaml(requirements))
    note_environment(run_dir, environment, before.next_number)
    return changed


def require_same_images(
    run_dir: Path,
    record: Record,
    data: ImageData,
    test: TestData | None = None,
    accept_changes: bool = False,
) -> list[str]:
    """Hold images against those that a run began with; where they lie does not matter.

    Returns:
        What changed, by consent.

    Raises:
        InputError: They are others, without consent.
    """
    changed = []
    if record.attributes.get("data_fingerprint", data.fingerprint) != data.fingerprint:
        before = {}
        with suppress(OSError, ValueError):
            before = json.loads((run_dir / _IMAGES).read_text(encoding="utf-8"))
        changed += data_changes(before, data.summary)
    if test is not None:
        known = record.attributes.get("test_fingerprint") or test.fingerprint
        changed += ["the test images are others"] * (known != test.fingerprint)
    if changed and not accept_changes:
        rule = "a run continues on the images it began with, but the data changed"
        raise refusal(rule, changed, _CONSENT)
    return changed
