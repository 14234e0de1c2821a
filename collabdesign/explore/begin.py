"""What a search begins with: what is refused, what is read, what is written down first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from collabdesign.design.cost import cost_of
from collabdesign.design.requirements import FREE_KEYS, Requirements, resolved_yaml
from collabdesign.design.space import DesignSpace
from collabdesign.errors import InputError
from collabdesign.evaluate.data.images import ImageData, load_data
from collabdesign.evaluate.device import choose_device
from collabdesign.evaluate.plan import plan_training
from collabdesign.explore.calibration import calibration_of
from collabdesign.explore.feasible import require_possible, scale_of
from collabdesign.explore.lock import Presence, claiming, forget_the_dead, is_running
from collabdesign.explore.record import DATABASE, Record, read_record, requirements_of
from collabdesign.explore.store import Store
from collabdesign.files import write_json, write_text


@dataclass(frozen=True)
class Prepared:
    """What a search works with, and the family after it: read once."""

    space: DesignSpace
    data: ImageData
    device: torch.device


def prepare(
    requirements: Requirements,
    run_dir: Path,
    *,
    device: str | None = None,
    accept_changes: bool = False,
    on_data: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Refuse what cannot be searched, then read the images; writes nothing.

    Raises:
        InputError: What a person wrote cannot be used.
        NothingFits: No network of the space fits the limits.
    """
    space = DesignSpace(requirements)
    require_writable(run_dir)
    if (run_dir / DATABASE).exists():
        _require_same(read_record(run_dir), requirements, accept_changes)
    require_possible(space, requirements)
    chosen = choose_device(device)
    return Prepared(space, load_data(requirements.data, chosen, on_progress=on_data), chosen)


def require_writable(run_dir: Path) -> None:
    """Refuse what cannot become a run folder, before anything is written."""
    if run_dir.exists() and not run_dir.is_dir():
        raise InputError(f"the run folder must be a folder, and {str(run_dir)!r} is a file")
    nearest = run_dir
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise InputError(f"the run folder must lie in a folder, and {str(nearest)!r} is a file")


def make_folder(run_dir: Path) -> None:
    """Make the run folder and its parents.

    Raises:
        InputError: The system refuses.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the run folder must be writable: {error}; choose another --run-dir"
        ) from None


def _require_same(record: Record, requirements: Requirements, accept_changes: bool) -> None:
    """Refuse to continue with other requirements than a run began with."""
    if "requirements" not in record.attributes:
        return
    began_with = requirements_of(record)
    if began_with.objectives != requirements.objectives:
        raise InputError(
            f"a run keeps its objectives {', '.join(began_with.objectives)}, got "
            f"{', '.join(requirements.objectives)}; choose another --run-dir"
        )
    changes = began_with.changes(requirements, FREE_KEYS)
    if changes and not accept_changes:
        raise InputError(
            "a run continues with the requirements it began with, but these changed:\n"
            + "\n".join(f"    {change}" for change in changes)
            + "\n    choose another --run-dir, or say --accept-changes"
        )


def _require_the_same_command(record: Record, requirements: Requirements) -> None:
    """Refuse to join others at work with anything else than what they work for."""
    changes = requirements_of(record).changes(requirements)
    if changes:
        raise InputError(
            "another is at work in the run folder, and only the same command joins in; these "
            "changed:\n"
            + "\n".join(f"    {change}" for change in changes)
            + "\n    wait for the other, or choose another --run-dir"
        )


def begin(
    run_dir: Path,
    store: Store,
    requirements: Requirements,
    prepared: Prepared,
    accept_changes: bool,
    notes: Mapping[str, str],
    hardware: Mapping[str, str],
) -> None:
    """Compare with what the run began with, or with what others work for; else write it down.

    The caller is claiming.

    Raises:
        InputError: The requirements or the data are others.
    """
    joining = is_running(run_dir)
    space, data = prepared.space, prepared.data
    before = store.read()
    accept_changes = accept_changes and not joining
    _require_same(before, requirements, accept_changes)
    known = before.attributes.get("data_fingerprint", data.fingerprint)
    if known != data.fingerprint and not accept_changes:
        raise InputError(
            "a run continues on the images it began with, but the data changed; "
            "choose another --run-dir, or say --accept-changes"
        )
    if joining and "requirements" in before.attributes:
        _require_the_same_command(before, requirements)
        return
    scale = scale_of(space, requirements)
    calibration = calibration_of(run_dir, requirements, data.fingerprint)
    own = space.decode(space.own())
    own_cost = cost_of(own, requirements.deploy.precision)
    images = len(data.train_labels)
    store.set(
        {
            "data_fingerprint": data.fingerprint,
            "data": {
                "classes": list(data.class_names),
                "train_images": images,
                "select_images": len(data.select_labels),
                "proxy_epochs": plan_training(images, requirements.search.proxy).epochs,
                "family_epochs": plan_training(images, requirements.family.training).epochs,
            },
            "scale": {"lowest": dict(scale.lowest), "highest": dict(scale.highest)},
            "prototype": {
                "architecture": own.to_dict(),
                "cost": own_cost.to_json(),
                "fits": not any(v > 0 for v in requirements.violations(own_cost).values()),
            },
            "calibration": None if calibration is None else calibration.to_json(),
            "tail": None,
            **notes,
            # Last: where it stands, the rest does too, wherever a kill fell.
            "requirements": requirements.to_dict(),
        }
    )
    write_text(run_dir / "requirements.yaml", resolved_yaml(requirements))
    write_json(run_dir / "environment.json", dict(hardware))


@contextmanager
def joined(
    run_dir: Path,
    space: DesignSpace,
    objectives: Sequence[str],
    kind: str,
    begin: Callable[[Store], None] = lambda store: None,
) -> Iterator[tuple[Store, str]]:
    """Open a run's study, and show that this process is at work until it is closed again.

    Args:
        run_dir: An existing folder.
        space: For the parameters' distributions.
        objectives: Of the study.
        kind: As :class:`collabdesign.explore.lock.Presence` has it.
        begin: What must be done before others may see this process at work.

    Yields:
        The study, and the name of the process's sign.
    """
    with claiming(run_dir):
        store = Store(run_dir, space, objectives)
        try:
            begin(store)
            presence = Presence(run_dir, kind)
        except BaseException:
            store.close()
            raise
    try:
        yield store, presence.name
    finally:
        with claiming(run_dir):
            presence.end()
            with suppress(InputError):  # the next process does it
                # Before their signs are gone, which say what they died of.
                store.take_from_the_dead()
            forget_the_dead(run_dir)
            store.close()
