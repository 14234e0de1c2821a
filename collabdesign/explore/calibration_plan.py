"""What a calibration trains: networks spread over what fits, each briefly and fully.

A search compares mostly networks of about the same cost, and most of those near the limit;
networks of other sizes are ranked by their multiply-adds alone. Hence a third of a calibration's
networks are about as large as the limit allows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import cost_of
from collabdesign.design.requirements import Requirements, Training
from collabdesign.design.space import DesignSpace, Params
from collabdesign.errors import InputError, NothingFits
from collabdesign.evaluate.plan import is_shorter, plan_training, trained_images
from collabdesign.evaluate.seeds import seed_of
from collabdesign.explore.calibration import SAME_COST, Key
from collabdesign.explore.executors.executor import Task
from collabdesign.explore.feasible import default_params
from collabdesign.explore.pricing import Pricing

FEWEST_NETWORKS = 4
PROXY_SEEDS = 2

# Lengths of further proxies, times the epochs of the proxy.
_FACTORS = (0.25, 0.5, 1.0, 2.0)

# Random proposals to choose from, and how many more variations of what fits where that is rare.
_POOL, _PROPOSALS, _VARIATIONS = 400, 2000, 4000
_SMALLEST_RATE, _LARGEST_RATE = 0.05, 0.5

# Of the networks one in so many is near the limit. Each is chosen from ten that are known there;
# where random proposals seldom come there, so many variations of the largest are tried.
_ONE_NEAR_LIMIT_IN = 3
_TO_CHOOSE_FROM, _LARGEST, _CLIMBS = 10, 8, 600


class Planned(NamedTuple):
    """One training to make; ``images`` go through the network, repeats included."""

    key: Key
    task: Task
    images: int


def spread_networks(
    space: DesignSpace, requirements: Requirements, count: int, pricing: Pricing | None = None
) -> tuple[Architecture, ...]:
    """Different networks that fit, spread by multiply-adds; a function of ``search.seed``.

    The prototype's default network is one. The others are one of each of ``count - 1`` equal
    parts of the random proposals that fit, in order of their multiply-adds. Where few proposals
    fit, variations of what fits stand in for them. Instead of the largest of these, a third of all
    networks are within a factor of :data:`SAME_COST` of ``limits.macs``, or of the largest network
    found where none comes so near to it, or there is no such limit. Where something has to be
    measured it is of those that are chosen, and what is over a limit then is left out.

    Returns:
        Smallest first; fewer than ``count`` where fewer are found.

    Raises:
        NothingFits: There are fewer than 4.
        NotMeasured: What has to be measured could not be.
    """
    pricing = (pricing or Pricing(requirements)).aside()
    rng = np.random.default_rng([requirements.search.seed, 1])
    pool: dict[str, Params] = {}  # by id, the default network first

    def add(params: Params) -> None:
        architecture = space.decode(params)
        if requirements.fits(pricing.cautious(architecture)):
            pool.setdefault(architecture.id, params)

    if (own := default_params(space, requirements, pricing)) is not None:
        add(own)
    for _ in range(_PROPOSALS):
        if len(pool) < _POOL:
            add(space.sample(rng))
    for _ in range(_VARIATIONS):
        if 0 < len(pool) < min(_POOL, 10 * count):
            params = list(pool.values())[int(rng.random() * len(pool))]
            rate = _SMALLEST_RATE * (_LARGEST_RATE / _SMALLEST_RATE) ** rng.random()
            add(space.vary(params, rng, rate))
    _require_enough(pool)

    def macs(architecture: Architecture) -> tuple[int, str]:
        return cost_of(architecture).macs, architecture.id

    default, *others = map(space.decode, pool.values())
    others.sort(key=macs)
    parts = min(count - 1, len(others))
    middles = _middles(others, parts)
    wanted = count // _ONE_NEAR_LIMIT_IN
    large = _near_limit(space, requirements, pricing, pool, wanted * _TO_CHOOSE_FROM, rng)
    large = sorted((each for each in large if each != default), key=macs)
    chosen = dict.fromkeys(_middles(large, min(wanted, len(large), parts)))
    for each in middles:  # the smallest first
        if len(chosen) < parts:
            chosen.setdefault(each)
    found = [each for each in [default, *chosen] if requirements.fits(pricing.known(each))]
    _require_enough(found)
    return tuple(sorted(found, key=macs))


def _require_enough(networks: Collection[object]) -> None:
    if len(networks) < FEWEST_NETWORKS:
        raise NothingFits(
            f"a calibration compares at least {FEWEST_NETWORKS} different networks that fit the "
            f"limits, and {len(networks)} were found; collabdesign check says what binds"
        )


def _middles(networks: Sequence[Architecture], parts: int) -> list[Architecture]:
    """The middle network of each of so many equal parts."""
    return [networks[(2 * part + 1) * len(networks) // (2 * parts)] for part in range(parts)]


def _near_limit(
    space: DesignSpace,
    requirements: Requirements,
    pricing: Pricing,
    pool: Mapping[str, Params],
    count: int,
    rng: np.random.Generator,
) -> list[Architecture]:
    """Networks that fit and are about as large as the limit of multiply-adds; those of a pool, and
    where they are fewer than ``count``, variations of the largest."""
    known = dict(pool)
    macs = {name: cost_of(space.decode(params)).macs for name, params in known.items()}
    most = requirements.limits.macs or max(macs.values())

    def near() -> list[str]:
        return [name for name, each in macs.items() if SAME_COST * each >= most]

    for _ in range(_CLIMBS):
        if len(near()) >= count:
            break
        largest = sorted(known, key=lambda name: (macs[name], name))[-_LARGEST:]
        params = known[largest[int(rng.random() * len(largest))]]
        rate = _SMALLEST_RATE * (_LARGEST_RATE / _SMALLEST_RATE) ** rng.random()
        varied = space.vary(params, rng, rate)
        network = space.decode(varied)
        if requirements.fits(pricing.cautious(network)) and network.id not in known:
            known[network.id], macs[network.id] = varied, cost_of(network).macs
    if not near():
        most = max(macs.values())
    return [space.decode(known[name]) for name in near()]


def proxy_recipes(requirements: Requirements, images: int) -> list[Training]:
    """Proxies to compare, shortest first.

    A quarter, a half, one and two times the proxy that was asked for; of equal plans one, and
    none as long as the full training but the one that was asked for.
    """
    proxy = requirements.search.proxy
    full = requirements.family.training
    found = {plan_training(images, proxy): proxy}
    for factor in _FACTORS:
        recipe = proxy.model_copy(update={"epochs": max(1, round(factor * proxy.epochs))})
        plan = plan_training(images, recipe)
        # Written as what it comes to, where that gives the same.
        written = proxy.model_copy(update={"epochs": plan.epochs})
        if plan_training(images, written) == plan:
            recipe = written
        if is_shorter(recipe, full, images):
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
    if not is_shorter(proxy, full, images):
        short, long = (plan_training(images, recipe).epochs for recipe in (proxy, full))
        raise InputError(
            "a proxy must be shorter than the full training for a calibration to tell anything, "
            f"got search.proxy of {short} epochs on {trained_images(images, proxy):,} images and "
            f"family.training of {long} on {images:,}"
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


def by_length(plan: Sequence[Planned]) -> list[list[Planned]]:
    """Trainings that differ in network and seed alone; the full ones last."""
    found: dict[tuple[str, int, int], list[Planned]] = {}
    for each in plan:
        found.setdefault((each.key.kind, each.key.batch, each.key.epochs), []).append(each)
    return list(found.values())
