"""From requirements to the table of a headline in one command: search, family, comparison.

    python experiments/headline.py experiments/attonets_cifar10 --set data.train=DIR
        --set data.test=DIR [--network NAME ...] [--seeds N]

The folder holds ``requirements.yaml``. The run goes into ``runs/`` and is continued there. The
table is printed and written into the folder as ``table.md``, with ``compare.json`` and the members
beside it. Stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from collabdesign.deliver.comparison import Comparison, read_comparison
from collabdesign.design.files.reading import load_requirements

# Finished, but no member meets the goals: the table says by how much.
_GOALS_NOT_MET = 4


def collabdesign(*words: str | Path) -> None:
    code = subprocess.run([sys.executable, "-m", "collabdesign", *map(str, words)]).returncode
    if code not in (0, _GOALS_NOT_MET):
        sys.exit(code)


def table(found: Comparison) -> str:
    """In Markdown, the fewest multiply-adds first."""
    lines = [
        f"{found.train_images:,} images to train on, {found.select_images:,} held out, "
        f"{found.test_images:,} to test. Test accuracy: mean and standard deviation of the seeds.",
        "",
        "| network | MACs | params | epochs | seeds | test | NetScore |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    shown = [row for row in found.rows if row.mean is not None and row.macs is not None]
    for row in sorted(shown, key=lambda row: row.macs or 0):
        spread = "" if row.deviation is None else f" ± {100 * row.deviation:.2f}"
        cells: list[Any] = [
            row.name,
            f"{row.macs:,}",
            f"{row.params:,}",
            row.epochs,
            len(row.seeds),
            f"{100 * (row.mean or 0):.2f} %{spread}",
            f"{row.netscore or 0:.1f}",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += [
        "",
        "Differences of test accuracy in points, with 95 % intervals where there are seeds:",
    ]
    lines += [f"- {each.member} less {each.baseline}: {each.words}" for each in found.differences]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--network", dest="networks", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    file = arguments.folder / "requirements.yaml"
    run_dir = Path("runs") / load_requirements(file, arguments.overrides).name
    changes = [word for each in arguments.overrides for word in ("--set", each)]
    collabdesign("search", file, "--run-dir", run_dir, *changes)
    names = [word for each in arguments.networks for word in ("--network", each)]
    collabdesign("compare", run_dir, "--seeds", str(arguments.seeds), *names)
    found = read_comparison(run_dir)
    assert found is not None
    (arguments.folder / "table.md").write_text(table(found), encoding="utf-8")
    print(table(found))
    for name in ("compare.json", "study.db", "report.html"):
        shutil.copy(run_dir / name, arguments.folder)
    for member in sorted((run_dir / "family").glob("attonet-*")):
        shutil.copytree(
            member,
            arguments.folder / member.name,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )


if __name__ == "__main__":
    main()
