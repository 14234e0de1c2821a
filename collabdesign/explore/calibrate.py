"""Can the proxy be trusted: networks of the feasible space, trained briefly and fully.

Every network is trained as a proxy with :data:`PROXY_SEEDS` seeds, as a shorter and a longer
proxy with one, and fully with as many as ``family.training.seeds`` says. A proxy's learning rate
falls to zero at its own end, so that a shorter proxy is another training and not the beginning
of a longer one. Accuracy is on the held-out part of train throughout; test is not opened.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import cost_of
from collabdesign.design.requirements import Requirements, Training
from collabdesign.design.space import DesignSpace, Params
from collabdesign.errors import GoalsNotMet, InputError, NothingFits, TrainingFailed
from collabdesign.evaluate.data import ImageData
from collabdesign.evaluate.network import build_network
from collabdesign.evaluate.training import (
    EpochRecord,
    TrainingPlan,
    initialise,
    plan_training,
    seed_of,
    train,
)
from collabdesign.explore.begin import Prepared, make_folder
from collabdesign.explore.calibration import (
    CALIBRATION,
    Budget,
    Calibration,
    CalibrationFile,
    Key,
    Point,
    Trained,
    read_calibration,
)
from collabdesign.explore.check import images_per_second
from collabdesign.explore.feasible import closest_params, default_params
from collabdesign.explore.lock import held
from collabdesign.explore.rank import estimate, kendall, pooled_deviation, spearman
from collabdesign.explore.record import DATABASE, read_record, requirements_of

NETWORKS = 12
FEWEST_NETWORKS = 4
PROXY_SEEDS = 2

_CHECKPOINT = "calibration.pt"

# Lengths of further proxies, times the epochs of the proxy.
_FACTORS = (0.25, 0.5, 1.0, 2.0)

# Random proposals to choose from, and how many more variations of what fits where that is rare.
_POOL, _PROPOSALS, _VARIATIONS = 400, 2000, 4000
_SMALLEST_RATE, _LARGEST_RATE = 0.05, 0.5

_TIMED_NETWORKS = 3


@dataclass(frozen=True)
class Planned:
    """One training to make.

    Attributes:
        key: Which one.
        architecture: Of the network.
        recipe: With its length.
        images: That go through the network, repeats included.
    """

    key: Key
    architecture: Architecture
    recipe: Training
    images: int


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
        InputError: The run folder holds a calibration of something else, or is in use.
        NothingFits: Fewer than 4 networks fit the limits.
        GoalsNotMet: Fewer than 4 networks could be trained both ways.
        KeyboardInterrupt: Passed on; every finished training stands.
    """
    data, device = prepared.data, prepared.device
    chosen = spread_networks(prepared.space, requirements, networks)
    plan = plan_trainings(chosen, requirements, len(data.train_labels))
    make_folder(run_dir)
    with held(run_dir):
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


