"""The front after full training with cheaper proxies and without, at equal wall time.

Each arm searches for the same seconds with the same seeds and otherwise the same file; the time
counts from the first proposal on. Then each chooses and fully trains its family by the same rule,
on all images, outside of that time. Compared is the hypervolume of the families, on the scale of
the report, by accuracy on the held-out part (mean of the seeds) and on test (of the delivered
seed).

- ``all``: proxies as the file says, on all images, begun from nothing.
- ``part``: proxies on ``--images`` of the train part.
- ``inherit``: a proxy begins with a similar network's weights where there is one.
- ``both``: the last two.

The arms take turns, another one first with each seed, so that a machine that gets busier favours
none. The same command goes on where it was stopped; ``results.jsonl`` in the run folder has a line
for each search whose family is trained.

    python experiments/proxies.py experiments/cifar10/requirements.yaml runs/proxies --images 1k \
        --seconds 900 --seeds 3
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import collabdesign
from collabdesign import DesignSpace, load_requirements
from collabdesign.deliver.certificate import Certificate
from collabdesign.design.requirements import Requirements
from collabdesign.errors import NothingFits
from collabdesign.explore.feasible import scale_of
from collabdesign.explore.front import Scale, values_of
from collabdesign.explore.progress import Progress
from collabdesign.explore.study import read_record
from collabdesign.files import write_json
from collabdesign.pipeline import Machine, RunEvent

PART, INHERIT = "search.proxy.images={images}", "search.proxy.inherit=true"
ARMS: dict[str, tuple[str, ...]] = {
    "all": (),
    "part": (PART,),
    "inherit": (INHERIT,),
    "both": (PART, INHERIT),
}
RESULTS = "results.jsonl"

# No search comes so far in its time.
ENDLESS = "search.trials=100000"


class TimeIsUp(Exception):
    """Raised by the clock, through the search."""


class Clock:
    """Stops a search after so many seconds, those of earlier processes counted.

    A kill loses the second that it falls in.
    """

    def __init__(self, file: Path, seconds: float) -> None:
        self._file = file
        self._seconds = seconds
        self.spent: float = json.loads(file.read_text())["seconds"] if file.is_file() else 0.0
        self._saved, self._last = self.spent, 0.0

    def hear(self, event: RunEvent) -> None:
        """Time counts between two events of the search's progress."""
        if not isinstance(event, Progress):
            return
        now = time.monotonic()
        if self._last:
            self.spent += now - self._last
        self._last = now
        is_over = self.spent >= self._seconds
        if is_over or self.spent - self._saved >= 1:
            write_json(self._file, {"seconds": self.spent})
            self._saved = self.spent
        if is_over:
            raise TimeIsUp


def main() -> None:
    """Search with every arm and seed, train the families, print the volumes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("requirements", type=Path)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--images", default="1k", help="of proxies on a part, such as 10k")
    parser.add_argument("--seconds", type=float, default=900, help="of searching, each")
    parser.add_argument("--seeds", type=int, default=3, help="searches of each arm")
    parser.add_argument("--first", type=int, default=0, help="seed")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--workers", type=int)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    arguments = parser.parse_args()
    arguments.run_dir.mkdir(parents=True, exist_ok=True)
    results = arguments.run_dir / RESULTS
    jobs = []
    for place, seed in enumerate(range(arguments.first, arguments.first + arguments.seeds)):
        turn = place % len(arguments.arms)
        jobs += [(arm, seed) for arm in arguments.arms[turn:] + arguments.arms[:turn]]
    for arm, seed in jobs:
        if (arm, seed) in {(each["arm"], each["seed"]) for each in read(results)}:
            continue
        keys = [each.format(images=arguments.images) for each in ARMS[arm]]
        overrides = (*arguments.overrides, *keys, ENDLESS, f"search.seed={seed}")
        requirements = load_requirements(arguments.requirements, overrides)
        run_dir = arguments.run_dir / f"{arm}-{seed}"
        found = compared(
            requirements, run_dir, arguments.seconds, Machine(workers=arguments.workers)
        )
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"arm": arm, "seed": seed, "keys": keys, **found}) + "\n")
    report(read(results), arguments.arms)


def read(results: Path) -> list[dict[str, Any]]:
    """What is done."""
    lines = results.read_text(encoding="utf-8").splitlines() if results.is_file() else []
    return [json.loads(line) for line in lines]


def compared(
    requirements: Requirements, run_dir: Path, seconds: float, machine: Machine
) -> dict[str, Any]:
    """One search and its family, as a line of the results."""
    run_dir.mkdir(exist_ok=True)
    clock = Clock(run_dir / "clock.json", seconds)
    ended = ""
    if clock.spent < seconds:
        try:
            collabdesign.search(requirements, run_dir, machine=machine, on_event=clock.hear)
        except TimeIsUp:
            pass
        except NothingFits as error:
            ended = str(error).splitlines()[0]
    members = collabdesign.family(run_dir, machine=machine)
    record = read_record(run_dir)
    scale = scale_of(DesignSpace(requirements), requirements)
    held_out = [statistics.fmean(each.select_accuracies) for each in members]
    test = [each.test_accuracy for each in members]
    return {
        "seconds": round(clock.spent, 1),
        "networks": len(record.finished),
        "trained": len(record.trained),
        "inherited": sum(each.parent is not None for each in record.finished),
        "held_out": volume(scale, members, held_out),
        "test": volume(scale, members, test),
        "members": [
            {"macs": each.cost.macs, "params": each.cost.params, "held_out": mean, "test": accuracy}
            for each, mean, accuracy in zip(members, held_out, test, strict=True)
        ],
        "ended": ended,
        "environment": members[0].environment if members else {},
    }


def volume(scale: Scale, members: tuple[Certificate, ...], accuracies: list[float]) -> float:
    """Hypervolume of a family with these accuracies."""
    return scale.hypervolume(
        [
            values_of(scale.objectives, accuracy, each.cost)
            for accuracy, each in zip(accuracies, members, strict=True)
        ]
    )


def report(done: list[dict[str, Any]], arms: list[str]) -> None:
    """A line an arm: n, mean and range; then the differences from the first arm, seed by seed."""
    lines = {(each["arm"], each["seed"]): each for each in done}
    for arm in arms:
        mine = [each for each in done if each["arm"] == arm]
        if not mine:
            continue
        text = (
            f"{arm}: n = {len(mine)}, {statistics.fmean(e['networks'] for e in mine):.0f} networks"
        )
        for what in ("held_out", "test"):
            volumes = [each[what] for each in mine]
            text += f", {what} {statistics.fmean(volumes):.4f}"
            text += f" ({min(volumes):.4f} to {max(volumes):.4f})"
        gains = [
            f"{each['held_out'] - lines[arms[0], each['seed']]['held_out']:+.4f}"
            for each in mine
            if arm != arms[0] and (arms[0], each["seed"]) in lines
        ]
        print(
            text
            + (f"; held out beside {arms[0]}, seed by seed: {' '.join(gains)}" if gains else "")
        )


if __name__ == "__main__":
    main()
