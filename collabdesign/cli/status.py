"""``collabdesign status``: where a run stands, once or until it ends."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from collabdesign.cli.codes import INTERRUPTED
from collabdesign.cli.display import Display, out
from collabdesign.cli.options import print_json
from collabdesign.deliver.report.words import percent, short_time

if TYPE_CHECKING:
    from collabdesign.design.requirements import Requirements
    from collabdesign.explore.lock import Holder
    from collabdesign.explore.record import Record

_LOOK_SECONDS = 0.5


def status(run_dir: Path, as_json: bool, follow: bool) -> int:
    """Tell where the search in DIR stands, running or not."""
    if follow:
        try:
            _follow(run_dir)
        except KeyboardInterrupt:
            click.echo("\nNot watched any more; the search goes on.", err=True)
            return INTERRUPTED
    from collabdesign.explore.lock import holder
    from collabdesign.explore.record import best_accuracy, requirements_of, trained_within
    from collabdesign.explore.study import read_record

    record = read_record(run_dir)
    requirements = requirements_of(record)
    who, at = holder(run_dir), progress_of(run_dir)
    done = len(record.finished) >= requirements.search.trials or record.ran_out
    family = sorted(each.parent.name for each in run_dir.glob("family/attonet-*/certificate.json"))
    training = len(record.running)
    if who is not None:
        state = "training the family" if done and not training else "searching"
    elif done and not record.trained:
        state = "finished; every training failed"
    elif done:
        state = "finished" if family else "searched; the family is not trained yet"
    else:
        state = "interrupted; the same search command continues it"
    best = best_accuracy(trained_within(record, requirements))
    if as_json:
        print_json(
            {
                "name": requirements.name,
                "state": state,
                "running": who is not None,
                "process": None if who is None else who._asdict(),
                "training": training,
                "progress": at,
                "trials": requirements.search.trials,
                "trained": len(record.trained),
                "stopped": len(record.stopped),
                "failed": len(record.failed),
                "proxy_epochs_saved": record.epochs_saved,
                "rejected": record.rejected,
                "repeated": record.repeated,
                "best_proxy_accuracy": best,
                "family": family,
            }
        )
    else:
        _show(record, requirements, best, state, who)
    return 0


def progress_of(run_dir: Path) -> dict[str, Any] | None:
    """What the process at work in the folder last said of its progress; None where none is."""
    from collabdesign.explore.progress import PROGRESS

    try:
        found: dict[str, Any] = json.loads((run_dir / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def _follow(run_dir: Path) -> None:
    """Show the progress of the process at work in the folder until it ends."""
    from collabdesign.explore.lock import holder

    display = Display()
    with display.shown():
        while holder(run_dir) is not None:
            if at := progress_of(run_dir):
                display.stage(at.pop("stage"), SimpleNamespace(**at))
            time.sleep(_LOOK_SECONDS)


def _show(
    record: Record,
    requirements: Requirements,
    best: float | None,
    state: str,
    who: Holder | None,
) -> None:
    finished, training = record.finished, len(record.running)
    stopped = f"{len(record.stopped)} stopped early, " if record.stopped else ""
    out.print(f"[bold]{escape(requirements.name)}[/]: {state}")
    out.print(
        f"  {len(finished)} of {requirements.search.trials} trials "
        f"({len(record.trained)} trained, {stopped}{len(record.failed)} failed), "
        f"{record.rejected} rejected, {record.repeated} repeated"
    )
    if who is not None:
        out.print(f"  {who}", markup=False)
    if who is not None and training:
        out.print(f"  {training} {'training' if training == 1 else 'trainings'} handed out")
    if record.stopped:
        out.print(f"  stopping early saved {percent(record.epochs_saved)} of the proxies' epochs")
    if best is not None:
        out.print(f"  best proxy_accuracy {percent(best)}")
    if finished:
        seconds = sum(each.seconds for each in finished)
        out.print(
            f"  {short_time(seconds)} of training, {short_time(seconds / len(finished))} each"
        )
