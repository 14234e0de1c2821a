"""How well the Gaussian process predicts, beside ensembles of trees, from few noisy networks.

Each sees one training of n random networks of a problem and predicts the truth of the rest;
parameters and the logarithms of the costs go in alike. Spearman's rank correlation and the
share of variance explained, dead networks left out of the latter; median over draws.

    python experiments/samplers/inquisitors.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from problems import Problem, formula_problem, table_problem
from scipy.stats import spearmanr
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor
from threadpoolctl import threadpool_limits

from collabdesign.sampler.axes import Axes
from collabdesign.sampler.encoding import Columns
from collabdesign.sampler.generation import Statics
from collabdesign.sampler.inquisitor import Inquisitor, fit
from collabdesign.sampler.proposal_space import SuggestedSpace, key_of

Floats = NDArray[np.float64]
Predict = Callable[[Floats, Columns, Floats, Floats], Floats]

PREDICTORS: dict[str, Predict] = {
    "process": lambda x, groups, y, fresh: Inquisitor(x, groups, y, fit(x, groups, y)[0]).predict(
        fresh
    )[0],
    "extra trees": lambda x, groups, y, fresh: (
        ExtraTreesRegressor(300, min_samples_leaf=2, random_state=0).fit(x, y).predict(fresh)
    ),
    "random forest": lambda x, groups, y, fresh: (
        RandomForestRegressor(300, min_samples_leaf=2, random_state=0).fit(x, y).predict(fresh)
    ),
}


def rows_of(problem: Problem, count: int) -> tuple[Floats, Columns, Floats, Floats]:
    """Encoded networks, groups of columns, one training's loss, true loss."""
    rng = np.random.default_rng(0)
    space = SuggestedSpace(problem.space.suggest)
    found = {}
    for _ in range(20 * count):
        params = space.sample(rng)
        architecture = problem.look(params)[0]
        found.setdefault(architecture.id, (params, architecture))
        if len(found) == count:
            break
    many = {key_of(params): params for params, _ in found.values()}
    signs = np.array([-1.0, 1.0, 1.0])
    statics = Statics(None, problem.static_objectives, len(signs))
    axes = Axes(space.distributions, statics, signs, many)
    seen = np.array([1 - problem.observe(each, rng) for _, each in found.values()])
    true = np.array([1 - problem.truth(each) for _, each in found.values()])
    return axes.place(many.items())[0], axes.columns, seen, true


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=10)
    options = parser.parse_args()
    for problem in (
        table_problem("digits", None),
        table_problem("cifar10", None),
        formula_problem(None),
    ):
        rows, groups, seen, true = rows_of(problem, 1200)
        print(f"\n{problem.name}: median Spearman, share explained, over {options.draws} draws")
        for count in (20, 50, 100, 200, 300):
            line = f"  {count:4} seen"
            for name, predict in PREDICTORS.items():
                ranks, shares = [], []
                for draw in range(options.draws):
                    order = np.random.default_rng(draw).permutation(len(rows))
                    known, rest = order[:count], order[count:]
                    with threadpool_limits(1):
                        got = predict(rows[known], groups, seen[known], rows[rest])
                    truth = true[rest]
                    ranks.append(spearmanr(got, truth).statistic)
                    alive = truth < np.quantile(truth, 0.99)
                    error = ((got - truth)[alive] ** 2).mean()
                    shares.append(1 - error / truth[alive].var())
                line += f"   {name} {np.median(ranks):.3f} {np.median(shares):6.3f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
