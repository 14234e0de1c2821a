"""Milliseconds of ask and all suggests against finished trials, in-memory storage, one thread.

Two objectives, one of them known without training; half of the parameters are integers, a
quarter categories, a quarter floats. A quarter of the asks that follow are told, so that what
is found seldom is found in its turn.

    python experiments/sampler_speed.py --parameters 80 --trials 100 400 1000 3000 10000
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
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

from collabdesign import GenerativeSampler
from collabdesign.sampler.proposal_space import MappedSpace


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


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parameters", type=int, default=80)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 400, 1000, 3000, 10000])
    parser.add_argument("--asks", type=int, default=15)
    parser.add_argument("--tpe", action="store_true", help="beside TPE")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
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
                started = time.perf_counter()
                trial = study.ask()
                params = {key: trial._suggest(key, each) for key, each in space.items()}
                times.append(1e3 * (time.perf_counter() - started))
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
