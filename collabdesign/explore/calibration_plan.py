"""Which networks a calibration trains, how often and how long, and what the accuracies say.

Every network is trained as a proxy with :data:`PROXY_SEEDS` seeds, as a shorter and a longer
proxy with one, and fully with as many as ``family.training.seeds`` says. A proxy's learning rate
falls to zero at its own end, so that a shorter proxy is another training and not the beginning
of a longer one.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import cost_of
from collabdesign.design.requirements import Requirements, Training
from collabdesign.design.space import DesignSpace, Params
from collabdesign.errors import GoalsNotMet, InputError, NothingFits
from collabdesign.evaluate.plan import plan_training
from collabdesign.evaluate.seeds import seed_of
from collabdesign.explore.calibration import Budget, Calibration, Key, Point, Trained
from collabdesign.explore.executors.executor import Task
from collabdesign.explore.feasible import default_params
from collabdesign.explore.rank import Rows, estimate, kendall, spearman

FEWEST_NETWORKS = 4
PROXY_SEEDS = 2

# Lengths of further proxies, times the epochs of the proxy.
_FACTORS = (0.25, 0.5, 1.0, 2.0)

# Random proposals to choose from, and how many more variations of what fits where that is rare.
_POOL, _PROPOSALS, _VARIATIONS = 400, 2000, 4000
_SMALLEST_RATE, _LARGEST_RATE = 0.05, 0.5


class Planned(NamedTuple):
    """One training to make; ``images`` go through the network, repeats included."""

    key: Key
    task: Task
    images: int


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
        if len(pool) == _POOL:
            break
        add(space.sample(rng))
    for _ in range(_VARIATIONS if pool else 0):
        if len(pool) >= min(_POOL, 10 * count):
            break
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
        recipe = _with_epochs(proxy, max(1, round(factor * proxy.epochs)))
        plan = plan_training(images, recipe)
        # Written as what it comes to, where that gives the same.
        written = _with_epochs(proxy, plan.epochs)
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
    ways: list[tuple[str, Training, int]] = [
        ("proxy", recipe, PROXY_SEEDS if recipe.epochs == proxy.epochs else 1)
        for recipe in proxy_recipes(requirements, images)
    ]
    planned = []
    for kind, recipe, seeds in (*ways, ("full", full, full.seeds)):
        plan = plan_training(images, recipe)
        for seed in range(requirements.search.seed, requirements.search.seed + seeds):
            for network in networks:
                key = Key(network.id, kind, plan.batch, plan.epochs, seed)
                name, drawn = "-".join(map(str, key)), seed_of(network.id, seed)
                # Only a full training is worth a checkpoint.
                task = Task(name, network, recipe, drawn, keeps=kind == "full")
                planned.append(Planned(key, task, plan.steps * plan.batch))
    return tuple(planned)


def by_length(plan: Sequence[Planned]) -> list[list[Planned]]:
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

    *proxies, fully = by_length(plan)
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


def _with_epochs(recipe: Training, epochs: int) -> Training:
    return recipe.model_copy(update={"epochs": epochs})
