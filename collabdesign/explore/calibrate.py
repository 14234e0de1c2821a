"""Can the proxy be trusted: networks of the feasible space, trained briefly and fully.

:mod:`collabdesign.explore.calibration_plan` says which trainings these are. Accuracy is on the
held-out part of train throughout; test is not opened.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from collabdesign.design.requirements import Requirements
from collabdesign.errors import InputError
from collabdesign.evaluate.data.images import ImageData
from collabdesign.evaluate.plan import plan_training
from collabdesign.evaluate.training import EpochRecord
from collabdesign.explore.begin import Prepared, refusal
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
    proxy_lengths,
    spread_networks,
)
from collabdesign.explore.check import images_per_second
from collabdesign.explore.executors.executor import Executor, Task
from collabdesign.explore.record import requirements_of
from collabdesign.explore.study import has_study, read_record
from collabdesign.explore.trainings import carry_out, checkpoint_of

NETWORKS = 12

_WORK = "calibration"

_TIMED_NETWORKS = 3


@dataclass(frozen=True)
class CalibrateProgress:
    """Where a calibration stands.

    Attributes:
        done: Of the trainings, those that ended, also in an earlier process.
        kind: ``proxy`` or ``full``, of the training whose pass ended last, like ``epoch``.
        under_way: Shares of the trainings under way that are through, added up.
        accuracy: On the held-out part after the pass, None where the training failed.
        seconds_left: Estimate.
    """

    done: int
    trainings: int
    kind: str
    epoch: int
    epochs: int
    under_way: float
    accuracy: float | None
    seconds_left: float


@dataclass(frozen=True)
class Outlook:
    """What is to be done, told before it begins.

    Attributes:
        networks: Different networks that are trained; fewer than asked where fewer fit.
        done: Of the trainings, those of an earlier process.
        proxy_epochs: Lengths of the proxies, shortest first.
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
    executor: Executor,
    *,
    networks: int = NETWORKS,
    on_outlook: Callable[[Outlook], None] | None = None,
    on_progress: Callable[[CalibrateProgress], None] | None = None,
) -> Calibration:
    """Train the networks both ways and compare; goes on from what the run folder holds.

    Args:
        requirements: To calibrate the proxy of.
        run_dir: Gets ``calibration.json``; no other process calibrates there.
        prepared: From :func:`collabdesign.explore.begin.prepare`.
        executor: Where to train.
        networks: How many to train, at least 4.
        on_outlook: Called once, before the first training.
        on_progress: Called after each pass and training.

    Raises:
        InputError: The proxy is as long as the full training, or the run folder holds a calibration
            of something else.
        NothingFits: Fewer than 4 networks fit the limits.
        GoalsNotMet: Fewer than 4 networks could be trained both ways.
        KeyboardInterrupt: Passed on; every finished training stands.
    """
    data = prepared.data
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
    file = _begin(run_dir, requirements, data)
    known = {each.key: each for each in file.trained}
    left = {each.name: each for each in plan if each.key not in known}
    pace = _Pace(_seconds_per_image(list(left.values()), requirements, prepared.device))
    if on_outlook is not None:
        lengths = proxy_lengths(requirements, images).values()
        on_outlook(
            Outlook(
                networks=len(chosen),
                trainings=len(plan),
                done=len(plan) - len(left),
                proxy_epochs=tuple(length.epochs for length in lengths),
                full_epochs=full,
                seconds=pace.seconds_for(sum(each.images for each in left.values()))
                / executor.slots,
            )
        )
    work = run_dir / _WORK
    work.mkdir(exist_ok=True)
    through: dict[str, int] = {}  # passes of the trainings under way

    def show(planned: Planned, epoch: int, accuracy: float | None) -> None:
        if on_progress is None:
            return
        rest = sum(each.images for each in left.values()) - sum(
            left[name].images * passes // left[name].key.epochs for name, passes in through.items()
        )
        on_progress(
            CalibrateProgress(
                done=len(plan) - len(left),
                trainings=len(plan),
                kind=planned.key.kind,
                epoch=epoch,
                epochs=planned.key.epochs,
                under_way=sum(n / left[name].key.epochs for name, n in through.items()),
                accuracy=accuracy,
                seconds_left=pace.seconds_for(rest) / executor.slots,
            )
        )

    def on_pass(task: Task, record: EpochRecord) -> None:
        planned = left[task.key]
        through[task.key] = record.epoch
        pace.add(planned.images // planned.key.epochs, record.seconds)
        show(planned, record.epoch, record.accuracy)

    for ended in carry_out(executor, [each.task for each in left.values()], work, on_pass):
        through.pop(ended.task.key, None)
        planned = left.pop(ended.task.key)
        seconds = sum(record.seconds for record in ended.curve)
        accuracy = None if ended.reason else ended.curve[-1].accuracy
        known[planned.key] = Trained(planned.key, accuracy, seconds, ended.reason)
        # At once: a kill costs the trainings under way and nothing else.
        file = replace(file, trained=tuple(known.values()))
        file.write(run_dir)
        checkpoint_of(work, ended.task.key).unlink(missing_ok=True)
        show(planned, planned.key.epochs, accuracy)
    shutil.rmtree(work)
    result = compare(plan, known, requirements)
    replace(file, result=result).write(run_dir)
    return result


def _begin(run_dir: Path, requirements: Requirements, data: ImageData) -> CalibrationFile:
    """What the run folder holds of this very calibration, or an empty one.

    Raises:
        InputError: The folder's search or calibration is of something else.
    """
    if has_study(run_dir):
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
        rule = f"a calibration is of one set of requirements, and the {what} in the run folder is "
        raise refusal(f"{rule}of others", changes, remedy)


@dataclass
class _Pace:
    """How long images take: at first as timed, then as seen, pass by pass."""

    timed: float
    images: int = 0
    seconds: float = 0.0

    def add(self, images: int, seconds: float) -> None:
        self.images += images
        self.seconds += seconds

    def seconds_for(self, images: int) -> float:
        return images * (self.seconds / self.images if self.images else self.timed)


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
