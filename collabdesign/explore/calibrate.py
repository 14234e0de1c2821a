"""Can the proxy be trusted: networks of the feasible space, trained briefly and fully.

Every network is trained as a proxy with :data:`PROXY_SEEDS` seeds, as a shorter and a longer
proxy with one, and fully with as many as ``family.training.seeds`` says. A proxy's learning rate
falls to zero at its own end, so that a shorter proxy is another training and not the beginning
of a longer one. Accuracy is on the held-out part of train throughout; test is not opened.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from collabdesign.design.cost import cost_of
from collabdesign.design.requirements import Requirements
from collabdesign.errors import GoalsNotMet
from collabdesign.evaluate.training import EpochRecord
from collabdesign.explore.begin import Prepared, refusal
from collabdesign.explore.calibration import (
    CALIBRATION,
    SAME_COST,
    Budget,
    Calibration,
    CalibrationFile,
    Key,
    Point,
    SameCost,
    Trained,
    read_calibration,
)
from collabdesign.explore.calibration_plan import (
    FEWEST_NETWORKS,
    PROXY_SEEDS,
    Planned,
    by_length,
    plan_trainings,
    spread_networks,
)
from collabdesign.explore.check import images_per_second
from collabdesign.explore.executors.executor import Executor, Task
from collabdesign.explore.rank import Rows, about_equal, estimate, kendall, spearman
from collabdesign.explore.record import requirements_of
from collabdesign.explore.study import has_study, read_record
from collabdesign.explore.trainings import carry_out, checkpoint_of

NETWORKS = 12

_WORK = "calibration"


@dataclass(frozen=True)
class CalibrateProgress:
    """Where a calibration stands.

    Attributes:
        done: Trainings that ended, also in an earlier process.
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
    """What is to be done, told before it begins: of how many networks, fewer than asked where fewer
    fit; ``done`` in an earlier process; ``seconds`` for what is left are from measured steps."""

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
    chosen = spread_networks(prepared.space, requirements, networks, prepared.pricing)
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


def compare(
    plan: Sequence[Planned], known: Mapping[Key, Trained], requirements: Requirements
) -> Calibration:
    """The statistics of finished trainings.

    Args:
        plan: From :func:`plan_trainings`.
        known: What became of each of them.
        requirements: Whose proxy this is.

    Raises:
        GoalsNotMet: Fewer than 4 networks could be trained in every way.
    """
    networks = {each.key.architecture: each.task.architecture for each in plan}
    failed = {each.key.architecture for each in plan if known[each.key].accuracy is None}
    whole = [network for name, network in networks.items() if name not in failed]
    if len(whole) < FEWEST_NETWORKS:
        reason = next((each.reason for each in known.values() if each.reason), "")
        raise GoalsNotMet(
            f"a calibration compares at least {FEWEST_NETWORKS} networks that could be trained "
            f"both ways, and {len(whole)} of {len(networks)} could"
            + (f"; one of the reasons: {reason}" if reason else "")
        )
    seed, asked = requirements.search.seed, requirements.search.proxy.epochs

    def accuracies(trainings: Sequence[Planned]) -> Rows:
        """Seeds x networks that could be trained."""
        keys = [each.key for each in trainings if each.key.architecture not in failed]
        found = np.array([known[key].accuracy for key in keys], dtype=np.float64)
        return found.reshape(-1, len(whole))

    macs = np.array([cost_of(network).macs for network in whole], dtype=np.float64)
    near = about_equal(macs, SAME_COST)
    pairs = int(near.sum()) // 2

    def budget(trainings: Sequence[Planned]) -> Budget:
        first, *_ = trainings
        proxy = accuracies(trainings)[0]
        return Budget(
            asked=first.task.recipe.epochs,
            epochs=first.key.epochs,
            steps=first.images // first.key.batch,
            spearman=estimate(spearman, proxy, full, seed),
            seconds=statistics.fmean(known[each.key].seconds for each in trainings),
            same_cost=estimate(spearman, proxy, full, seed, near) if pairs else None,
        )

    *proxies, fully = by_length(plan)
    mine = next(trainings for trainings in proxies if trainings[0].task.recipe.epochs == asked)
    proxy, full = accuracies(mine), accuracies(fully).mean(axis=0)
    mean = proxy.mean(axis=0)
    same_cost = None
    if pairs:
        same_cost = SameCost(
            pairs=pairs,
            spearman=estimate(spearman, mean, full, seed, near),
            kendall=estimate(kendall, mean, full, seed, near),
            macs_alone=estimate(spearman, macs, full, seed, near),
        )
    return Calibration(
        points=tuple(
            Point(network.id, int(cost), float(short), float(long))
            for network, cost, short, long in zip(whole, macs, mean, full, strict=True)
        ),
        failed=len(failed),
        asked=asked,
        proxy_epochs=mine[0].key.epochs,
        proxy_seeds=PROXY_SEEDS,
        full_epochs=fully[0].key.epochs,
        full_seeds=requirements.family.training.seeds,
        spearman=estimate(spearman, mean, full, seed),
        kendall=estimate(kendall, mean, full, seed),
        noise=float(np.sqrt(proxy.var(axis=0, ddof=1).mean())),
        budgets=tuple(map(budget, proxies)),
        seconds=sum(known[each.key].seconds for each in plan),
        macs_alone=estimate(spearman, macs, full, seed),
        same_cost=same_cost,
        proxy_images=requirements.search.proxy.images,
    )
