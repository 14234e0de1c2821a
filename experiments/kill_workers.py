"""Kill workers of a search with -9 at random, and check that nothing is lost.

Searches the embedded digits with several workers. At random moments a random worker is killed,
and one time in ten the command itself, which is then started again. A search that ends is
extended, as long as the time is not over. In the end: no candidate that was ever seen finished
is gone or changed, the budget is met exactly, and no process is left.

    python experiments/kill_workers.py --minutes 10
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
from pathlib import Path

from collabdesign.explore.lock import at_work, is_running
from collabdesign.explore.record import DATABASE, Candidate, read_record

REQUIREMENTS = Path(__file__).parent.parent / "requirements" / "digits.yaml"
STEP = 20  # trials by which a search is extended
COMMAND_SHARE = 0.1  # of the kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        kill_for(arguments.minutes, arguments.workers, random.Random(arguments.seed), run_dir)


def kill_for(minutes: float, workers: int, draw: random.Random, run_dir: Path) -> None:
    """Search and kill for so long, let the search finish, and check."""
    end = time.monotonic() + 60 * minutes
    trials, killed, commands_killed = STEP, 0, 0
    seen: dict[int, Candidate] = {}
    command = start(run_dir, workers, trials)
    sessions = [command.pid]
    while time.monotonic() < end:
        time.sleep(draw.uniform(0.05, 6))
        look(run_dir, seen, trials)
        if command.poll() is not None:
            # Killed by us, or done; a command that fails tells why on standard error.
            assert command.returncode in (-signal.SIGKILL, 0, 4), command.returncode
            if command.returncode >= 0:
                check_end(run_dir, trials)
                trials += STEP
            command = start(run_dir, workers, trials)
            sessions.append(command.pid)
        elif draw.random() < COMMAND_SHARE:
            command.kill()
            command.wait()
            commands_killed += 1
        elif found := at_work(run_dir, "worker"):
            try:
                os.kill(int(draw.choice(found).split("-")[1]), signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                pass  # it was done
    if command.poll() is not None:
        command = start(run_dir, workers, trials)
        sessions.append(command.pid)
    assert command.wait() in (0, 4), command.returncode
    look(run_dir, seen, trials)
    check_end(run_dir, trials)
    time.sleep(2)
    left = [pid for session in sessions for pid in processes_of(session)]
    assert not left, f"still running: {left}"
    record = read_record(run_dir)
    print(
        f"{killed} workers and {commands_killed} commands killed, {len(record.finished)} of "
        f"{trials} candidates finished, {record.killed} given back, {len(seen)} seen finished, "
        "0 lost, 0 trained twice, 0 processes left"
    )


def start(run_dir: Path, workers: int, trials: int) -> subprocess.Popen[bytes]:
    """The command, in a session of its own."""
    changes = (f"search.trials={trials}", "family.size=1", "family.training.epochs=1")
    words = [sys.executable, "-m", "collabdesign", "search", str(REQUIREMENTS), "--device", "cpu"]
    words += ["--run-dir", str(run_dir), "--workers", str(workers)]
    words += [word for change in changes for word in ("--set", change)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True)


def look(run_dir: Path, seen: dict[int, Candidate], trials: int) -> None:
    """What was seen finished stays as it was, and no more is claimed than may be finished."""
    if not (run_dir / DATABASE).exists():
        return
    record = read_record(run_dir)
    finished = {each.number: each for each in record.finished}
    for number, candidate in seen.items():
        assert finished.get(number) == candidate, f"candidate {number} was finished"
    seen.update(finished)
    assert len(record.candidates) <= trials, f"{len(record.candidates)} of {trials} claimed"


def check_end(run_dir: Path, trials: int) -> None:
    """The budget is met exactly, with as many architectures, and nobody is at work."""
    record = read_record(run_dir)
    assert len(record.finished) == len(record.candidates) == trials
    assert len({each.architecture.id for each in record.finished}) == trials
    assert sorted(each.index for each in record.finished) == list(range(trials))
    assert not is_running(run_dir)


def processes_of(session: int) -> list[int]:
    """Processes of a session that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, its = (path / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(its) == session and state != "Z":
            found.append(int(path.name))
    return found


if __name__ == "__main__":
    main()
