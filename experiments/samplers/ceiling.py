"""How soon a predictor that knows all but the network in question would be there.

Each network's accuracy is predicted from both trainings of all the others of the table; then the
one with the largest expected gain in hypervolume among all is taken, again and again, the front
being that of one training. No sampler that has to learn from what it trained can be expected to
do better: what it misses is the luck of the trainings. The predictor is an ensemble of trees, or,
with ``--process``, the inquisitor's own Gaussian process.

    python experiments/samplers/ceiling.py digits
"""

from __future__ import annotations

import argparse

import numpy as np
from build_table import TABLES
from numpy.typing import NDArray
from problems import table_problem
from sklearn.ensemble import ExtraTreesRegressor

from collabdesign import cost_of
from collabdesign.sampler.axes import Axes
from collabdesign.sampler.encoding import Columns
from collabdesign.sampler.gain import expected_gain
from collabdesign.sampler.generation import Statics
from collabdesign.sampler.inquisitor import leave_one_out
from collabdesign.sampler.posterior import Posterior
from collabdesign.sampler.proposal_space import SuggestedSpace, every, key_of

Floats = NDArray[np.float64]

POINTS = (25, 50, 70, 100)


def main() -> None:
    """Print the hypervolume after so many networks."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--process", action="store_true", help="in place of trees")
    options = parser.parse_args()
    table, problem = TABLES[options.table], table_problem(options.table, None)
    many = [params for params, _ in table.networks.values()]
    architectures = [architecture for _, architecture in table.networks.values()]
    costs = [cost_of(architecture) for architecture in architectures]
    space = SuggestedSpace(table.space.suggest)
    list(every(space))  # so that it has met all distributions
    signs = np.array([-1.0, 1.0, 1.0])
    statics = Statics(None, problem.static_objectives, len(signs))
    everything = {key_of(params): params for params in many}
    axes = Axes(space.distributions, statics, signs, everything)
    rows, known = axes.place(everything.items())
    truth = np.array([problem.truth(each) for each in architectures])
    predict = by_process if options.process else by_trees
    predicted, unsure = predict(rows, axes.columns, -truth)
    error = float(np.sqrt(((predicted + truth) ** 2).mean()))
    mean = np.column_stack([predicted, known])
    deviation = np.zeros_like(mean)
    deviation[:, 0] = unsure
    bound = np.array([-0.1, *(known.max(0) + 1e-6)])
    curves = []
    for seed in range(options.seeds):
        rng = np.random.default_rng(seed)
        seen = np.array([-problem.observe(each, rng) for each in architectures])
        left, taken, volumes = list(range(len(many))), [], []
        for count in range(1, max(POINTS) + 1):
            front = np.column_stack([seen, known])[taken]
            best = int(np.argmax(expected_gain(mean[left], deviation[left], front, bound)))
            taken.append(left.pop(best))
            if count in POINTS:
                points = [(truth[at], costs[at].macs, costs[at].params) for at in taken]
                volumes.append(problem.scale.hypervolume(points))
        curves.append(volumes)
    print(
        f"{problem.name}: predicted with an error of {error:.4f}, median of {options.seeds} seeds"
    )
    for point, column in zip(POINTS, np.array(curves).T, strict=True):
        low, middle, high = np.quantile(column, (0.25, 0.5, 0.75))
        print(f"  {point:4} networks {middle:.4f} ({low:.4f}, {high:.4f})")


def by_trees(rows: Floats, columns: Columns, losses: Floats) -> tuple[Floats, Floats]:
    """What all others say of each, and how far off that is, each [n]."""
    trees = ExtraTreesRegressor(
        200, min_samples_leaf=2, bootstrap=True, oob_score=True, random_state=0
    ).fit(rows, losses)
    predicted: Floats = trees.oob_prediction_
    error = np.sqrt(((predicted - losses) ** 2).mean())
    return predicted, np.full(len(losses), error)


def by_process(rows: Floats, columns: Columns, losses: Floats) -> tuple[Floats, Floats]:
    """Likewise."""
    middle, spread = losses.mean(), losses.std()
    scaled = (losses - middle) / spread
    posterior = Posterior(rows - rows.mean(0), columns, scaled, np.zeros(len(scaled)))
    factor = posterior.factor(posterior.most_probable())
    beyond, deviation = leave_one_out(factor, scaled, np.arange(len(scaled)))
    return middle + spread * (scaled - beyond), spread * deviation


if __name__ == "__main__":
    main()
