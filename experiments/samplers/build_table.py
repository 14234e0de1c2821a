"""Train every network of a small space, with two seeds each: the truth that samplers compete on.

The table has one line a network: its parameters, its cost, and for each seed how many of the
held-out images were right after each pass. Stopped and started again it goes on.

    python experiments/samplers/build_table.py digits     # about an hour on one core
    python experiments/samplers/build_table.py cifar10    # about an hour on two cores
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from collabdesign import DesignSpace, cost_of, load_requirements
from collabdesign.design.architecture import Architecture
from collabdesign.design.requirements import Requirements
from collabdesign.evaluate.data.images import load_data
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.memory import keep_freed_memory
from collabdesign.evaluate.network import build_network
from collabdesign.evaluate.seeds import seed_of
from collabdesign.evaluate.training import passes
from collabdesign.sampler.proposal_space import SuggestedSpace, every

SEEDS = (0, 1)
COLUMNS = ("params", "macs", "parameters", "right_0", "right_1")


@dataclass(frozen=True)
class Table:
    """A space and what training showed of each of its networks.

    Attributes:
        name: Of its requirements and of its results, beside this file.
        images: Held out, on which accuracy is counted.
    """

    name: str
    images: int

    @property
    def path(self) -> Path:
        """Of the results."""
        return Path(__file__).with_name(f"{self.name}.csv")

    @cached_property
    def requirements(self) -> Requirements:
        """Its space, its images and how networks of it are trained; to read a table that was
        trained the images need not be there."""
        return load_requirements(self.path.with_suffix(".yaml"), check_data=False)

    @cached_property
    def space(self) -> DesignSpace:
        """Of the requirements."""
        return DesignSpace(self.requirements)

    @cached_property
    def networks(self) -> dict[str, tuple[dict[str, Any], Architecture]]:
        """Each once, by its id, with the first parameter set that spells it."""
        found: dict[str, tuple[dict[str, Any], Architecture]] = {}
        for params in every(SuggestedSpace(self.space.suggest)):
            architecture = self.space.decode(params)
            found.setdefault(architecture.id, (params, architecture))
        return found

    def accuracies(self) -> dict[str, list[float]]:
        """Of each network, by its id, what each seed ended with; where a table is not whole
        yet, of its first ones."""
        found: dict[str, list[float]] = {}
        with self.path.open() as file:
            for key, row in zip(self.networks, csv.DictReader(file), strict=False):
                ends = [row[f"right_{seed}"].split()[-1] for seed in SEEDS]
                found[key] = [int(end) / self.images for end in ends]
        return found


TABLES = {table.name: table for table in (Table("digits", 288), Table("cifar10", 3000))}


class Trainer:
    """Trains networks of a table, in a process of its own."""

    def __init__(self, table: Table) -> None:
        keep_freed_memory()
        torch.set_num_threads(1)
        requirements = load_requirements(table.path.with_suffix(".yaml"))
        self._recipe = requirements.search.proxy
        self._data = load_data(requirements.data)
        assert len(self._data.select_labels) == table.images

    def curves(self, architecture: Architecture) -> list[str]:
        """Of each seed, held-out images that were right after each pass."""
        found = []
        for seed in SEEDS:
            network = build_network(architecture)
            start = seed_of(architecture.id, seed)
            initialise(network, start)
            made = passes(network, self._data, self._recipe, seed=start, device=torch.device("cpu"))
            images = len(self._data.select_labels)
            found.append(" ".join(str(round(each.record.accuracy * images)) for each in made))
        return found


_trainers: list[Trainer] = []


def _begin(name: str) -> None:
    _trainers.append(Trainer(TABLES[name]))


def _curves(architecture: Architecture) -> list[str]:
    return _trainers[0].curves(architecture)


def main() -> None:
    """Fill the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    table = TABLES[options.table]
    done = len(table.path.read_text().splitlines()) - 1 if table.path.exists() else 0
    networks = list(table.networks.values())[done:]
    spawn = multiprocessing.get_context("spawn")
    with (
        spawn.Pool(options.workers, _begin, (table.name,)) as pool,
        table.path.open("a", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        if not done:
            writer.writerow(COLUMNS)
        every_curve = pool.imap(_curves, [architecture for _, architecture in networks])
        for (params, architecture), curves in track(
            zip(networks, every_curve, strict=True), "networks", total=len(networks)
        ):
            cost = cost_of(architecture)
            values = [params.get(name, "") for name in table.space.parameters]
            writer.writerow([" ".join(map(str, values)), cost.macs, cost.params, *curves])
            file.flush()


if __name__ == "__main__":
    main()
