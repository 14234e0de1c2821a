"""Hypervolume against trained networks: the generative sampler, its parts, and the others.

Every contender sees one training's accuracy of each network it chooses; the hypervolume is
taken on the truth. A network that was trained before is answered from the store and does not
count. Under a budget the others may ask 20 times for a network that fits, each refusal told
with its constraint, then take a random one that does.

A search of the product begins with a network that a person drew, enqueued as trial 0.
``--starts`` says how good it is: ``none`` is enqueued, or a ``middling`` or the best (``good``)
one of 100 random networks that fit, by the hypervolume that it has alone. The 100 differ from
seed to seed and are the same for every contender.

    python experiments/samplers/compare.py --seeds 20 --starts none middling good

Each run is a line of ``results.jsonl`` as soon as it is done, so that a comparison that was broken
off goes on where it was. Runs of the generative sampler that another form of it made are made anew.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import itertools
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import threadpoolctl
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from problems import DIRECTIONS, HERE, Params, Problem, formula_problem, table_problem
from rich.progress import track

import collabdesign.sampler
from collabdesign.explore.proposals import distributions_of
from collabdesign.sampler.gain import not_dominated
from collabdesign.sampler.generator import (
    _CLOSER,
    _OFFSPRING,
    _ROUNDS,
    GenerativeSampler,
)

BUDGET = 200
POINTS = (25, 50, 70, 100, 200)
MARKS = sorted({*POINTS, *range(10, BUDGET + 1, 10)})
ASKS = 20
RESULTS = HERE / "results.jsonl"

# Place among so many random networks that fit, the best first.
DRAWN = 100
STANDING = {"none": None, "middling": DRAWN // 2, "good": 0}


class ParetoEvolution(BaseSampler):
    """Change one parameter, or a few, of a random member of the front."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self._problem = problem
        self._rng = np.random.default_rng(seed)
        self._chosen: dict[str, Any] = {}

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        # Each once: a network that was chosen again has the values that it had.
        done = {
            self._problem.look(each.params)[0].id: each
            for each in study.get_trials(deepcopy=False)
            if each.values
        }
        space = self._problem.space
        if len(done) < 10:
            self._chosen = space.sample(self._rng)
        else:
            trials = list(done.values())
            losses = np.array([each.values for each in trials]) * (-1, 1, 1)
            best = not_dominated(losses)
            parent = trials[int(best[int(self._rng.integers(len(best)))])]
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

    def _best(self, generator: Any, pool: Any, acquisition: Any, rng: np.random.Generator) -> Any:
        observations = self._history.observations
        losses = np.stack([each.losses for each in observations])
        front = [observations[place].params for place in not_dominated(losses)]
        for _ in range(20):
            found = generator.offspring(front, 4, rng, self._history.taken)
            if found:
                return next(iter(found.values()))
        return None


class InquisitorAlone(GenerativeSampler):
    """The best, as predicted, of as many proposals from all over what fits."""

    def _best(self, generator: Any, pool: Any, acquisition: Any, rng: np.random.Generator) -> Any:
        taken = self._history.taken | pool.keys()
        size, all_over = _OFFSPRING + _ROUNDS * _CLOSER, list(generator.archive.values())
        pool = pool | generator.offspring(all_over, size, rng, taken)
        many = list(pool.values())
        return many[int(np.argmax(acquisition.gains(pool)))] if many else None


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

OURS = frozenset({"generative", "generator alone", "inquisitor alone"})
PROBLEMS: dict[str, Callable[[], Problem]] = {
    "digits": lambda: table_problem("digits", None),
    "digits20": lambda: table_problem("digits", 0.2),
    "cifar10": lambda: table_problem("cifar10", None),
    "cifar10-20": lambda: table_problem("cifar10", 0.2),
    "formula": lambda: formula_problem(None),
    "formula2": lambda: formula_problem(0.02),
}


@dataclass(frozen=True)
class Run:
    """One search by one sampler.

    Attributes:
        form: Of the sampler's code where it is ours, else empty.
        volumes: Hypervolume after so many trained networks, as ``MARKS`` has them.
        over: Proposals over the limit.
        ask: Mean seconds of asking for a proposal, for each trained network.
        start: Which network was enqueued, one of ``STANDING``.
        beaten: At each mark, by how much the network of the best seen accuracy among those that
            cost no more than the enqueued one is truly more accurate; empty where none was.
    """

    problem: str
    contender: str
    seed: int
    form: str
    volumes: list[float]
    over: int
    ask: float
    start: str = "none"
    beaten: list[float] = field(default_factory=list)


def form_of(contender: str) -> str:
    """Digest of the code that a contender's proposals come from, where it is ours; comments and
    docstrings do not count."""
    if contender not in OURS:
        return ""
    digest = hashlib.sha256()
    for path in sorted(Path(collabdesign.sampler.__path__[0]).glob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
                node
            ):
                node.body = node.body[1:]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:12]


