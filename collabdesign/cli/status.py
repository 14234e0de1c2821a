"""``collabdesign status``: where a run stands."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.markup import escape

from collabdesign.cli.display import Display, out, print_json, say
from collabdesign.cli.streams import note_line
from collabdesign.deliver.report.words import (
    QUANTITIES,
    counted,
    percent,
    short_quantity,
    short_time,
)
from collabdesign.explore.lock import holder
from collabdesign.explore.measurements import MEASUREMENTS, read_measurements
from collabdesign.explore.progress import PROGRESS
from collabdesign.explore.record import best_accuracy, requirements_of, trained_within
from collabdesign.explore.study import read_record

_LOOK_SECONDS = 0.5


def status(run_dir: Path, as_json: bool, follow: bool) -> int:
    """Tell where the search in DIR stands, running or not."""
    if follow:
        try:
            _follow(run_dir)
        except KeyboardInterrupt:
            note_line("\nNot watched any more; the search goes on.")
            raise
    record = read_record(run_dir)
    requirements, finished = requirements_of(record), record.finished
    who, trials, progress = holder(run_dir), requirements.search.trials, _progress_of(run_dir)
    done = record.is_complete(trials)
    # Some of those that are handed out wait for a worker.
    training = min(len(record.running), (progress or {}).get("workers", trials))
    family = sorted(each.parent.name for each in run_dir.glob("family/attonet-*/certificate.json"))
    if who is not None:
        state = "training the family" if done and not training else "searching"
        if (progress or {}).get("stage") == "CompareProgress":
            state = "comparing with other networks"
    elif done and not record.trained:
        state = "finished; every training failed"
    elif done:
        state = "finished" if family else "searched; the family is not trained yet"
    else:
        state = "interrupted; the same search command continues it"
    measured = sum(1 for _ in read_measurements(run_dir / MEASUREMENTS))
    best = best_accuracy(trained_within(record, requirements))
    if as_json:
        print_json(
            {
                "name": requirements.name,
                "state": state,
                "running": who is not None,
                "process": None if who is None else who._asdict(),
                "training": training,
                "progress": progress,
                "trials": trials,
                "trained": len(record.trained),
                "stopped": len(record.stopped),
                "failed": len(record.failed),
                "proxy_epochs_saved": record.epochs_saved,
                "rejected": record.rejected,
                "repeated": record.repeated,
                "measured": measured,
                "best_proxy_accuracy": best,
                "family": family,
            }
        )
        return 0
    stopped = f"{len(record.stopped)} stopped early, " if record.stopped else ""
    out.print(f"[bold]{escape(requirements.name)}[/]: {state}")
    say(
        f"  {len(finished)} of {trials} trials ({len(record.trained)} trained, {stopped}"
        f"{len(record.failed)} failed), {record.rejected} rejected, {record.repeated} repeated"
    )
    if requirements.measured:
        limits = requirements.limits
        asked = [
            QUANTITIES[name] + ("" if limit is None else f" at most {short_quantity(name, limit)}")
            for name, limit in ((name, getattr(limits, name)) for name in requirements.measured)
        ]
        say(f"  {counted(measured, 'network')} measured: {', '.join(asked)}")
    if who is not None:
        say(f"  {who}")
        if training:
            say(f"  {counted(training, 'training')} under way")
    if record.stopped:
        say(f"  stopping early saved {percent(record.epochs_saved)} of the proxies' epochs")
    if best is not None:
        say(f"  best proxy_accuracy {percent(best)}")
    if finished:
        seconds = sum(each.seconds for each in finished)
        say(f"  {short_time(seconds)} of training, {short_time(seconds / len(finished))} each")
    return 0


def _progress_of(run_dir: Path) -> dict[str, Any] | None:
    """What the process at work in the folder last said of its progress; None where none is."""
    with suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads((run_dir / PROGRESS).read_text(encoding="utf-8"))
        return found
    return None


def _follow(run_dir: Path) -> None:
    """Show the progress of the process at work in the folder until it ends."""
    with Display().shown() as display:
        while holder(run_dir) is not None:
            if at := _progress_of(run_dir):
                display.stage(at.pop("stage"), SimpleNamespace(**at))
            time.sleep(_LOOK_SECONDS)
