"""How long commands take, beside an import of PyTorch in the same run.

``--help``, ``status`` on a run folder and ``check`` on the digits, each as a new process of its
own, in pairs with a process that imports torch and nothing else. Processor seconds of the
process and its children, so that what else the machine does counts little.

    python experiments/command_speed.py
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

REQUIREMENTS = Path(__file__).parent.parent / "requirements" / "digits.yaml"
COMMAND = [sys.executable, "-m", "collabdesign"]


def processor_seconds(words: list[str], cwd: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, cwd=cwd, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    repetitions = parser.parse_args().repetitions
    with tempfile.TemporaryDirectory() as cwd:
        small = ["--set", "search.trials=2", "--set", "family.training.epochs=1"]
        subprocess.run(
            [*COMMAND, "search", str(REQUIREMENTS), "--run-dir", "run", "--threads", "1", *small],
            cwd=cwd,
            capture_output=True,
        )
        for words in (
            ["--help"],
            ["status", "run"],
            ["check", str(REQUIREMENTS), "--threads", "1"],
        ):
            pairs = [
                (
                    processor_seconds([*COMMAND, *words], cwd),
                    processor_seconds([sys.executable, "-c", "import torch"], cwd),
                )
                for _ in range(repetitions)
            ]
            ratios = sorted(ours / torch for ours, torch in pairs)
            print(
                f"collabdesign {words[0]}: {statistics.median(ratios):.2f} imports of torch "
                f"({ratios[0]:.2f} to {ratios[-1]:.2f}), "
                f"{statistics.median(ours for ours, _ in pairs):.2f} s, n = {repetitions}"
            )


if __name__ == "__main__":
    main()
