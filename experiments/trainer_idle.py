"""How long processes that train wait for their next training, in a search on two workers.

A slot's time runs from the beginning of its first training to the end of its last; what it waits
between two of them is idle. The end of a search, where nothing is left to train, is not in it.

    python experiments/trainer_idle.py --set search.trials=200
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

from collabdesign import Machine, load_requirements, search
from collabdesign.evaluate.memory import keep_freed_memory
from collabdesign.explore.executors.executor import Task
from collabdesign.explore.executors.processes import ProcessExecutor

FILE = Path(__file__).parent.parent / "requirements" / "digits.yaml"


def main() -> None:
    """Search, and print what was waited."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--set", dest="overrides", action="append", metavar="KEY=VALUE")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    keep_freed_memory()
    # By slot, that is by thread: when it asked for a training, and when it got one.
    asked: dict[int, list[tuple[float, float]]] = defaultdict(list)
    next_task = ProcessExecutor.next_task

    def timed(self: ProcessExecutor) -> Task | None:
        began = time.monotonic()
        task = next_task(self)
        if task is not None:
            asked[threading.get_ident()].append((began, time.monotonic()))
        return task

    ProcessExecutor.next_task = timed  # type: ignore[method-assign]
    requirements = load_requirements(arguments.file, arguments.overrides or ())
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine("cpu", arguments.workers)
        record = search(requirements, Path(folder) / "run", machine=machine)
    idle = sum(got - began for times in asked.values() for began, got in times[1:])
    total = sum(times[-1][0] - times[0][1] for times in asked.values())
    waits = sorted(got - began for times in asked.values() for began, got in times[1:])
    print(
        f"{len(record.finished)} trials ({len(record.stopped)} stopped early) on "
        f"{arguments.workers} workers: idle {idle:.2f} of {total:.1f} s ({idle / total:.2%}); "
        f"a wait: median {1e3 * waits[len(waits) // 2]:.1f} ms, longest {1e3 * waits[-1]:.0f} ms"
    )


if __name__ == "__main__":
    main()
