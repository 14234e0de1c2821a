"""``collabdesign calibrate``: can the proxy be trusted."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collabdesign.cli.display import Display, interval, note, out, print_json, say
from collabdesign.cli.options import machine_of
from collabdesign.cli.search import show_lengthened
from collabdesign.cli.sheet import Sheet
from collabdesign.deliver.report.words import counted, percent, short_count, short_time
from collabdesign.design.files.reading import load_requirements
from collabdesign.explore.calibration import CALIBRATION, KEPT_CORRELATION, SAME_COST, Calibration
from collabdesign.explore.rank import Estimate

if TYPE_CHECKING:
    from collabdesign.pipeline import RunEvent


def calibrate(
    file: Path,
    run_dir: Path | None,
    networks: int,
    overrides: tuple[str, ...],
    as_json: bool,
    **machine: Any,
) -> int:
    """Train a few networks briefly and fully: can the proxy be trusted?"""
    requirements = load_requirements(file, overrides)
    run_dir = run_dir or Path("runs") / requirements.name
    where, display = machine_of(machine), Display()
    from collabdesign.explore.calibrate import Outlook
    from collabdesign.pipeline import Began
    from collabdesign.pipeline import calibrate as compare

    def on_event(event: RunEvent) -> None:
        if isinstance(event, Began):
            show_lengthened(requirements, len(event.prepared.data.train_labels))
        elif isinstance(event, Outlook):
            done = f", {event.done} of them done" if event.done else ""
            note(
                f"{event.networks} networks, each as proxies of "
                f"{', '.join(map(str, event.proxy_epochs))} epochs and fully of "
                f"{event.full_epochs}: {event.trainings} trainings{done}, about "
                f"{short_time(event.seconds)}"
            )
        else:
            display.tell(event)

    with display.shown():
        found = compare(requirements, run_dir, networks=networks, machine=where, on_event=on_event)
    if as_json:
        print_json({**asdict(found), "noise_points": found.noise_points})
    else:
        _show(found)
        say(f"written: {run_dir / CALIBRATION}")
    return 0


def _show(found: Calibration) -> None:
    table = Sheet("network", "MACs", "proxy", "full")
    for name, macs, proxy, full in found.points:
        table.add_row(name, short_count(macs), percent(proxy), percent(full))
    out.print(table)
    times = f"mean of {found.full_seeds} seeds" if found.full_seeds > 1 else "once"
    out.print(
        f"[bold]Rank correlation[/] of the proxy ({found.proxy_words}, mean of "
        f"{found.proxy_seeds} seeds) with full training ({times}, {found.full_epochs} epochs), "
        f"{len(found.points)} networks:"
    )
    say(f"  Spearman {interval(found.spearman)}")
    say(f"  Kendall {interval(found.kendall)}")
    if found.macs_alone is not None:
        say(f"  of multiply-adds alone, without training: Spearman {interval(found.macs_alone)}")
    if (same := found.same_cost) is not None:
        out.print(
            f"[bold]Among networks of about the same cost[/] (multiply-adds within a factor of "
            f"{SAME_COST}; {counted(same.pairs, 'pair')}), which is what a budget leaves:"
        )
        say(f"  Spearman {interval(same.spearman)}")
        say(f"  Kendall {interval(same.kendall)}")
        say(f"  of multiply-adds alone: Spearman {interval(same.macs_alone)}")
    if found.failed:
        say(f"  {found.failed} more could not be trained both ways and are left out")
    out.print(
        f"[bold]Noise between seeds[/] of one proxy: a standard deviation of "
        f"{100 * found.noise:.2f} points; [bold]{found.noise_sentence}[/]"
    )
    table = Sheet("epochs", "steps", "seconds", "Spearman, one seed (95 %)", "same cost (95 %)")
    for each in found.budgets:
        epochs = f"{each.epochs}{' *' * (each.asked == found.asked)}"
        seconds = f"{each.seconds:.1f}"
        same_cost = "-" if each.same_cost is None else _short(each.same_cost)
        table.add_row(epochs, str(each.steps), seconds, _short(each.spearman), same_cost)
    out.print(table)
    for best, why_none, among in (
        (found.cheapest, found.why_none, ""),
        (
            found.cheapest_at_same_cost,
            found.why_none_at_same_cost,
            " among networks of about the same cost",
        ),
    ):
        if best is None:
            out.print(f"[yellow]{why_none}[/]")
            continue
        which = f"{best.epochs} epochs, --set search.proxy.epochs={best.asked}"
        if best.asked == found.asked:
            which = f"the one asked for, {best.epochs} epochs"
        say(f"The cheapest proxy that keeps Spearman at {KEPT_CORRELATION}{among}: {which}")
    say(
        f"Estimated from {len(found.points)} networks: read the interval, not the value. A third "
        "of them are near the limit, the others spread over all that fits; near the front, where "
        "networks differ less, order is less sure."
    )


def _short(found: Estimate) -> str:
    """A value and its 95 % interval, for a narrow column."""
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"
