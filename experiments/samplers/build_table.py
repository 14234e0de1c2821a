"""Train every network of a small space, with two seeds each: the truth that samplers compete on.

The table has one line a network: its parameters, its cost, and for each seed how many of the
held-out images were right after each pass. Stopped and started again it goes on.

    python experiments/samplers/build_table.py            # about an hour on one core
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from collabdesign import DesignSpace, cost_of, load_requirements
from collabdesign.design.architecture import Architecture
from collabdesign.evaluate.data import load_data
from collabdesign.evaluate.network import build_network
from collabdesign.evaluate.training import initialise, keep_freed_memory, seed_of, train
from collabdesign.explore.proposal_space import SuggestedSpace, every

HERE = Path(__file__).parent
TABLE = HERE / "digits.csv"
SEEDS = (0, 1)
COLUMNS = ("params", "macs", "parameters", "right_0", "right_1")


def all_networks(space: DesignSpace) -> dict[str, tuple[dict[str, Any], Architecture]]:
    """Each network once, by its id, with the first parameter set that spells it."""
    found: dict[str, tuple[dict[str, Any], Architecture]] = {}
    for params in every(SuggestedSpace(space.suggest)):
        architecture = space.decode(params)
        found.setdefault(architecture.id, (params, architecture))
    return found


def main() -> None:
    """Fill the table."""
    keep_freed_memory()
    torch.set_num_threads(1)
    requirements = load_requirements(HERE / "requirements.yaml")
    networks = all_networks(DesignSpace(requirements))
    data = load_data(requirements.data)
    images = len(data.select_labels)
    done = 0
    if TABLE.exists():
        done = len(TABLE.read_text().splitlines()) - 1
    with TABLE.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not done:
            writer.writerow(COLUMNS)
        for params, architecture in track(list(networks.values())[done:], "networks"):
            curves = []
            for seed in SEEDS:
                network = build_network(architecture)
                start = seed_of(architecture.id, seed)
                initialise(network, start)
                result = train(
                    network,
                    data,
                    requirements.search.proxy,
                    seed=start,
                    device=torch.device("cpu"),
                )
                curves.append(" ".join(str(round(p.accuracy * images)) for p in result.curve))
            cost = cost_of(architecture)
            values = [params.get(name, "") for name in DesignSpace(requirements).parameters]
            writer.writerow([" ".join(map(str, values)), cost.macs, cost.params, *curves])
            file.flush()


if __name__ == "__main__":
    main()
