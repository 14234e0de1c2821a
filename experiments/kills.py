"""Kill a search's trainers and its driver with -9 at random, and check that nothing is lost.

Searches the embedded digits. At random moments a process that trains is killed, and one time in
ten the command itself, which is then started again. A search that ends is extended, as long as
the time is not over. With `--cluster` the trainings run on a Ray cluster of two nodes on this
machine, of which one is killed now and then, and added again.

In the end: no candidate that was ever seen finished is gone or changed, the budget is met
exactly, and no process is left.

    python experiments/kills.py --minutes 10
    python experiments/kills.py --minutes 10 --cluster
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from collabdesign.explore.lock import holder
from collabdesign.explore.record import Candidate
from collabdesign.explore.study import has_study, read_record

REQUIREMENTS = Path(__file__).parent.parent / "requirements" / "digits.yaml"
STEP = 20  # trials by which a search is extended
# Trainings so short that most end before the next kill, also on a busy machine.
SHORT = (
    *("search.proxy.epochs=4", "search.proxy.min_steps=0"),
    *("family.size=1", "family.training.epochs=2", "family.training.min_steps=0"),
)
COMMAND_SHARE = 0.1  # of the kills
NODE_SHARE = 0.2  # likewise, of a cluster's
GONE_SECONDS = 20.0  # within which what a dead driver started has ended


class Processes:
    """Trainings in processes of this machine."""

    def __init__(self, workers: int) -> None:
        self.words = ["--workers", str(workers)]
        self._commands: list[int] = []

    def began(self, command: int) -> None:
        """A command was started, in a session of its own."""
        self._commands.append(command)

    def trainers(self) -> list[int]:
        """Processes that train: the children of the server that forks them."""
        parents = parents_of_all()
        return [
            process
            for process, parent in parents.items()
            if parents.get(parent) == self._commands[-1]
        ]

    def left(self) -> list[int]:
        """What commands that have ended started, and runs."""
        return [process for each in self._commands for process in processes_of(each)]

    def lose_node(self) -> None:
        """There is none."""

    def has_node(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing is ours."""


class RayCluster:
    """Trainings on a cluster of two nodes, each with as many cores as told."""

    def __init__(self, workers: int) -> None:
        from ray.cluster_utils import Cluster

        self._cores = max(1, workers // 2)
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=self._node())
        self._second = self._cluster.add_node(**self._node())
        self.words = ["--cluster", self._cluster.address]

    def _node(self) -> dict[str, Any]:
        return {"num_cpus": self._cores, "include_dashboard": False}

    def began(self, command: int) -> None:
        """Nothing of a command's but itself is outside of the cluster."""

    def trainers(self) -> list[int]:
        """Processes of the cluster that train now."""
        return [each for each in descendants() if words_of(each).startswith("ray::_train")]

    left = trainers

    def lose_node(self) -> None:
        """Kill the second node with all that runs on it, and add another."""
        self._cluster.remove_node(self._second, allow_graceful=False)
        self._second = self._cluster.add_node(**self._node())

    def has_node(self) -> bool:
        return True

    def close(self) -> None:
        self._cluster.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--pause", type=float, metavar="SECONDS",
        help="at most between two kills (default: 6, on a cluster 30: its processes import torch "
        "when they start)",
    )  # fmt: skip
    parser.add_argument("--cluster", action="store_true", help="on a Ray cluster of two nodes")
    arguments = parser.parse_args()
    where = RayCluster(arguments.workers) if arguments.cluster else Processes(arguments.workers)
    try:
        with tempfile.TemporaryDirectory() as folder:
            run_dir = Path(folder) / "run"
            pause = arguments.pause or (30.0 if arguments.cluster else 6.0)
            draw = random.Random(arguments.seed)
            kill_for(arguments.minutes, pause, where, draw, run_dir)
    finally:
        where.close()
    assert not (left := descendants()), f"still running: {left}"


