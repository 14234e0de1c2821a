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
from typing import NamedTuple

import numpy as np
import torch

from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import cost_of
from collabdesign.design.requirements import Requirements, Training
from collabdesign.design.space import DesignSpace, Params
from collabdesign.errors import GoalsNotMet, InputError, NothingFits
from collabdesign.evaluate.plan import plan_training
from collabdesign.evaluate.seeds import seed_of
from collabdesign.evaluate.training import EpochRecord
from collabdesign.explore.begin import Prepared, refusal
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
from collabdesign.explore.executors.executor import Executor, Task
from collabdesign.explore.feasible import default_params
from collabdesign.explore.rank import Rows, estimate, kendall, spearman
from collabdesign.explore.record import requirements_of
from collabdesign.explore.study import has_study, read_record
from collabdesign.explore.trainings import carry_out, checkpoint_of

NETWORKS = 12
FEWEST_NETWORKS = 4
PROXY_SEEDS = 2

_WORK = "calibration"

# Lengths of further proxies, times the epochs of the proxy.
_FACTORS = (0.25, 0.5, 1.0, 2.0)

# Random proposals to choose from, and how many more variations of what fits where that is rare.
_POOL, _PROPOSALS, _VARIATIONS = 400, 2000, 4000
_SMALLEST_RATE, _LARGEST_RATE = 0.05, 0.5


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


class Planned(NamedTuple):
    """One training to make; ``images`` go through the network, repeats included."""

    key: Key
    task: Task
    images: int


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
    *proxy, full = (trainings[0].key.epochs for trainings in _by_length(plan))
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
    precision = requirements.deploy.precision
    rng = np.random.default_rng([requirements.search.seed, 1])
    pool: dict[str, Params] = {}  # by id, the default network first

    def add(params: Params) -> None:
        architecture = space.decode(params)
        if requirements.fits(cost_of(architecture, precision)):
            pool.setdefault(architecture.id, params)

    if (own := default_params(space, requirements)) is not None:
        add(own)
    for _ in range(_PROPOSALS):
        if len(pool) < _POOL:
            add(space.sample(rng))
    for _ in range(_VARIATIONS):
        if 0 < len(pool) < min(_POOL, 10 * count):
            params = list(pool.values())[int(rng.random() * len(pool))]
            rate = _SMALLEST_RATE * (_LARGEST_RATE / _SMALLEST_RATE) ** rng.random()
            add(space.vary(params, rng, rate))
    if len(pool) < FEWEST_NETWORKS:
        raise NothingFits(
            f"a calibration compares at least {FEWEST_NETWORKS} different networks that fit the "
            f"limits, and {len(pool)} were found; collabdesign check says what binds"
        )

    def macs(architecture: Architecture) -> tuple[int, str]:
        return cost_of(architecture).macs, architecture.id

    default, *others = map(space.decode, pool.values())
    others.sort(key=macs)
    parts = min(count - 1, len(others))
    middles = [others[(2 * part + 1) * len(others) // (2 * parts)] for part in range(parts)]
    return tuple(sorted([default, *middles], key=macs))


def proxy_recipes(requirements: Requirements, images: int) -> list[Training]:
    """Proxies to compare, shortest first.

    A quarter, a half, one and two times the proxy that was asked for; of equal plans one, and
    none as long as the full training but the one that was asked for.
    """
    proxy = requirements.search.proxy
    full = plan_training(images, requirements.family.training)
    found = {plan_training(images, proxy): proxy}
    for factor in _FACTORS:
        recipe = proxy.model_copy(update={"epochs": max(1, round(factor * proxy.epochs))})
        plan = plan_training(images, recipe)
        # Written as what it comes to, where that gives the same.
        written = proxy.model_copy(update={"epochs": plan.epochs})
        if plan_training(images, written) == plan:
            recipe = written
        if plan.epochs < full.epochs:
            found.setdefault(plan, recipe)
    return [found[plan] for plan in sorted(found, key=lambda plan: (plan.epochs, plan.steps))]


def plan_trainings(
    networks: Sequence[Architecture], requirements: Requirements, images: int
) -> tuple[Planned, ...]:
    """Every training of a calibration, the short ones first; the networks in order for each way.

    Raises:
        InputError: The proxy is as long as the full training.
    """
    proxy, full = requirements.search.proxy, requirements.family.training
    short, long = (plan_training(images, recipe).epochs for recipe in (proxy, full))
    if short >= long:
        raise InputError(
            "a proxy must be shorter than the full training for a calibration to tell anything, "
            f"got search.proxy of {short} epochs and family.training of {long} on {images:,} images"
        )
    planned = []
    for recipe in (*proxy_recipes(requirements, images), full):
        plan = plan_training(images, recipe)
        kind, seeds = "proxy", PROXY_SEEDS if recipe.epochs == proxy.epochs else 1
        if recipe is full:
            kind, seeds = "full", full.seeds
        for seed in range(requirements.search.seed, requirements.search.seed + seeds):
            for network in networks:
                key = Key(network.id, kind, plan.batch, plan.epochs, seed)
                name, drawn = "-".join(map(str, key)), seed_of(network.id, seed)
                # Only a full training is worth a checkpoint.
                task = Task(name, network, recipe, drawn, keeps=kind == "full")
                planned.append(Planned(key, task, plan.steps * plan.batch))
    return tuple(planned)


def _by_length(plan: Sequence[Planned]) -> list[list[Planned]]:
    """Trainings that differ in network and seed alone; the full ones last."""
    found: dict[tuple[str, int, int], list[Planned]] = {}
    for each in plan:
        found.setdefault((each.key.kind, each.key.batch, each.key.epochs), []).append(each)
    return list(found.values())


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

    def budget(trainings: Sequence[Planned]) -> Budget:
        first, *_ = trainings
        return Budget(
            asked=first.task.recipe.epochs,
            epochs=first.key.epochs,
            steps=first.images // first.key.batch,
            spearman=estimate(spearman, accuracies(trainings)[0], full, seed),
            seconds=statistics.fmean(known[each.key].seconds for each in trainings),
        )

    *proxies, fully = _by_length(plan)
    mine = next(trainings for trainings in proxies if trainings[0].task.recipe.epochs == asked)
    proxy, full = accuracies(mine), accuracies(fully).mean(axis=0)
    mean = proxy.mean(axis=0)
    return Calibration(
        points=tuple(
            Point(network.id, cost_of(network).macs, float(short), float(long))
            for network, short, long in zip(whole, mean, full, strict=True)
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
    )
