"""Hypervolume against trained networks: the generative sampler, its parts, and the others.

Every contender sees one training's accuracy of each network it chooses; the hypervolume is
taken on the truth. A network that was trained before is answered from the store and does not
count. Under a budget the others may ask 20 times for a network that fits, each refusal told
with its constraint, then take a random one that does.

    python experiments/samplers/compare.py --seeds 20
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from problems import DIRECTIONS, Problem, formula_problem, table_problem

from collabdesign.explore.gain import not_dominated
from collabdesign.explore.generator import (
    _CLOSER,
    _OFFSPRING,
    _ROUNDS,
    GenerativeSampler,
    _Pool,
)
from collabdesign.explore.proposals import distributions_of

BUDGET = 200
POINTS = (25, 50, 70, 100, 200)
MARKS = sorted({*POINTS, *range(10, BUDGET + 1, 10)})
ASKS = 20


class ParetoEvolution(BaseSampler):
    """Change one parameter, or a few, of a random member of the front."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self._problem = problem
        self._rng = np.random.default_rng(seed)
        self._chosen: dict[str, Any] = {}

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        done = [each for each in study.get_trials(deepcopy=False) if each.values]
        space = self._problem.space
        if len(done) < 10:
            self._chosen = space.sample(self._rng)
        else:
            best = study.best_trials
            parent = best[int(self._rng.integers(len(best)))]
            rate = 1.5 / len(parent.params)
            self._chosen = space.vary(parent.params, self._rng, rate)
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        return {}

    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        return self._chosen[name]


def generative(
    problem: Problem, seed: int, kind: type[GenerativeSampler] = GenerativeSampler
) -> BaseSampler:
    """One that knows the space, its limit and its costs."""
    return kind(
        space=problem.space.suggest,
        static_violations=problem.violations,
        static_objectives=problem.static_objectives,
        seed=seed,
    )


class GeneratorAlone(GenerativeSampler):
    """Offspring of the front as it was seen, with no prediction of what they are worth."""

    def _most_promising(
        self,
        pool: Any,
        parents: Any,
        belief: Any,
        rng: np.random.Generator,
        to_beat: Any = (),
    ) -> Any:
        history = self._history
        assert history is not None
        losses = np.stack([each.losses for each in history.observations])
        front = [history.observations[place].params for place in not_dominated(losses)]
        generator = self._require_generator()
        for _ in range(20):
            found = _Pool(history.taken).add(generator.offspring(front, 4, rng))
            if found:
                return found[0]
        return None


class InquisitorAlone(GenerativeSampler):
    """The best, as predicted, of as many proposals drawn from all over what fits."""

    def _most_promising(
        self,
        pool: Any,
        parents: Any,
        belief: Any,
        rng: np.random.Generator,
        to_beat: Any = (),
    ) -> Any:
        pool.add(self._require_generator().fresh(_OFFSPRING + _ROUNDS * _CLOSER, rng))
        if not pool.params:
            return None
        return pool.params[int(np.argmax(belief.gains(pool.params, to_beat=to_beat)))]


CONTENDERS: dict[str, Callable[[Problem, int], BaseSampler]] = {
    "generative": generative,
    "generator alone": lambda problem, seed: generative(problem, seed, GeneratorAlone),
    "inquisitor alone": lambda problem, seed: generative(problem, seed, InquisitorAlone),
    "random": lambda _, seed: RandomSampler(seed=seed),
    "tpe": lambda _, seed: TPESampler(seed=seed),
    "tpe multivariate": lambda _, seed: TPESampler(
        seed=seed, multivariate=True, group=True, warn_independent_sampling=False
    ),
    "nsga2": lambda _, seed: NSGAIISampler(seed=seed, population_size=20),
    "evolution": ParetoEvolution,
}

PROBLEMS: dict[str, Callable[[], Problem]] = {
    "digits": lambda: table_problem("digits", None),
    "digits20": lambda: table_problem("digits", 0.2),
    "cifar10": lambda: table_problem("cifar10", None),
    "cifar10-20": lambda: table_problem("cifar10", 0.2),
    "formula": lambda: formula_problem(None),
    "formula2": lambda: formula_problem(0.02),
}


def run(problem: Problem, contender: str, seed: int) -> tuple[list[float], int, float]:
    """Hypervolume after each trained network, proposals over the limit, seconds of asking."""
    rng = np.random.default_rng([seed, 7])
    sampler = CONTENDERS[contender](problem, seed)
    study = optuna.create_study(directions=list(DIRECTIONS), sampler=sampler)
    trained: dict[str, tuple[float, ...]] = {}
    truths: list[tuple[float, ...]] = []
    volumes: list[float] = []
    broken, seconds, asked = 0, 0.0, 0
    while len(truths) < BUDGET:
        started = time.perf_counter()
        trial = study.ask()
        params = problem.space.suggest(trial)
        seconds += time.perf_counter() - started
        asked += 1
        architecture, macs, count = problem.look(params)
        fits = problem.fits(params)
        new = architecture.id not in trained
        if not (fits and new):
            broken += not fits
            if fits:
                study.tell(trial, trained[architecture.id])
            else:
                trial.set_constraint("macs", problem.violations(params)[0])
                study.tell(trial, state=TrialState.PRUNED)
            if asked < ASKS:
                continue
            while not (fits and new):
                params = problem.space.sample(rng)
                architecture, macs, count = problem.look(params)
                fits, new = problem.fits(params), architecture.id not in trained
            trial = None
        asked = 0
        values = (problem.observe(architecture, rng), float(macs), float(count))
        trained[architecture.id] = values
        met = {"macs": problem.violations(params)[0]} if problem.limit else {}
        if trial is None:
            study.add_trial(
                optuna.trial.create_trial(
                    values=list(values),
                    params=dict(params),
                    distributions=distributions_of(problem.space, params),
                    constraints=met,
                )
            )
        else:
            for name, value in met.items():
                trial.set_constraint(name, value)
            study.tell(trial, list(values))
        truths.append((problem.truth(architecture), float(macs), float(count)))
        if len(truths) in MARKS:
            volumes.append(problem.scale.hypervolume(truths))
    return volumes, broken, seconds / BUDGET


def main() -> None:
    """Run, print a table, write the curves."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS))
    parser.add_argument("--problems", nargs="*", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    results: dict[str, Any] = {}
    for key in options.problems:
        problem = PROBLEMS[key]()
        print(f"\n{problem.name}", flush=True)
        for contender in options.only:
            curves, broken, asks = [], 0, []
            for seed in range(options.first, options.first + options.seeds):
                volumes, over, seconds = run(problem, contender, seed)
                curves.append(volumes)
                broken += over
                asks.append(seconds)
            results[f"{key}/{contender}"] = {"curves": curves, "broken": broken}
            table = np.array(curves)
            cells = [
                f"{np.median(table[:, MARKS.index(at)]):.4f}"
                f" ({np.quantile(table[:, MARKS.index(at)], 0.25):.4f}"
                f" {np.quantile(table[:, MARKS.index(at)], 0.75):.4f})"
                for at in POINTS
            ]
            print(
                f"  {contender:18}{'  '.join(cells)}  over {broken}"
                f"  ask {1e3 * statistics.median(asks):.0f} ms",
                flush=True,
            )
    if options.out:
        options.out.write_text(json.dumps({"marks": MARKS, "results": results}))


if __name__ == "__main__":
    main()