def spread_networks(
    space: DesignSpace, requirements: Requirements, count: int
) -> tuple[Architecture, ...]:
    """Different networks that fit, spread by multiply-adds; a function of ``search.seed``.

    The prototype's default network is one. The others are one of each of ``count - 1`` equal
    parts of the random proposals that fit, in order of their multiply-adds. Where few proposals
    fit, variations of what fits stand in for them.

    Returns:
        Smallest first; fewer than ``count`` where fewer are found.

    Raises:
        NothingFits: There are fewer than 4.
    """

    def fits(architecture: Architecture) -> bool:
        cost = cost_of(architecture, requirements.deploy.precision)
        return all(value <= 0 for value in requirements.violations(cost).values())

    rng = np.random.default_rng([requirements.search.seed, 1])
    pool: dict[str, tuple[Params, Architecture]] = {}

    def add(params: Params) -> None:
        architecture = space.decode(params)
        if architecture.id not in pool and fits(architecture):
            pool[architecture.id] = params, architecture

    own = default_params(space, requirements)
    add(closest_params(space, requirements) if own is None else own)
    default = next((architecture for _, architecture in pool.values()), None)
    for _ in range(_PROPOSALS):
        if len(pool) == _POOL:
            break
        add(space.sample(rng))
    for _ in range(_VARIATIONS if pool else 0):
        if len(pool) >= min(_POOL, 10 * count):
            break
        params, _architecture = list(pool.values())[int(rng.random() * len(pool))]
        rate = _SMALLEST_RATE * (_LARGEST_RATE / _SMALLEST_RATE) ** rng.random()
        add(space.vary(params, rng, rate))
    if len(pool) < FEWEST_NETWORKS or default is None:
        raise NothingFits(
            f"a calibration compares at least {FEWEST_NETWORKS} different networks that fit the "
            f"limits, and {len(pool)} were found; collabdesign check says what binds"
        )

    def macs(architecture: Architecture) -> tuple[int, str]:
        return cost_of(architecture).macs, architecture.id

    others = sorted((a for _, a in pool.values() if a.id != default.id), key=macs)
    parts = min(count - 1, len(others))
    middles = [others[(2 * part + 1) * len(others) // (2 * parts)] for part in range(parts)]
    return tuple(sorted([default, *middles], key=macs))


def proxy_lengths(requirements: Requirements, images: int) -> dict[int, TrainingPlan]:
    """Proxies to compare: ``search.proxy.epochs`` to what it comes to, shortest first.

    A quarter, a half, one and two times the proxy that was asked for; of equal plans one, and
    none as long as the full training but the one that was asked for.
    """
    proxy = requirements.search.proxy
    full = plan_training(images, requirements.family.training)
    found = {proxy.epochs: plan_training(images, proxy)}
    for factor in _FACTORS:
        epochs = max(1, round(factor * proxy.epochs))
        plan = _proxy_plan(requirements, images, epochs)
        # Written as what it comes to, where that gives the same.
        if _proxy_plan(requirements, images, plan.epochs) == plan:
            epochs = plan.epochs
        if plan not in found.values() and plan.epochs < full.epochs:
            found[epochs] = plan
    return dict(sorted(found.items(), key=lambda item: (item[1].epochs, item[1].steps)))


def plan_trainings(
    networks: Sequence[Architecture], requirements: Requirements, images: int
) -> tuple[Planned, ...]:
    """Every training of a calibration, the short ones first."""
    search, family = requirements.search, requirements.family
    lengths = proxy_lengths(requirements, images)
    kinds = [
        ("proxy", plan, _proxy_recipe(requirements, asked), search.seed + number)
        for asked, plan in lengths.items()
        for number in range(PROXY_SEEDS if asked == search.proxy.epochs else 1)
    ]
    full = plan_training(images, family.training)
    for number in range(family.training.seeds):
        kinds.append(("full", full, family.training, search.seed + number))
    return tuple(
        Planned(
            Key(architecture.id, kind, plan.batch, plan.epochs, seed),
            architecture,
            recipe,
            plan.steps * plan.batch,
        )
        for kind, plan, recipe, seed in kinds
        for architecture in networks
    )


def compare(
    plan: Sequence[Planned], known: dict[Key, Trained], requirements: Requirements
) -> Calibration:
    """The statistics of finished trainings.

    Args:
        plan: From :func:`plan_trainings`.
        known: What became of each of them.
        requirements: Give the lengths that were asked for and the seed of the intervals.

    Raises:
        GoalsNotMet: Fewer than 4 networks could be trained in every way.
    """
    search = requirements.search
    networks = {each.architecture.id: each.architecture for each in plan}
    lengths: dict[tuple[int, int], tuple[int, int]] = {}  # batch, epochs -> asked, steps
    full_epochs = 0
    for each in plan:
        if each.key.kind == "full":
            full_epochs = each.key.epochs
        else:
            steps = each.images // each.key.batch
            lengths[each.key.batch, each.key.epochs] = each.recipe.epochs, steps
    mine = next(length for length, (asked, _) in lengths.items() if asked == search.proxy.epochs)

    def accuracies(name: str, kind: str, length: tuple[int, int] | None = None) -> list[float]:
        return [
            accuracy
            for each in plan
            if each.key.architecture == name
            and each.key.kind == kind
            and length in (None, (each.key.batch, each.key.epochs))
            and (accuracy := known[each.key].accuracy) is not None
        ]

    failed = {each.key.architecture for each in plan if known[each.key].accuracy is None}
    whole = [name for name in networks if name not in failed]
    if len(whole) < FEWEST_NETWORKS:
        reason = next((each.reason for each in known.values() if each.reason), "")
        raise GoalsNotMet(
            f"a calibration compares at least {FEWEST_NETWORKS} networks that could be trained "
            f"both ways, and {len(whole)} of {len(networks)} could"
            + (f"; one of the reasons: {reason}" if reason else "")
        )
    full = [statistics.fmean(accuracies(name, "full")) for name in whole]
    proxies = [accuracies(name, "proxy", mine) for name in whole]
    mean = [statistics.fmean(each) for each in proxies]
    budgets = []
    for length, (asked, steps) in lengths.items():
        single = [accuracies(name, "proxy", length)[0] for name in whole]
        seconds = [
            known[each.key].seconds
            for each in plan
            if each.key.kind == "proxy" and (each.key.batch, each.key.epochs) == length
        ]
        budgets.append(
            Budget(
                asked=asked,
                epochs=length[1],
                steps=steps,
                spearman=estimate(spearman, single, full, search.seed),
                seconds=statistics.fmean(seconds),
            )
        )
    return Calibration(
        points=tuple(
            Point(name, cost_of(networks[name]).macs, proxy, trained)
            for name, proxy, trained in zip(whole, mean, full, strict=True)
        ),
        failed=len(failed),
        asked=search.proxy.epochs,
        proxy_epochs=mine[1],
        proxy_seeds=PROXY_SEEDS,
        full_epochs=full_epochs,
        full_seeds=requirements.family.training.seeds,
        spearman=estimate(spearman, mean, full, search.seed),
        kendall=estimate(kendall, mean, full, search.seed),
        noise=pooled_deviation(proxies),
        budgets=tuple(budgets),
        seconds=sum(known[each.key].seconds for each in plan),
    )


def _proxy_recipe(requirements: Requirements, epochs: int) -> Training:
    return requirements.search.proxy.model_copy(update={"epochs": epochs})


def _proxy_plan(requirements: Requirements, images: int, epochs: int) -> TrainingPlan:
    return plan_training(images, _proxy_recipe(requirements, epochs))


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
