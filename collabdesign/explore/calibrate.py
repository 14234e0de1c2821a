"""Can the proxy be trusted: networks of the feasible space, trained briefly and fully.

:mod:`collabdesign.explore.calibration_plan` says which trainings these are. Accuracy is on the
held-out part of train throughout; test is not opened.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from collabdesign.design.requirements import Requirements
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
    by_length,
    compare,
    plan_trainings,
    spread_networks,
)
from collabdesign.explore.check import images_per_second
from collabdesign.explore.executors.executor import Executor, Task
from collabdesign.explore.record import requirements_of
from collabdesign.explore.study import has_study, read_record
from collabdesign.explore.trainings import carry_out, checkpoint_of

NETWORKS = 12

_WORK = "calibration"


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
    on_event: Callable[[Outlook | CalibrateProgress], None],
) -> Calibration:
    """Train the networks both ways and compare; goes on from what the run folder holds.

    Args:
        requirements: To calibrate the proxy of.
        run_dir: Gets ``calibration.json``; no other process calibrates there.
        prepared: From :func:`collabdesign.explore.begin.prepare`.
        executor: Where to train.
        networks: How many to train, at least 4.
        on_event: Called before the first training, and after each pass and training.

    Raises:
        InputError: The proxy is as long as the full training, or the run folder holds a calibration
            of something else.
        NothingFits: Fewer than 4 networks fit the limits.
        GoalsNotMet: Fewer than 4 networks could be trained both ways.
        KeyboardInterrupt: Passed on; every finished training stands.
    """
    chosen = spread_networks(prepared.space, requirements, networks)
    plan = plan_trainings(chosen, requirements, len(prepared.data.train_labels))
    file = _begin(run_dir, requirements, prepared.data.fingerprint)
    known = {each.key: each for each in file.trained}
    left = {each.task.key: each for each in plan if each.key not in known}
    through: dict[str, int] = {}  # passes of the trainings under way
    timed = _seconds_per_image(list(left.values()), requirements, prepared.device)
    seen_images, seen_seconds = 0, 0.0

    def seconds_left() -> float:
        """At first as timed, then as seen, pass by pass."""
        pace = seen_seconds / seen_images if seen_images else timed
        images = sum(
            each.images // each.key.epochs * (each.key.epochs - through.get(name, 0))
            for name, each in left.items()
        )
        return images * pace / executor.slots

    def show(planned: Planned, epoch: int, accuracy: float | None) -> None:
        on_event(
            CalibrateProgress(
                done=len(plan) - len(left),
                trainings=len(plan),
                kind=planned.key.kind,
                epoch=epoch,
                epochs=planned.key.epochs,
                under_way=sum(n / left[name].key.epochs for name, n in through.items()),
                accuracy=accuracy,
                seconds_left=seconds_left(),
            )
        )

    def on_pass(task: Task, record: EpochRecord) -> None:
        nonlocal seen_images, seen_seconds
        planned = left[task.key]
        through[task.key] = record.epoch
        seen_images += planned.images // planned.key.epochs
        seen_seconds += record.seconds
        show(planned, record.epoch, record.accuracy)

    done = len(plan) - len(left)
    *proxy, full = (trainings[0].key.epochs for trainings in by_length(plan))
    on_event(Outlook(len(chosen), len(plan), done, tuple(proxy), full, seconds_left()))
    work = run_dir / _WORK
    work.mkdir(exist_ok=True)
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


def _begin(run_dir: Path, requirements: Requirements, fingerprint: str) -> CalibrationFile:
    """What the run folder holds of this very calibration, or an empty one.

    Raises:
        InputError: The folder's search or calibration is of something else.
    """
    new = CalibrationFile(requirements, fingerprint)
    searched, calibrated = new, read_calibration(run_dir) or new
    if has_study(run_dir):
        record = read_record(run_dir)
        if "requirements" in record.attributes:
            began_with = requirements_of(record), record.attributes["data_fingerprint"]
            searched = CalibrationFile(*began_with)
    for before, what, remedy in (
        (searched, "search", "choose another --run-dir"),
        (calibrated, "calibration", f"remove its {CALIBRATION}, or choose another --run-dir"),
    ):
        if changes := before.changes(requirements, fingerprint):
            rule = f"a calibration is of one set of requirements, and the {what} in the run folder"
            raise refusal(f"{rule} is of others", changes, remedy)
    return replace(calibrated, requirements=requirements)


def _seconds_per_image(
    left: Sequence[Planned], requirements: Requirements, device: torch.device
) -> float:
    """Of a small, a middle and a large network of those to train, through the real loop."""
    networks = list({each.key.architecture: each.task.architecture for each in left}.values())
    if not networks:
        return 0.0
    last = len(networks) - 1
    batch = left[-1].key.batch  # of the full trainings, which take the most of the time
    return statistics.fmean(
        1 / images_per_second(networks[index], requirements, batch, device)
        for index in sorted({0, round(last / 2), last})
    )
