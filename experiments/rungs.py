"""What stopping proxies early saves, and what it costs, on curves that are stored.

Searches of a fixed number of networks run on the table of `samplers/build_table.py`, with and
without stopping, by one rule of proposals: half at random, half a neighbour of the front so far
(one or two parameters changed). A search sees the curves of one training of each network, in
turn of the first and the second. Its result is judged by the mean of both: the hypervolume of
what it trained to the end, accuracy scaled from chance to 1, costs in logarithm from the table's
smallest to its largest. What was stopped counts nothing.

    python experiments/rungs.py                # 200 networks, 20 seeds, half a minute
    python experiments/rungs.py --trials 60
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from collabdesign.explore.front import Scale, front
from collabdesign.explore.rungs import FullCurve, Rungs

# Held-out images of each table of `samplers/build_table.py`.
SELECT_IMAGES = {"digits": 288, "cifar10": 3000}
CLASSES = 10
OBJECTIVES = ("accuracy", "macs", "params")


@dataclass(frozen=True)
class Table:
    """All networks of a small space.

    Attributes:
        images: Held out, on which accuracy is counted.
        curves: Accuracy of network, training, epoch; 0 to 1.
        costs: Macs and params of each.
        neighbours: Of each, the places of those that differ in one or two parameters.
    """

    images: int
    curves: NDArray[np.float64]
    costs: NDArray[np.float64]
    neighbours: list[NDArray[np.intp]]

    @property
    def scale(self) -> Scale:
        """What the hypervolume is a share of."""
        low, high = self.costs.min(0), self.costs.max(0)
        names = OBJECTIVES[1:]
        return Scale(
            OBJECTIVES,
            1 / CLASSES,
            dict(zip(names, low, strict=True)),
            dict(zip(names, high, strict=True)),
        )


@dataclass(frozen=True)
class Found:
    """What one search came to.

    Attributes:
        judged: Hypervolume by the mean of both trainings, 0 to 1.
        seen: By the training that the search saw.
        saved: Share of the epochs that were not trained.
        full: Networks trained to the end.
    """

    judged: float
    seen: float
    saved: float
    full: int


def load(name: str) -> Table:
    """Read what `samplers/build_table.py` wrote."""
    path = Path(__file__).parent / "samplers" / f"{name}.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    curves = [[row["right_0"].split(), row["right_1"].split()] for row in rows]
    params = np.array([row["params"].split(" ") for row in rows])
    apart = [(params != each).sum(1) for each in params]
    return Table(
        SELECT_IMAGES[name],
        np.array(curves, dtype=float) / SELECT_IMAGES[name],
        np.array([[row["macs"], row["parameters"]] for row in rows], dtype=float),
        [np.flatnonzero((each > 0) & (each <= 2)) for each in apart],
    )


def search(table: Table, trials: int, seed: int, *, stops: bool, evolves: bool) -> Found:
    """One search."""
    rng = np.random.default_rng(seed)
    seen, costs = table.curves[:, seed % 2], table.costs
    epochs = seen.shape[1]
    untried = np.ones(len(seen), dtype=bool)
    # Both arms of a seed meet chance alike: the same coins, and the same order of networks.
    order, evolving, parent = rng.permutation(len(seen)), rng.random(trials), rng.random(trials)
    rank = np.argsort(order)
    places: list[int] = []
    full: list[FullCurve] = []
    parents: list[int] = []
    trained = 0
    for number in range(trials):
        near = np.array([], dtype=np.intp)
        if evolves and parents and evolving[number] < 0.5:
            near = table.neighbours[parents[int(parent[number] * len(parents))]]
            near = near[untried[near]]
        pool = near if len(near) else np.flatnonzero(untried)
        place = int(pool[np.argmin(rank[pool])])
        untried[place] = False
        curve, cost = tuple(seen[place]), tuple(costs[place])
        rungs = Rungs(tuple(full), table.images)
        stopped_after = next(
            # The first is the prototype's default in a search, which is never stopped.
            (e for e in range(1, epochs) if stops and number and rungs.verdict(curve[:e], cost)),
            None,
        )
        trained += stopped_after or epochs
        if stopped_after is None:
            places.append(place)
            full.append(FullCurve(number, cost, curve))
            values = np.column_stack([seen[places, -1], costs[places]])
            parents = [places[each] for each in front(table.scale.losses(values))]
    judged = np.column_stack([table.curves[places, :, -1].mean(1), costs[places]])
    return Found(
        table.scale.hypervolume(judged),
        table.scale.hypervolume(np.column_stack([seen[places, -1], costs[places]])),
        1 - trained / (trials * epochs),
        len(places),
    )


def main() -> None:
    """Print both arms side by side."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", choices=SELECT_IMAGES, default="digits")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--random", action="store_true", help="no neighbours of the front")
    asked = parser.parse_args()
    table = load(asked.table)
    everything = np.column_stack([table.curves[:, :, -1].mean(1), table.costs])
    print(f"{len(table.costs)} networks, hypervolume {table.scale.hypervolume(everything):.4f}")
    arms = {
        stops: [
            search(table, asked.trials, seed, stops=stops, evolves=not asked.random)
            for seed in range(asked.seeds)
        ]
        for stops in (False, True)
    }
    print(f"{asked.trials} trials, median of {asked.seeds} seeds (lowest to highest)")
    print("               hypervolume                as the search saw it     epochs saved")
    for stops, name in ((False, "without"), (True, "with stopping")):
        found = arms[stops]
        columns = [[getattr(each, key) for each in found] for key in ("judged", "seen", "saved")]
        words = [f"{np.median(c):.4f} ({min(c):.4f} to {max(c):.4f})" for c in columns]
        full = np.median([each.full for each in found])
        print(f"{name:14} {'   '.join(words)}   {full:.0f} trained to the end")
    without, stopping = (np.array([each.judged for each in arms[stops]]) for stops in arms)
    print(
        f"ratio of the median hypervolumes {np.median(stopping) / np.median(without):.4f}, "
        f"median of the ratios {np.median(stopping / without):.4f}"
    )


if __name__ == "__main__":
    main()
