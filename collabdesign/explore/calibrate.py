"""Can the proxy be trusted: networks of the feasible space, trained briefly and fully.

:mod:`collabdesign.explore.calibration_plan` says which trainings these are. Accuracy is on the
held-out part of train throughout; test is not opened.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from collabdesign.design.requirements import Requirements
from collabdesign.errors import InputError, TrainingFailed
from collabdesign.evaluate.data.images import ImageData
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.network import build_network
from collabdesign.evaluate.plan import plan_training
from collabdesign.evaluate.seeds import seed_of
from collabdesign.evaluate.training import EpochRecord, train
from collabdesign.explore.begin import Prepared, make_folder
from collabdesign.explore.calibration import (
    CALIBRATION,
    Calibration,
    CalibrationFile,
    Trained,
    read_calibration,
)
from collabdesign.explore.calibration_plan import (
    Planned,
    compare,
    plan_trainings,
    spread_networks,
)
from collabdesign.explore.check import images_per_second
from collabdesign.explore.lock import CALIBRATING, held
from collabdesign.explore.record import DATABASE, read_record, requirements_of

NETWORKS = 12

_CHECKPOINT = "calibration.pt"

_TIMED_NETWORKS = 3


@dataclass(frozen=True)
class CalibrateProgress:
    """Where a calibration stands.

    Attributes:
        done: Trainings finished, those of an earlier process included.
        trainings: All of them.
        kind: ``proxy`` or ``full``.
        epoch: Of the training under way, 0 before the first is through.
        epochs: Of that training.
        accuracy: On the held-out part after the epoch, None before the first.
        seconds_left: Estimate.
    """

    done: int
    trainings: int
    kind: str
    epoch: int
    epochs: int
    accuracy: float | None
    seconds_left: float


@dataclass(frozen=True)
class Outlook:
    """What is to be done, told before it begins.

    Attributes:
        networks: Different networks that are trained; fewer than asked where fewer fit.
        trainings: All of them.
        done: Of these, those of an earlier process.
        proxy_epochs: Lengths of the proxies, shortest first.
        full_epochs: Of a full training.
        seconds: Estimate for what is left, from measured steps.
    """

    networks: int
    trainings: int
    done: int
    proxy_epochs: tuple[int, ...]
    full_epochs: int
    seconds: float


def calibrate(
    requirements: Requirements,
    run_dir: Path,
    prepared: Prepared,
    *,
    networks: int = NETWORKS,
    on_outlook: Callable[[Outlook], None] | None = None,
    on_progress: Callable[[CalibrateProgress], None] | None = None,
) -> Calibration:
    """Train the networks both ways and compare; goes on from what the run folder holds.

    Args:
        requirements: To calibrate the proxy of.
        run_dir: Made if it is not there; gets ``calibration.json``.
        prepared: From :func:`collabdesign.explore.search.prepare`.
        networks: How many to train, at least 4.
        on_outlook: Called once, before the first training.
        on_progress: Called after each epoch and training.

    Raises:
        InputError: The proxy is as long as the full training, or the run folder holds a calibration
            of something else, or another process calibrates there.
        NothingFits: Fewer than 4 networks fit the limits.
        GoalsNotMet: Fewer than 4 networks could be trained both ways.
        KeyboardInterrupt: Passed on; every finished training stands.
    """
    data, device = prepared.data, prepared.device
    chosen = spread_networks(prepared.space, requirements, networks)
    images = len(data.train_labels)
    proxy = plan_training(images, requirements.search.proxy).epochs
    full = plan_training(images, requirements.family.training).epochs
    if proxy >= full:
        raise InputError(
            "a proxy must be shorter than the full training for a calibration to tell anything, "
            f"got search.proxy of {proxy} epochs and family.training of {full} on {images:,} images"
        )
    plan = plan_trainings(chosen, requirements, images)
    make_folder(run_dir)
    with held(run_dir, CALIBRATING, "calibrate the proxy"):
        file = _begin(run_dir, requirements, data)
        known = {each.key: each for each in file.trained}
        left = [each for each in plan if each.key not in known]
        pace = _Pace(_seconds_per_image(left, requirements, device))
        if on_outlook is not None:
            on_outlook(_outlook(plan, left, pace))

        for number, planned in enumerate(left):

            def show(
                epoch: int, accuracy: float | None, planned: Planned = planned, number: int = number
            ) -> None:
                if on_progress is None:
                    return
                rest = sum(each.images for each in left[number:])
                rest -= planned.images * epoch // planned.key.epochs
                on_progress(
                    CalibrateProgress(
                        done=len(plan) - len(left) + number + (epoch == planned.key.epochs),
                        trainings=len(plan),
                        kind=planned.key.kind,
                        epoch=epoch,
                        epochs=planned.key.epochs,
                        accuracy=accuracy,
                        seconds_left=pace.seconds(rest),
                    )
                )

            show(0, None)
            trained = _train(planned, data, device, run_dir / _CHECKPOINT, show)
            pace.add(planned.images, trained.seconds)
            known[planned.key] = trained
            # At once: a kill costs the training under way and nothing else.
            file = replace(file, trained=tuple(known.values()))
            file.write(run_dir)
            (run_dir / _CHECKPOINT).unlink(missing_ok=True)
        result = compare(plan, known, requirements)
        replace(file, result=result).write(run_dir)
    return result


def _begin(run_dir: Path, requirements: Requirements, data: ImageData) -> CalibrationFile:
    """What the run folder holds of this very calibration, or an empty one.

    Raises:
        InputError: The folder's search or calibration is of something else.
    """
    if (run_dir / DATABASE).is_file():
        record = read_record(run_dir)
        if "requirements" in record.attributes:
            fingerprint = record.attributes["data_fingerprint"]
            searched = CalibrationFile(requirements_of(record), fingerprint)
            _require_same(searched, requirements, data, "search", "choose another --run-dir")
    file = read_calibration(run_dir)
    if file is None:
        return CalibrationFile(requirements, data.fingerprint)
    remedy = f"remove its {CALIBRATION}, or choose another --run-dir"
    _require_same(file, requirements, data, "calibration", remedy)
    return replace(file, requirements=requirements)


def _require_same(
    before: CalibrationFile, requirements: Requirements, data: ImageData, what: str, remedy: str
) -> None:
    changes = before.changes(requirements, data.fingerprint)
    if changes:
        raise InputError(
            f"a calibration is of one set of requirements, and the {what} in the run folder is of "
            "others:\n" + "\n".join(f"    {change}" for change in changes) + f"\n    {remedy}"
        )


def _train(
    planned: Planned,
    data: ImageData,
    device: torch.device,
    checkpoint: Path,
    show: Callable[[int, float | None], None],
) -> Trained:
    """One training; a network that cannot be trained is a result too."""

    def on_epoch(record: EpochRecord) -> None:
        show(record.epoch, record.accuracy)

    key = planned.key
    seed = seed_of(key.architecture, key.seed)
    started = time.monotonic()
    try:
        network = build_network(planned.architecture)
        initialise(network, seed)
        result = train(
            network,
            data,
            planned.recipe,
            seed=seed,
            device=device,
            checkpoint=checkpoint if key.kind == "full" else None,
            on_epoch=on_epoch,
        )
    except TrainingFailed as error:
        return Trained(key, None, time.monotonic() - started, f"{error.reason}: {error}")
    return Trained(key, result.accuracy, result.seconds)


class _Pace:
    """How long images take: at first as timed, then as seen."""

    def __init__(self, timed: float) -> None:
        self._timed = timed
        self._images = 0
        self._seconds = 0.0

    def add(self, images: int, seconds: float) -> None:
        self._images += images
        self._seconds += seconds

    def seconds(self, images: int) -> float:
        seen = self._seconds / self._images if self._images else self._timed
        return max(0.0, images * seen)


def _seconds_per_image(
    left: Sequence[Planned], requirements: Requirements, device: torch.device
) -> float:
    """Of a small, a middle and a large network of those to train, through the real loop."""
    by_id = {each.architecture.id: each.architecture for each in left}
    networks = list(by_id.values())
    if not networks:
        return 0.0
    last = len(networks) - 1
    timed = {round(part * last / (_TIMED_NETWORKS - 1)) for part in range(_TIMED_NETWORKS)}
    batch = left[-1].key.batch  # of the full trainings, which take the most of the time
    speeds = [images_per_second(networks[i], requirements, batch, device) for i in sorted(timed)]
    return math.fsum(1 / speed for speed in speeds) / len(speeds)


def _outlook(plan: Sequence[Planned], left: Sequence[Planned], pace: _Pace) -> Outlook:
    proxies = {(e.images, e.key.epochs) for e in plan if e.key.kind == "proxy"}
    return Outlook(
        networks=len({each.key.architecture for each in plan}),
        trainings=len(plan),
        done=len(plan) - len(left),
        proxy_epochs=tuple(epochs for _, epochs in sorted(proxies)),
        full_epochs=max(each.key.epochs for each in plan if each.key.kind == "full"),
        seconds=pace.seconds(sum(each.images for each in left)),
    )
