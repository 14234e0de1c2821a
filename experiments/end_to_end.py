"""The whole search beside random search with full proxies, at equal wall time.

The whole (generative sampler, early stopping, a worker a core) searches for as many trials as
the file asks; then random search, with every proxy trained to its end by one worker with as many
threads, has the same wall time, starting and reading the pictures included. Both are then stopped
as Ctrl-C would, and both choose and fully train a family by the same rule. Compared is the
hypervolume of the two families, on the scale of the report, by accuracy on the held-out part
(mean of the seeds) and on test (of the delivered seed).

    python experiments/end_to_end.py experiments/cifar10/requirements.yaml runs/end-to-end
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from collabdesign import DesignSpace, load_requirements
from collabdesign.deliver.certificate import read_certificate
from collabdesign.errors import InputError
from collabdesign.explore.feasible import scale_of
from collabdesign.explore.front import Scale, values_of
from collabdesign.explore.study import has_study, read_record

CORES = os.cpu_count() or 1
ARMS = {
    "whole": ["--workers", str(CORES), "--threads", "1"],
    "random": ["--workers", "1", "--threads", str(CORES)],
}
WHOLE = ("search.sampler=generative", "search.early_stopping=true")
RANDOM = ("search.sampler=random", "search.early_stopping=false", "search.trials=100000")


def main() -> None:
    """Search twice, train both families, print both volumes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("requirements", type=Path)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=1, help="searches of either kind")
    parser.add_argument("--first", type=int, default=0, help="seed")
    arguments = parser.parse_args()
    # A command that a shell started in the background ignores it, and its children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    first = load_requirements(arguments.requirements, arguments.overrides)
    scale = scale_of(DesignSpace(first), first)
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        overrides = (*arguments.overrides, f"search.seed={seed}")
        folders = {arm: arguments.run_dir / f"{arm}-{seed}" for arm in ARMS}
        whole = _command(arguments.requirements, folders["whole"], "whole", (*overrides, *WHOLE))
        seconds = _searched(whole, folders["whole"], trials=first.search.trials)
        without = _command(
            arguments.requirements, folders["random"], "random", (*overrides, *RANDOM)
        )
        _searched(without, folders["random"], seconds=seconds)
        done = len(read_record(folders["random"]).finished)
        subprocess.run(whole, check=False)
        subprocess.run([*without, "--set", f"search.trials={done}"], check=False)
        print(f"\nseed {seed}: {seconds:.0f} seconds of searching each")
        for arm, folder in folders.items():
            _report(arm, folder, scale)


def _command(file: Path, run_dir: Path, arm: str, overrides: tuple[str, ...]) -> list[str]:
    words = [sys.executable, "-m", "collabdesign", "search", str(file), "--run-dir", str(run_dir)]
    for each in overrides:
        words += ["--set", each]
    return [*words, *ARMS[arm]]


def _searched(
    command: list[str],
    run_dir: Path,
    *,
    trials: int | None = None,
    seconds: float = float("inf"),
) -> float:
    """Search until so many trials are finished, or so long; the seconds that it took."""
    started = time.monotonic()
    with subprocess.Popen(command, start_new_session=True) as process:
        while process.poll() is None and time.monotonic() - started < seconds:
            time.sleep(0.2)
            if trials is not None and has_study(run_dir):
                try:
                    if len(read_record(run_dir).finished) >= trials:
                        break
                except InputError:
                    continue  # its tables are not written yet
        took = time.monotonic() - started
        process.send_signal(signal.SIGINT)
    return took


def _report(arm: str, folder: Path, scale: Scale) -> None:
    record = read_record(folder)
    members = [read_certificate(each) for each in sorted((folder / "family").glob("attonet-*"))]
    held_out = [statistics.fmean(each.select_accuracies) for each in members]
    test = [each.test_accuracy for each in members]
    volumes = [
        scale.hypervolume(
            [
                values_of(scale.objectives, accuracy, each.cost)
                for accuracy, each in zip(accuracies, members, strict=True)
            ]
        )
        for accuracies in (held_out, test)
    ]
    print(
        f"{arm}: {len(record.finished)} networks ({len(record.trained)} trained to the end), "
        f"hypervolume of {len(members)} members {volumes[0]:.4f} held out, {volumes[1]:.4f} on test"
    )
    for each, mean in zip(members, held_out, strict=True):
        cost = f"{each.cost.macs:>9,} MACs {each.cost.params:>7,} parameters"
        print(f"    {each.name} {cost} {mean:.2%} held out, {each.test_accuracy:.2%} on test")


if __name__ == "__main__":
    main()
