"""Processor milliseconds of a proposal against finished trials, in-memory storage, one thread.

Two objectives, one of them known without training; half of the parameters are integers, a
quarter categories, a quarter floats. A quarter of the asks that follow are told, so that what
is found seldom is found in its turn.

    python experiments/sampler_speed.py --parameters 80 --trials 100 400 1000 3000 10000

``--shipped`` measures a search of the product instead: the digits' requirements and those with the
largest shipped prototype, ``proposals.generative``, the prototype's default network enqueued, one
study that lasts, each proposal told. A quarter of the candidates before are random, the others
variations of what is on the front by then; their accuracy is a formula with noise.

    python experiments/sampler_speed.py --shipped --trials 100 1000
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import TPESampler

from collabdesign import DesignSpace, GenerativeSampler, cost_of, load_requirements
from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import Cost
from collabdesign.design.scaling import scaled_down
from collabdesign.explore.front import directions_of
from collabdesign.explore.front import values_of as objectives_of
from collabdesign.explore.proposals import distributions_of, generative
from collabdesign.sampler.gain import not_dominated
from collabdesign.sampler.proposal_space import MappedSpace

SHIPPED = Path(__file__).parent.parent / "requirements"


def space_of(parameters: int) -> dict[str, BaseDistribution]:
    """A mapping of so many distributions."""
    kinds: list[BaseDistribution] = [
        IntDistribution(1, 8),
        CategoricalDistribution(["a", "b", "c", "d"]),
        IntDistribution(16, 128, step=16),
        FloatDistribution(0.0, 1.0),
    ]
    return {f"p{number}": kinds[number % 4] for number in range(parameters)}


def values_of(params: dict[str, Any], rng: np.random.Generator) -> list[float]:
    """Something to learn, and a cost."""
    numbers = [value for value in params.values() if isinstance(value, int)]
    return [sum(map(math.log, numbers)) + 0.1 * rng.standard_normal(), float(sum(numbers))]


def accuracy_of(params: Mapping[str, Any], cost: Cost, rng: np.random.Generator) -> float:
    """More for more multiply-adds, with falling returns, and for some choices; noise."""
    liked = sum(
        str(value) in ("identity", "hardswish", "squeeze_excite") for value in params.values()
    )
    z = 0.55 * math.log(cost.macs / 2e5) + 0.1 * liked - 0.5
    return 0.1 + 0.85 / (1 + math.exp(-z)) + 0.01 * float(rng.standard_normal())


def shipped(name: str, overrides: Sequence[str], finished: int, asks: int) -> None:
    """Print what a proposal costs a search after so many finished candidates."""
    requirements = load_requirements(SHIPPED / name, overrides, check_data=False)
    space, rng = DesignSpace(requirements), np.random.default_rng(0)
    objectives, precision = requirements.objectives, requirements.deploy.precision

    def fits(architecture: Architecture) -> bool:
        over = requirements.violations(cost_of(architecture, precision))
        return all(value <= 0 for value in over.values())

    def told(params: Mapping[str, Any]) -> list[float]:
        cost = cost_of(space.decode(params), precision)
        return list(objectives_of(objectives, accuracy_of(params, cost, rng), cost))

    study = optuna.create_study(
        directions=directions_of(objectives), sampler=generative(space, requirements, 0)
    )
    default = scaled_down(space, fits)
    assert default is not None
    study.enqueue_trial(default)
    trial = study.ask()
    study.tell(trial, told(space.suggest(trial)))
    signs = np.array([-1.0 if each == "maximize" else 1.0 for each in directions_of(objectives)])
    seen, losses = [default], [signs * study.trials[0].values]
    while len(seen) < finished:
        front = not_dominated(np.array(losses))
        parent = seen[int(front[int(rng.integers(len(front)))])]
        params = space.vary(parent, rng, 1.0 if rng.random() < 0.25 else 0.05)
        if params not in seen and fits(space.decode(params)):
            values = told(params)
            seen.append(params)
            losses.append(signs * values)
            distributions = distributions_of(space, params)
            study.add_trial(
                optuna.trial.create_trial(params=params, distributions=distributions, values=values)
            )
    times = []
    for _ in range(asks + 1):
        started = time.process_time()
        trial = study.ask()
        params = space.suggest(trial)
        times.append(1e3 * (time.process_time() - started))
        study.tell(trial, told(params))
    print(
        f"{name}, {len(space.parameters)} parameters, {finished} candidates: first ask "
        f"{times[0]:.0f} ms, median of the next {asks} {statistics.median(times[1:]):.0f} ms "
        f"({min(times[1:]):.0f} to {max(times[1:]):.0f})",
        flush=True,
    )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parameters", type=int, default=80)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 400, 1000, 3000, 10000])
    parser.add_argument("--asks", type=int, default=15)
    parser.add_argument("--tpe", action="store_true", help="beside TPE")
    parser.add_argument("--shipped", action="store_true", help="a search of the product")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if options.shipped:
        for finished in options.trials:
            shipped("digits.yaml", [], finished, options.asks)
            shipped("imagenette.yaml", ["data.classes=10"], finished, options.asks)
        return
    space = space_of(options.parameters)
    drawn = MappedSpace(space)
    samplers: dict[str, Any] = {
        "generative": lambda: GenerativeSampler(
            space=space, static_objectives=lambda p: [math.nan, values_of(p, quiet)[1]], seed=0
        )
    }
    quiet = np.random.default_rng(0)
    if options.tpe:
        samplers["tpe"] = lambda: TPESampler(seed=0)
    for count in options.trials:
        for name, make in samplers.items():
            rng = np.random.default_rng(0)
            study = optuna.create_study(directions=["maximize", "minimize"], sampler=make())
            for _ in range(count):
                params = drawn.sample(rng)
                study.add_trial(
                    optuna.trial.create_trial(
                        params=params, distributions=space, values=values_of(params, rng)
                    )
                )
            times = []
            for number in range(options.asks + 1):
                started = time.process_time()
                trial = study.ask()
                params = {key: trial._suggest(key, each) for key, each in space.items()}
                times.append(1e3 * (time.process_time() - started))
                if number % 4 == 0:
                    study.tell(trial, values_of(params, rng))
            print(
                f"{options.parameters} parameters, {count:6} trials, {name}: first ask "
                f"{times[0]:.0f} ms, median of the next {options.asks} "
                f"{statistics.median(times[1:]):.0f} ms ({min(times[1:]):.0f} to "
                f"{max(times[1:]):.0f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
