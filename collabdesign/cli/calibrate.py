"""``collabdesign calibrate``: can the proxy be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from collabdesign.cli.display import Display, err, interval, new_table, out
from collabdesign.cli.options import load, machine_of, print_json
from collabdesign.cli.search import show_lengthened
from collabdesign.deliver.report.words import percent, short_count, short_time

if TYPE_CHECKING:
    from collabdesign.explore.calibrate import Outlook
    from collabdesign.explore.calibration import Calibration
    from collabdesign.pipeline import RunEvent


def calibrate(
    file: Path,
    run_dir: Path | None,
    networks: int,
    overrides: tuple[str, ...],
    device: str | None,
    workers: int | None,
    threads: int | None,
    cluster: str | None,
    as_json: bool,
) -> int:
    """Train a few networks briefly and fully: can FILE's proxy be trusted?

    Writes calibration.json into the run folder, which a search there uses and its report shows.
    The same command goes on from what was trained.
    """
    requirements = load(file, overrides)
    run_dir = run_dir or Path("runs") / requirements.name
    machine, display = machine_of(device, workers, threads, cluster), Display()
    from collabdesign.explore.calibrate import Outlook
    from collabdesign.pipeline import Began
    from collabdesign.pipeline import calibrate as compare

    def on_event(event: RunEvent) -> None:
        if isinstance(event, Began):
            show_lengthened(requirements, len(event.prepared.data.train_labels))
        elif isinstance(event, Outlook):
            show_outlook(event)
        else:
            display.tell(event)

    with display.shown():
        found = compare(
            requirements, run_dir, networks=networks, machine=machine, on_event=on_event
        )
    if as_json:
        print_json({**found.to_json(), "noise_points": found.noise_points})
    else:
        show_calibration(found, run_dir)
    return 0


def show_outlook(at: Outlook) -> None:
    """What a calibration is about to do, and how long it will take."""
    lengths = ", ".join(map(str, at.proxy_epochs))
    done = f", {at.done} of them done" if at.done else ""
    err.print(
        f"{at.networks} networks, each as proxies of {lengths} epochs and fully of "
        f"{at.full_epochs}: {at.trainings} trainings{done}, about {short_time(at.seconds)}",
        markup=False,
    )


def show_calibration(found: Calibration, run_dir: Path) -> None:
    """All of ``collabdesign calibrate``."""
    from collabdesign.explore.calibration import CALIBRATION, KEPT_CORRELATION

    table = new_table("network", "MACs", "proxy", "full")
    for point in found.points:
        table.add_row(
            point.architecture, short_count(point.macs), percent(point.proxy), percent(point.full)
        )
    out.print(table)
    times = f"once, {found.full_epochs} epochs"
    if found.full_seeds > 1:
        times = f"mean of {found.full_seeds} seeds, {found.full_epochs} epochs"
    out.print(
        f"[bold]Rank correlation[/] of the proxy ({found.proxy_epochs} epochs, mean of "
        f"{found.proxy_seeds} seeds) with full training ({times}), {len(found.points)} networks:"
    )
    for name, each in (("Spearman", found.spearman), ("Kendall", found.kendall)):
        out.print(f"  {name} {interval(each)}")
    if found.failed:
        out.print(f"  {found.failed} more could not be trained both ways and are left out")
    out.print(
        f"[bold]Noise between seeds[/] of one proxy: a standard deviation of "
        f"{100 * found.noise:.2f} points; [bold]{found.noise_sentence}[/]"
    )
    table = new_table("proxy epochs", "steps", "seconds", "Spearman, one seed")
    for budget in found.budgets:
        mark = " *" if budget.asked == found.asked else ""
        table.add_row(
            f"{budget.epochs}{mark}",
            str(budget.steps),
            f"{budget.seconds:.1f}",
            interval(budget.spearman),
        )
    out.print(table)
    best = found.cheapest
    if best is None:
        out.print(f"[yellow]{found.why_none}[/]")
    else:
        out.print(
            f"The cheapest proxy that keeps Spearman at {KEPT_CORRELATION}: "
            + (
                f"the one asked for, {best.epochs} epochs"
                if best.asked == found.asked
                else f"{best.epochs} epochs, --set search.proxy.epochs={best.asked}"
            )
        )
    out.print(
        f"Estimated from {len(found.points)} networks: read the interval, not the value. They are "
        "spread over all that fits; near the front, where networks differ less, order is less sure."
    )
    out.print(f"written: {run_dir / CALIBRATION}", markup=False)
