"""Networks an hour of two workers with a thread each, beside one worker with two threads.

Both train the same candidates, drawn at random within the limits, so that a proposal does not
depend on who is done first. They take turns, and the order changes from pair to pair, so that
what else runs on the machine falls on both. Counted from the first step of a training to the end
of the last one: the time in which processes start is left out, and that in which one worker has
nothing left to do is not.

    python experiments/workers_speed.py --repetitions 5
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
from contextlib import closing
from pathlib import Path

from collabdesign import Machine, search
from collabdesign.design.files.reading import load_requirements
from collabdesign.design.requirements import Requirements
from collabdesign.evaluate.memory import keep_freed_memory
from collabdesign.explore.study import DATABASE

FILE = Path(__file__).parent / "cifar10" / "requirements.yaml"
CORES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--set", dest="overrides", action="append", metavar="KEY=VALUE")
    parser.add_argument("--trials", type=int, default=8, help="candidates a search")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    overrides = ("limits.macs=1M", "search.sampler=random", *(arguments.overrides or ()))
    keep_freed_memory()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for repetition in range(arguments.repetitions):
            # Other candidates each time.
            requirements = load_requirements(
                arguments.file,
                (*overrides, f"search.seed={repetition}", f"search.trials={arguments.trials}"),
            )
            rates = {}
            for workers in (1, CORES) if repetition % 2 else (CORES, 1):
                run_dir = Path(folder) / f"{repetition}-{workers}"
                rates[workers] = networks_an_hour(requirements, run_dir, workers)
            ratios.append(rates[CORES] / rates[1])
            print(
                f"seed {repetition}: {rates[CORES]:,.0f} networks an hour with {CORES} workers, "
                f"{rates[1]:,.0f} with one on {CORES} threads, ratio {ratios[-1]:.2f}",
                flush=True,
            )
    print(
        f"ratio: median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), "
        f"n = {len(ratios)}"
    )


def networks_an_hour(requirements: Requirements, run_dir: Path, workers: int) -> float:
    """Of one search, from where its first training begins to where the last one ends."""
    machine = Machine(device="cpu", workers=workers, threads=CORES // workers)
    finished = search(requirements, run_dir, machine=machine).finished
    macs = statistics.mean(each.cost.macs for each in finished)
    with closing(sqlite3.connect(run_dir / DATABASE)) as study:
        query = "SELECT number, julianday(datetime_complete) * 24 FROM trials"
        ends = dict(study.execute(query).fetchall())
    began = min(ends[each.number] - each.seconds / 3600 for each in finished)
    print(f"  {workers} workers: {len(finished)} candidates of {macs:,.0f} MACs on average")
    return len(finished) / (max(ends[each.number] for each in finished) - began)


if __name__ == "__main__":
    main()