def enqueued(problem: Problem, start: str, seed: int) -> Params | None:
    """The network that a person would have drawn, of that standing."""
    standing = STANDING[start]
    if standing is None:
        return None
    rng = np.random.default_rng([seed, 11])
    found: dict[str, tuple[float, Params]] = {}
    while len(found) < DRAWN:
        params = problem.space.sample(rng)
        if problem.fits(params):
            architecture, macs, count = problem.look(params)
            values = (problem.truth(architecture), float(macs), float(count))
            found[architecture.id] = problem.scale.hypervolume([values]), params
    return sorted(found.values(), key=lambda each: -each[0])[standing][1]


def beaten_by(observed: Sequence[tuple[float, ...]], truths: Sequence[tuple[float, ...]]) -> float:
    """Of the networks that cost no more than the first one, by how much the one of the best seen
    accuracy is truly more accurate."""
    first = truths[0]
    no_dearer = [
        place
        for place, each in enumerate(truths)
        if all(cost <= its for cost, its in zip(each[1:], first[1:], strict=True))
    ]
    best = max(no_dearer, key=lambda place: observed[place][0])
    return truths[best][0] - first[0]


def run(problem: Problem, contender: str, seed: int, start: str = "none") -> Run:
    """One search."""
    rng = np.random.default_rng([seed, 7])
    sampler = CONTENDERS[contender](problem, seed)
    study = optuna.create_study(directions=list(DIRECTIONS), sampler=sampler)
    drawn = enqueued(problem, start, seed)
    if drawn is not None:
        study.enqueue_trial(dict(drawn))
    trained: dict[str, tuple[float, ...]] = {}
    truths: list[tuple[float, ...]] = []
    volumes: list[float] = []
    beaten: list[float] = []
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
            volumes.append(round(problem.scale.hypervolume(truths), 5))
            if drawn is not None:
                beaten.append(round(beaten_by(list(trained.values()), truths), 5))
    return Run(problem.name, contender, seed, "", volumes, broken, seconds / BUDGET, start, beaten)


@cache
def _problem(key: str) -> Problem:
    return PROBLEMS[key]()


def _run(key: str, contender: str, seed: int, start: str, form: str) -> Run:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    with threadpoolctl.threadpool_limits(1):
        done = run(_problem(key), contender, seed, start)
    _problem(key).forget()
    return replace(done, problem=key, form=form)


def read(path: Path) -> list[Run]:
    """Runs that are still of today's form."""
    if not path.exists():
        return []
    # The last line is not whole where a comparison was killed.
    lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
    runs = [Run(**json.loads(line)) for line in lines]
    return [each for each in runs if each.form == form_of(each.contender)]


def show(runs: Iterable[Run]) -> None:
    """Medians and quartiles, one line for each contender; of a search with an enqueued network also
    by how much it was beaten at no more cost."""
    runs = list(runs)
    for key, start in itertools.product(PROBLEMS, STANDING):
        here = [each for each in runs if (each.problem, each.start) == (key, start)]
        if not here:
            continue
        began = "" if start == "none" else f", a {start} network enqueued"
        print(f"\n{_problem(key).name}{began}")
        for contender in CONTENDERS:
            its = [each for each in here if each.contender == contender]
            if not its:
                continue
            line = f"| {contender} | {_cells([each.volumes for each in its])} | "
            if start != "none":
                line += f"{_cells([each.beaten for each in its])} | "
            print(
                f"{line}{sum(each.over for each in its):,} | "
                f"n={len(its)}, {1e3 * statistics.median(each.ask for each in its):.0f} ms |"
            )


def _cells(rows: Sequence[Sequence[float]]) -> str:
    """Median and quartiles at each of ``POINTS``."""
    table = np.array(rows)[:, [MARKS.index(at) for at in POINTS]]
    quartiles = np.quantile(table, (0.25, 0.5, 0.75), axis=0).T
    return " | ".join(f"{m:.4f} ({a:.4f}, {b:.4f})" for a, m, b in quartiles)


def main() -> None:
    """Run what is not there yet, and print a table of all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--problems", nargs="*", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--starts", nargs="*", choices=STANDING, default=["none"])
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    known = {
        (each.problem, each.contender, each.seed, each.start): each for each in read(options.out)
    }
    wanted = list(itertools.product(options.problems, options.only, seeds, options.starts))
    with ProcessPoolExecutor(options.jobs) as pool, options.out.open("a") as out:
        # What is imported by now runs to the end, whatever becomes of the files.
        forms = {contender: form_of(contender) for contender in options.only}
        waiting = [pool.submit(_run, *each, forms[each[1]]) for each in wanted if each not in known]
        for future in track(as_completed(waiting), "runs", total=len(waiting)):
            done = future.result()
            known[done.problem, done.contender, done.seed, done.start] = done
            out.write(json.dumps(asdict(done)) + "\n")
            out.flush()
    show(known[each] for each in wanted)


if __name__ == "__main__":
    main()
