"""Networks an hour of two workers with a thread each, beside one worker with two threads.

Both train the same candidates, drawn at random within the limits, so that a proposal does not
depend on who is done first. They take turns, and the order changes from pair to pair, so that
what else runs on the machine falls on both. Counted from the first claim to the last candidate
finished: the time in which processes start is left out, and that in which one worker has nothing
left to do is not.

    python experiments/workers_speed.py --repetitions 5
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
from contextlib import closing
from pathlib import Path

import torch
from collabdesign.explore.search import search

from collabdesign.design.files.reading import load_requirements
from collabdesign.design.requirements import Requirements
from collabdesign.evaluate.memory import keep_freed_memory
from collabdesign.explore.begin import Prepared, prepare
from collabdesign.explore.record import DATABASE, read_record

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
        first = load_requirements(arguments.file, overrides)
        prepared = prepare(first, Path(folder) / "none", device="cpu")
        for repetition in range(arguments.repetitions):
            # Other candidates each time.
            requirements = load_requirements(
                arguments.file,
                (*overrides, f"search.seed={repetition}", f"search.trials={arguments.trials}"),
            )
            rates = {}
            for workers in (1, CORES) if repetition % 2 else (CORES, 1):
                run_dir = Path(folder) / f"{repetition}-{workers}"
                rates[workers] = networks_an_hour(requirements, prepared, run_dir, workers)
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


def networks_an_hour(
    requirements: Requirements, prepared: Prepared, run_dir: Path, workers: int
) -> float:
    """Of one search, from its first claim to its last candidate."""
    torch.set_num_threads(CORES)
    search(requirements, run_dir, workers=workers, worker_threads=1, prepared=prepared)
    record = read_record(run_dir)
    macs = statistics.mean(each.cost.macs for each in record.finished)
    with closing(sqlite3.connect(run_dir / DATABASE)) as study:
        query = (
            "SELECT (julianday(max(datetime_complete)) - julianday(min(datetime_start))) * 24 "
            "FROM trials WHERE state != 'FAIL'"
        )
        (hours,) = study.execute(query).fetchone()
    print(f"  {workers} workers: {len(record.finished)} candidates of {macs:,.0f} MACs on average")
    return len(record.finished) / float(hours)


if __name__ == "__main__":
    main()