def kill_for(
    minutes: float,
    pause: float,
    where: Processes | RayCluster,
    draw: random.Random,
    run_dir: Path,
) -> None:
    """Search and kill for so long, let the search finish, and check."""
    end = time.monotonic() + 60 * minutes
    trials = STEP
    killed: Counter[str] = Counter()
    seen: dict[int, Candidate] = {}
    command = start(run_dir, where, trials)
    while time.monotonic() < end:
        time.sleep(draw.uniform(0.05, pause))
        look(run_dir, seen, trials)
        chance = draw.random()
        if command.poll() is not None:
            trials = ended(command, run_dir, where, trials)
            command = start(run_dir, where, trials)
        elif chance < COMMAND_SHARE:
            command.kill()
            command.wait()
            killed["driver"] += 1
            wait_until_gone(where)
            assert holder(run_dir) is None
        elif where.has_node() and chance < COMMAND_SHARE + NODE_SHARE:
            where.lose_node()
            killed["node"] += 1
        elif found := where.trainers():
            with suppress(ProcessLookupError):  # it has ended
                os.kill(draw.choice(found), signal.SIGKILL)
                killed["trainer"] += 1
    if command.poll() is not None:
        trials = ended(command, run_dir, where, trials)
        command = start(run_dir, where, trials)
    assert command.wait() in (0, 4), command.returncode
    look(run_dir, seen, trials)
    check_end(run_dir, trials)
    wait_until_gone(where)
    record = read_record(run_dir)
    lost = ", ".join(f"{killed[each]} times a {each}" for each in ("trainer", "driver", "node"))
    print(
        f"killed with -9: {lost}; {len(record.finished)} of {trials} candidates finished, "
        f"{record.killed} given back, {len(seen)} seen finished, 0 lost or changed, 0 trained "
        "twice, 0 processes left"
    )


def start(run_dir: Path, where: Processes | RayCluster, trials: int) -> subprocess.Popen[bytes]:
    """The command, in a session of its own."""
    changes = (f"search.trials={trials}", *SHORT)
    words = [sys.executable, "-m", "collabdesign", "search", str(REQUIREMENTS), "--device", "cpu"]
    words += ["--run-dir", str(run_dir), *where.words]
    words += [word for change in changes for word in ("--set", change)]
    command = subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True)
    where.began(command.pid)
    return command


def ended(
    command: subprocess.Popen[bytes], run_dir: Path, where: Processes | RayCluster, trials: int
) -> int:
    """For how many trials the next command is; a command that fails tells why on standard error."""
    assert command.returncode in (-signal.SIGKILL, 0, 4), command.returncode
    wait_until_gone(where)
    if command.returncode < 0:
        return trials
    check_end(run_dir, trials)
    return trials + STEP


def look(run_dir: Path, seen: dict[int, Candidate], trials: int) -> None:
    """What was seen finished stays as it was, and no more is begun than may be finished."""
    if not has_study(run_dir):
        return
    record = read_record(run_dir)
    finished = {each.number: each for each in record.finished}
    for number, candidate in seen.items():
        assert finished.get(number) == candidate, f"candidate {number} was finished"
    seen.update(finished)
    assert len(record.candidates) <= trials, f"{len(record.candidates)} of {trials} begun"


def check_end(run_dir: Path, trials: int) -> None:
    """The budget is met exactly, with as many architectures, and nobody is at work."""
    record = read_record(run_dir)
    assert len(record.finished) == len(record.candidates) == trials
    assert len({each.architecture.id for each in record.finished}) == trials
    assert sorted(each.index for each in record.finished) == list(range(trials))
    assert holder(run_dir) is None


def wait_until_gone(where: Processes | RayCluster) -> None:
    """Nothing trains for a driver that has ended."""
    until(lambda: not where.left(), lambda: f"still running: {where.left()}")


def until(happened: Callable[[], bool], else_say: Callable[[], str]) -> None:
    end = time.monotonic() + GONE_SECONDS
    while not happened():
        assert time.monotonic() < end, else_say()
        time.sleep(0.1)


# -- processes --------------------------------------------------------------------------------


def stats() -> dict[int, tuple[str, int, int]]:
    """State, parent and session of every process."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent, _, session = (path / "stat").read_text().rpartition(")")[2].split()[:4]
            found[int(path.name)] = (state, int(parent), int(session))
    return found


def processes_of(session: int) -> list[int]:
    """Processes of a session that still run."""
    return [pid for pid, (state, _, its) in stats().items() if its == session and state != "Z"]


def parents_of_all() -> dict[int, int]:
    return {pid: parent for pid, (state, parent, _) in stats().items() if state != "Z"}


def descendants() -> list[int]:
    """What this process started, what that started, and so on, as far as it runs."""
    parents, found = parents_of_all(), []
    for process in parents:
        above = parents[process]
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid():
            found.append(process)
    return found


def words_of(process: int) -> str:
    """What a process calls itself."""
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


if __name__ == "__main__":
    main()
