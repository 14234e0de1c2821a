"""Which networks a calibration trains, how often and how long, and what the accuracies say.

Every network is trained as a proxy with :data:`PROXY_SEEDS` seeds, as a shorter and a longer
proxy with one, and fully with as many as ``family.training.seeds`` says. A proxy's learning rate
falls to zero at its own end, so that a shorter proxy is another training and not the beginning
of a longer one.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import cost_of
from collabdesign.design.requirements import Requirements, Training
from collabdesign.design.space import DesignSpace, Params
from collabdesign.errors import GoalsNotMet, NothingFits
from collabdesign.evaluate.plan import TrainingPlan, plan_training
from collabdesign.evaluate.seeds import seed_of
from collabdesign.explore.calibration import Budget, Calibration, Key, Point, Trained
from collabdesign.explore.executors.executor import Task
from collabdesign.explore.feasible import default_params
from collabdesign.explore.rank import estimate, kendall, pooled_deviation, spearman

FEWEST_NETWORKS = 4
PROXY_SEEDS = 2

# Lengths of further proxies, times the epochs of the proxy.
_FACTORS = (0.25, 0.5, 1.0, 2.0)

# Random proposals to choose from, and how many more variations of what fits where that is rare.
_POOL, _PROPOSALS, _VARIATIONS = 400, 2000, 4000
_SMALLEST_RATE, _LARGEST_RATE = 0.05, 0.5


@dataclass(frozen=True)
class Planned:
    """One training to make; ``images`` go through the network, repeats included."""

    key: Key
    architecture: Architecture
    recipe: Training
    images: int

    @property
    def name(self) -> str:
        """Of its checkpoint."""
        key = self.key
        return f"{key.architecture}-{key.kind}-{key.batch}-{key.epochs}-{key.seed}"

    @property
    def task(self) -> Task:
        """What an executor carries out; a full training is worth a checkpoint."""
        seed = seed_of(self.key.architecture, self.key.seed)
        keeps = self.key.kind == "full"
        return Task(self.name, self.architecture, self.recipe, seed, keeps=keeps)


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
    pool: dict[str, tuple[Params, Architecture]] = {}

    def add(params: Params) -> None:
        architecture = space.decode(params)
        if architecture.id in pool:
            return
        if requirements.fits(cost_of(architecture, precision)):
            pool[architecture.id] = params, architecture

    if (own := default_params(space, requirements)) is not None:
        add(own)
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
    plan: Sequence[Planned], known: Mapping[Key, Trained], requirements: Requirements
) -> Calibration:
    """The statistics of finished trainings.

    Args:
        plan: From :func:`plan_trainings`, the full trainings last.
        known: What became of each of them.
        requirements: Whose proxy this is.

    Raises:
        GoalsNotMet: Fewer than 4 networks could be trained in every way.
    """
    networks = {each.architecture.id: each.architecture for each in plan}
    failed = {each.key.architecture for each in plan if known[each.key].accuracy is None}
    whole = [name for name in networks if name not in failed]
    if len(whole) < FEWEST_NETWORKS:
        reason = next((each.reason for each in known.values() if each.reason), "")
        raise GoalsNotMet(
            f"a calibration compares at least {FEWEST_NETWORKS} networks that could be trained "
            f"both ways, and {len(whole)} of {len(networks)} could"
            + (f"; one of the reasons: {reason}" if reason else "")
        )

    by_length: dict[tuple[str, int, int], list[Planned]] = {}
    for each in plan:
        by_length.setdefault((each.key.kind, each.key.batch, each.key.epochs), []).append(each)
    *proxies, fully = by_length.values()
    seed, asked = requirements.search.seed, requirements.search.proxy.epochs
    mine = next(trainings for trainings in proxies if trainings[0].recipe.epochs == asked)

    def accuracies(trainings: Sequence[Planned]) -> list[list[float]]:
        """Of each network that could be trained, by seed."""
        found: dict[str, list[float]] = {name: [] for name in whole}
        for each in trainings:
            accuracy = known[each.key].accuracy
            if each.key.architecture in found and accuracy is not None:
                found[each.key.architecture].append(accuracy)
        return list(found.values())

    full = [statistics.fmean(seeds) for seeds in accuracies(fully)]
    mean = [statistics.fmean(seeds) for seeds in accuracies(mine)]

    def budget(trainings: Sequence[Planned]) -> Budget:
        first, *_ = trainings
        single = [seeds[0] for seeds in accuracies(trainings)]
        return Budget(
            asked=first.recipe.epochs,
            epochs=first.key.epochs,
            steps=first.images // first.key.batch,
            spearman=estimate(spearman, single, full, seed),
            seconds=statistics.fmean(known[each.key].seconds for each in trainings),
        )

    return Calibration(
        points=tuple(
            Point(name, cost_of(networks[name]).macs, proxy, trained)
            for name, proxy, trained in zip(whole, mean, full, strict=True)
        ),
        failed=len(failed),
        asked=asked,
        proxy_epochs=mine[0].key.epochs,
        proxy_seeds=PROXY_SEEDS,
        full_epochs=fully[0].key.epochs,
        full_seeds=requirements.family.training.seeds,
        spearman=estimate(spearman, mean, full, seed),
        kendall=estimate(kendall, mean, full, seed),
        noise=pooled_deviation(accuracies(mine)),
        budgets=tuple(map(budget, proxies)),
        seconds=sum(known[each.key].seconds for each in plan),
    )


def _proxy_recipe(requirements: Requirements, epochs: int) -> Training:
    return requirements.search.proxy.model_copy(update={"epochs": epochs})


def _proxy_plan(requirements: Requirements, images: int, epochs: int) -> TrainingPlan:
    return plan_training(images, _proxy_recipe(requirements, epochs))
