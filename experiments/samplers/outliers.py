"""Networks that die: what a search still finds where so many of its trainings end at chance.

Which ones die is chance, whatever the network. A network that died has what it was seen to have:
it counts for nothing in the hypervolume.

    python experiments/samplers/outliers.py --seeds 10
"""

from __future__ import annotations

import argparse
import os
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import compare
import numpy as np
import optuna
import threadpoolctl
from problems import Problem
from rich.progress import track

from collabdesign.design.architecture import Architecture

SHARES = (0.0, 0.1, 0.2, 0.3)
PROBLEMS = ("digits", "cifar10", "formula")
CONTENDERS = ("generative", "tpe multivariate", "evolution", "random")
BUDGET = 70
CHANCE = 0.1


def with_dead(problem: Problem, share: float) -> Problem:
    """The problem where this share of the trainings dies."""
    dead: set[str] = set()

    def observe(architecture: Architecture, rng: np.random.Generator) -> float:
        if rng.random() < share:
            dead.add(architecture.id)
            return CHANCE
        return problem.observe(architecture, rng)

    def truth(architecture: Architecture) -> float:
        return CHANCE if architecture.id in dead else problem.truth(architecture)

    return replace(problem, observe=observe, truth=truth)


def _run(key: str, contender: str, share: float, seed: int) -> float:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    compare.BUDGET = BUDGET
    with threadpoolctl.threadpool_limits(1):
        problem = with_dead(compare._problem(key), share)
        return compare.run(problem, contender, seed).volumes[-1]


def main() -> None:
    """Print the hypervolume after 70 networks, by the share that dies."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    cells = [(key, who, share) for key in PROBLEMS for who in CONTENDERS for share in SHARES]
    wanted = [(*cell, seed) for cell in cells for seed in range(options.seeds)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        found = list(track(pool.map(_run, *zip(*wanted, strict=True)), "runs", total=len(wanted)))
    table = np.median(np.reshape(found, (-1, options.seeds)), axis=1).reshape(-1, len(SHARES))
    print(f"| | | {' | '.join(f'{share:.0%}' for share in SHARES)} |\n| --- {'| --- ' * 5}|")
    for (key, who, _), row in zip(cells[:: len(SHARES)], table, strict=True):
        print(f"| {key} | {who} | {' | '.join(f'{value:.4f}' for value in row)} |")


if __name__ == "__main__":
    main()
