"""What was chosen in the inquisitor, beside what was not: explanations and trees.

As it is, proposals believe one explanation (relevances and variances) after another while there
are few observations. Beside it: the most probable explanation alone, and an ensemble of trees
mixed with the process in the shares that explain most of what either did not see, as one would
expect to be worth it where structure is not smooth. (The process has its relevances from all
observations there, so that trees come in a little less often than they might.) They search the
two tables, three functions that are not smooth (drawn anew for each seed), and one function of a
single objective.

    python experiments/samplers/choices.py --seeds 12
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import compare
import numpy as np
import optuna
import threadpoolctl
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from rich.progress import track
from sklearn.ensemble import ExtraTreesRegressor

from collabdesign.explore.front import Scale
from collabdesign.sampler import acquisition
from collabdesign.sampler.encoding import Columns
from collabdesign.sampler.generator import GenerativeSampler
from collabdesign.sampler.inquisitor import Inquisitor, fit, upper_fence

Floats = NDArray[np.float64]
Space = Mapping[str, BaseDistribution]
Truth = Callable[[Sequence[int]], float]

MARKS = (25, 50, 70, 100, 200)
NOISE = 0.01
FOLDS = 3
FEWEST = 16


class TreesToo(Inquisitor):
    """With an ensemble of trees mixed in, where it takes a sixth of the squared error away."""

    def __init__(
        self, rows: Floats, columns: Columns, targets: Floats, *rest: Any, **options: Any
    ) -> None:
        super().__init__(rows, columns, targets, *rest, **options)
        self.trees: ExtraTreesRegressor | None = None
        if len(rows) < FEWEST:
            return
        told = np.minimum(targets, upper_fence(targets))
        self.trees = ExtraTreesRegressor(
            64, min_samples_leaf=2, bootstrap=True, oob_score=True, random_state=0
        ).fit(rows, told)
        inside = [np.arange(len(rows)) % FOLDS != fold for fold in range(FOLDS)]
        unseen = np.empty(len(rows))
        for seen in inside:
            part = Inquisitor(rows[seen], columns, targets[seen], *rest, **options)
            unseen[~seen] = part.predict(rows[~seen])[0]
        one, other = unseen - told, self.trees.oob_prediction_ - told
        apart = other - one
        self.share = float(np.clip((other @ apart) / max(apart @ apart, 1e-12), 0, 1))
        mixed = self.share * one + (1 - self.share) * other
        if mixed @ mixed > 0.85 * (one @ one):
            self.trees = None

    def predict(self, rows: Floats) -> tuple[Floats, Floats]:
        """Of the mixture."""
        mean, deviation = super().predict(rows)
        if self.trees is None:
            return mean, deviation
        trees = np.stack([tree.predict(rows) for tree in self.trees.estimators_])
        other, share = trees.mean(0), self.share
        variance = share * deviation**2 + (1 - share) * trees.var(0)
        variance += share * (1 - share) * (mean - other) ** 2
        return share * mean + (1 - share) * other, np.sqrt(variance)


def _choose(form: str) -> None:
    """In this process."""
    alone = form in ("most probable", "trees too")
    acquisition.fit = (  # type: ignore[attr-defined]
        (lambda *args, **options: fit(*args, **options)[:1]) if alone else fit
    )
    acquisition.Inquisitor = TreesToo if form == "trees too" else Inquisitor  # type: ignore[attr-defined]


FORMS = ("as it is", "most probable", "trees too")


# Functions that are not smooth, of choices by their places


def _pairs(rng: np.random.Generator) -> tuple[Space, Truth, Floats]:
    """Eight choices of four; each two of them add something of their own."""
    names = [f"p{number}" for number in range(8)]
    table = {two: rng.normal(size=(4, 4)) for two in itertools.combinations(range(8), 2)}
    return (
        {name: CategoricalDistribution([f"c{at}" for at in range(4)]) for name in names},
        lambda x: sum(part[x[i], x[j]] for (i, j), part in table.items()) / math.sqrt(len(table)),
        np.sort(rng.random((8, 4)), axis=1) + 0.1,
    )


def _forest(rng: np.random.Generator) -> tuple[Space, Truth, Floats]:
    """Three decision trees of depth five."""

    def grow(depth: int) -> Any:
        if not depth:
            return rng.normal()
        name = int(rng.integers(8))
        left = rng.permutation(4)[:2] if name % 2 else range(int(rng.integers(1, 4)))
        return name, set(map(int, left)), grow(depth - 1), grow(depth - 1)

    def value(tree: Any, x: Sequence[int]) -> float:
        while isinstance(tree, tuple):
            tree = tree[2] if x[tree[0]] in tree[1] else tree[3]
        return float(tree)

    trees = [grow(5) for _ in range(3)]
    choices = CategoricalDistribution([f"c{at}" for at in range(4)])
    return (
        {f"p{number}": choices if number % 2 else IntDistribution(0, 3) for number in range(8)},
        lambda x: sum(value(tree, x) for tree in trees) / math.sqrt(3),
        np.sort(rng.random((8, 4)), axis=1) + 0.1,
    )


def _cell(rng: np.random.Generator) -> tuple[Space, Truth, Floats]:
    """A cell of four nodes and six edges, as of NAS-Bench-201: only paths that are whole count."""
    worth = np.array([-3.0, 0.0, 0.7, 1.2, -0.5]) + 0.2 * rng.normal(size=5)
    paths = ((3,), (0, 4), (1, 5), (0, 2, 5))

    def truth(x: Sequence[int]) -> float:
        whole = [[x[edge] for edge in path] for path in paths if all(x[edge] for edge in path)]
        sums = [worth[path].sum() for path in whole]
        convolves = any(op in (2, 3) for op in x)
        return (
            0.8 * max(sums) + 0.3 * sum(each > 0.5 for each in sums) - (not convolves)
            if sums
            else -4.0
        )

    ops = CategoricalDistribution(["none", "skip", "conv1", "conv3", "pool"])
    costs = np.tile([0.02, 0.02, 0.3, 1.0, 0.05], (6, 1))
    return {f"edge{number}": ops for number in range(6)}, truth, costs


ROUGH = {"pairs": _pairs, "decision trees": _forest, "cell": _cell}


def _rough(kind: str, seed: int) -> list[float]:
    """Hypervolume of accuracy and cost at the marks."""
    space, score, costs = ROUGH[kind](np.random.default_rng([seed, 99]))

    def places(params: Mapping[str, Any]) -> list[int]:
        return [
            each.choices.index(params[name])
            if isinstance(each, CategoricalDistribution)
            else params[name]
            for name, each in space.items()
        ]

    def cost(x: Sequence[int]) -> float:
        return float(sum(costs[row, at] for row, at in enumerate(x)))

    def accuracy(x: Sequence[int]) -> float:
        return 0.1 + 0.85 / (1 + math.exp(-score(x) - 1 - 0.4 * math.log(cost(x))))

    rng = np.random.default_rng([seed, 7])
    scale = Scale(
        ("accuracy", "macs"),
        0.1,
        {"macs": float(costs.min(1).sum())},
        {"macs": float(costs.max(1).sum())},
    )
    study = optuna.create_study(
        directions=["maximize", "minimize"],
        sampler=GenerativeSampler(
            space=space,
            static_objectives=lambda params: [math.nan, cost(places(params))],
            seed=seed,
        ),
    )
    points, volumes = [], []
    for count in range(1, MARKS[-1] + 1):
        trial = study.ask(dict(space))
        x = places(trial.params)
        points.append((accuracy(x), cost(x)))
        seen = float(np.clip(points[-1][0] + NOISE * rng.standard_normal(), 0, 1))
        study.tell(trial, [seen, points[-1][1]])
        if count in MARKS:
            volumes.append(scale.hypervolume(points))
    return volumes


def _single(seed: int) -> list[float]:
    """The best of one smooth objective, without noise; 10 is all there is."""
    space = {
        "width": IntDistribution(1, 8),
        "depth": IntDistribution(1, 4),
        "kind": CategoricalDistribution(["a", "b", "c"]),
        "rate": FloatDistribution(1e-3, 1.0, log=True),
    }
    study = optuna.create_study(
        direction="maximize", sampler=GenerativeSampler(space=space, seed=seed)
    )
    found = []
    for _ in range(MARKS[0] + 5):
        trial = study.ask(dict(space))
        p = trial.params
        value = p["width"] + 2 * (p["kind"] == "b") - abs(math.log10(p["rate"]) + 1)
        study.tell(trial, value)
        found.append(value)
    return [max(found[:count]) for count in (15, 20, 25, 30)]


def _run(job: tuple[str, str, int]) -> list[float]:
    form, name, seed = job
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    _choose(form)
    with threadpoolctl.threadpool_limits(1):
        if name == "one objective":
            return _single(seed)
        if name in ROUGH:
            return _rough(name, seed)
        volumes = compare.run(compare.PROBLEMS[name](), "generative", seed).volumes
        return [volumes[compare.MARKS.index(mark)] for mark in MARKS]


def main() -> None:
    """Print means, and their difference to what is there with its standard error."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    problems = ("digits", "cifar10", *ROUGH, "one objective")
    jobs = [
        (form, name, seed) for name in problems for form in FORMS for seed in range(options.seeds)
    ]
    with ProcessPoolExecutor(options.jobs) as pool:
        found = dict(zip(jobs, track(pool.map(_run, jobs), "runs", len(jobs)), strict=True))
    for name in problems:
        print(f"\n{name}, after {(15, 20, 25, 30) if name == 'one objective' else MARKS}")
        here = np.array([found[FORMS[0], name, seed] for seed in range(options.seeds)])
        for form in FORMS:
            its = np.array([found[form, name, seed] for seed in range(options.seeds)])
            apart = its - here
            error = apart.std(axis=0) / math.sqrt(len(its))
            cells = [
                f"{mean:.4f} ({more:+.4f} +- {width:.4f})"
                for mean, more, width in zip(its.mean(0), apart.mean(0), error, strict=True)
            ]
            print(f"  {form:14} {'  '.join(cells)}")


if __name__ == "__main__":
    main()
