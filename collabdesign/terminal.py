"""What the command line shows: tables and progress, from what the library returns.

Only :mod:`collabdesign.cli` uses it. Progress goes to standard error, answers to standard
output.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from collabdesign.deliver.words import percent, short_count, short_quantity, short_time

if TYPE_CHECKING:
    from collabdesign.deliver.certificate import Certificate
    from collabdesign.deliver.family import FamilyProgress
    from collabdesign.deliver.init import InitResult
    from collabdesign.design.cost import Cost, PartCost
    from collabdesign.design.requirements import Requirements
    from collabdesign.explore.check import Check, DataPart, TimeEstimate
    from collabdesign.explore.feasible import Feasibility
    from collabdesign.explore.progress import Progress as SearchProgress
    from collabdesign.explore.record import Record

# Without a terminal a line now and then is enough for a log.
_LINE_EVERY_SECONDS = 10.0

_COSTS = ("macs", "params", "weight_bytes", "peak_activation_bytes")
_NAMES_SHOWN = 8

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Display:
    """One live line at a time on a terminal; elsewhere a plain line now and then."""

    def __init__(self) -> None:
        self._last_line = 0.0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            console=err,
            transient=True,
        )
        self._tasks: dict[str, Any] = {}

    @contextmanager
    def shown(self) -> Iterator[Display]:
        """Show it while the block runs."""
        if err.is_terminal:
            with self._bar:
                yield self
        else:
            yield self

    def count(self, what: str, done: int, total: int) -> None:
        """So many of so many."""
        self._update(what, done, total, f"{done:,} of {total:,}", final=done == total)

    def search(self, at: SearchProgress) -> None:
        """Where a search stands."""
        done = at.trained + at.failed
        best = "none yet" if at.best is None else percent(at.best)
        parts = [
            f"{done}/{at.trials} trials",
            f"{at.rejected} rejected",
            f"{at.repeated} repeated",
            f"best {best}",
            f"hypervolume {at.hypervolume:.3f}",
        ]
        if at.failed:
            parts.insert(1, f"{at.failed} failed")
        if at.workers > 1:
            parts.append(f"{at.workers} workers")
        elif at.epoch:
            parts.append(f"epoch {at.epoch}/{at.epochs}")
        if at.seconds_left is not None:
            parts.append(f"about {short_time(max(0.0, at.seconds_left))} left")
        within = at.epoch / at.epochs if at.epochs and done < at.trials else 0
        final = done == at.trials and at.epoch == 0
        self._update("search", done + within, at.trials, " · ".join(parts), final=final)

    def family(self, at: FamilyProgress) -> None:
        """Where the full trainings stand."""
        done = at.training - 1 + at.epoch / at.epochs
        text = (
            f"training {at.training}/{at.trainings} (candidate {at.candidate}) · "
            f"epoch {at.epoch}/{at.epochs} · {percent(at.accuracy)} on the held-out part"
        )
        self._update("family", done, at.trainings, text, final=at.epoch == at.epochs)

    def _update(self, what: str, done: float, total: float, text: str, *, final: bool) -> None:
        if err.is_terminal:
            if what not in self._tasks:
                self._tasks[what] = self._bar.add_task(what, total=total, text=text)
            self._bar.update(self._tasks[what], completed=done, total=total, text=text)
            return
        now = time.monotonic()
        if final or now - self._last_line >= _LINE_EVERY_SECONDS:
            self._last_line = now
            err.print(f"{what}: {text}", markup=False)


def show_check(found: Check, requirements: Requirements) -> None:
    """All of ``collabdesign check``."""
    _show_space(found.feasibility, requirements)
    _show_default(found.feasibility)
    for part in found.data:
        _show_data(part)
    if found.time is not None:
        _show_time(found.time, requirements)
    if found.unreadable:
        out.print("\n[red]Not ready:[/] mend or remove the unreadable pictures.")
    elif found.feasibility.possible:
        out.print("\n[green]Ready[/] to search.")


def show_family(certificates: Sequence[Certificate]) -> None:
    """One row a member, then what is not met."""
    table = _table("family", "MACs", "params", "select", "test", "95 % interval", "requirements")
    from collabdesign.explore.front import wilson_interval

    for each in certificates:
        low, high = wilson_interval(each.test_accuracy, each.test_images)
        met = sum(row.met for row in each.requirements)
        colour = "green" if each.meets_all else "red"
        select = sum(each.select_accuracies) / len(each.select_accuracies)
        table.add_row(
            each.name,
            short_count(each.cost.macs),
            short_count(each.cost.params),
            percent(select),
            percent(each.test_accuracy),
            f"{percent(low)} - {percent(high)}",
            f"[{colour}]{met} of {len(each.requirements)} met[/]",
        )
    out.print(table)


def show_misses(certificates: Sequence[Certificate]) -> None:
    """The goals that no member meets, and who comes nearest."""
    goals = {row.name: row.required for c in certificates for row in c.requirements if row.at_least}
    for name, goal in goals.items():
        values = [
            (row.value, c.name) for c in certificates for row in c.requirements if row.name == name
        ]
        value, who = max(values)
        if value < goal:
            out.print(
                f"[red]goals.{name} {short_quantity(name, goal)} is not met[/]: the nearest is "
                f"{who} with {short_quantity(name, value)}"
            )


def show_status(
    record: Record, requirements: Requirements, best: float | None, state: str, workers: int
) -> None:
    """Where a run stands, in a few lines."""
    finished = record.finished
    failed = len(finished) - len(record.trained)
    out.print(f"[bold]{escape(requirements.name)}[/]: {state}")
    out.print(
        f"  {len(finished)} of {requirements.search.trials} trials "
        f"({len(record.trained)} trained, {failed} failed), {record.rejected} rejected, "
        f"{record.repeated} repeated"
    )
    if workers:
        out.print(f"  {workers} {'worker' if workers == 1 else 'workers'} at work")
    if best is not None:
        out.print(f"  best proxy_accuracy {percent(best)}")
    if finished:
        seconds = sum(each.seconds for each in finished)
        out.print(
            f"  {short_time(seconds)} of training, {short_time(seconds / len(finished))} each"
        )


def _show_space(found: Feasibility, requirements: Requirements) -> None:
    out.print(
        f"[bold]Space[/]: {found.parameters} parameters, about {float(found.parameter_sets):.1e} "
        "parameter sets"
    )
    table = _table("", "MACs", "params", "weights", "peak activation")
    rows: list[tuple[str, Cost]] = [
        ("smallest found", found.smallest),
        ("median", found.median),
        ("largest found", found.largest),
        ("prototype as drawn", found.own_cost),
    ]
    if found.default_cost is not None:
        rows.append(("prototype's default", found.default_cost))
    for name, cost in rows:
        table.add_row(name, *(short_quantity(key, getattr(cost, key)) for key in _COSTS))
    limits = [getattr(requirements.limits, key) for key in _COSTS]
    table.add_section()
    table.add_row(
        "limit",
        *(
            "-" if limit is None else short_quantity(key, limit)
            for key, limit in zip(_COSTS, limits, strict=True)
        ),
    )
    shares = [found.fits.get(key) for key in _COSTS]
    table.add_row(
        "proposals that fit",
        *("-" if share is None else f"{100 * share.value:.1f} %" for share in shares),
    )
    out.print(table)
    every = found.fits["all"]
    low, high = every.interval
    out.print(
        f"All limits: {100 * every.value:.1f} % of {every.of:,} random proposals fit "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
        + (f"; [bold]{found.binding}[/] binds" if found.binding else "")
    )
    if not found.possible:
        from collabdesign.explore.feasible import explain

        out.print(f"[red]{escape(explain(found, requirements))}[/]")
    for change in found.changes if found.possible else ():
        out.print(f"[yellow]{escape(change)}[/]")


def _show_default(found: Feasibility) -> None:
    parts: tuple[PartCost, ...] = found.default if found.default is not None else found.own
    title = "prototype's default" if found.default is not None else "prototype as drawn"
    table = _table(title, "pixels", "channels", "MACs", "share", "params")
    total = sum(part.macs for part in parts)
    for part in parts:
        table.add_row(
            part.name,
            f"{part.resolution_in} > {part.resolution_out}",
            str(part.channels_out),
            short_count(part.macs),
            f"{100 * part.macs / total:.0f} %",
            short_count(part.params),
        )
    out.print(table)


def _show_data(part: DataPart) -> None:
    counts = part.per_class
    least = min(counts, key=lambda name: counts[name])
    most = max(counts, key=lambda name: counts[name])
    spread = f"{counts[least]:,} ({escape(least)}) to {counts[most]:,} ({escape(most)}) a class"
    if counts[least] == counts[most]:
        spread = f"{counts[least]:,} of each class"
    sizes = ", ".join(f"{w}x{h} ({n:,})" for (w, h), n in list(part.sizes.items())[:3])
    more = len(part.sizes) - 3
    opened = "all opened" if part.inspected == part.images else f"{part.inspected:,} of them opened"
    out.print(
        f"[bold]Data, {part.name}[/]: {part.images:,} pictures ({opened}), {len(counts)} classes, "
        f"{spread}; "
        f"sizes {sizes}" + (f" and {more} more" if more > 0 else "")
    )
    show_named("passed over", part.stray)
    show_named("[red]unreadable[/]", [f"{path}: {reason}" for path, reason in part.unreadable])


def show_named(what: str, names: Sequence[str]) -> None:
    """The first few of many, and how many more."""
    if names:
        out.print(f"  {what}: {len(names)}")
    for name in names[:_NAMES_SHOWN]:
        out.print(f"    {escape(name)}")
    if len(names) > _NAMES_SHOWN:
        out.print(f"    and {len(names) - _NAMES_SHOWN} more")


def _show_time(found: TimeEstimate, requirements: Requirements) -> None:
    slow, middle, fast = found.images_per_second
    longest, usual, shortest = found.search_seconds
    out.print(
        f"[bold]Time[/] on {found.device}, measured on {found.networks} networks: {middle:,.0f} "
        f"images/s ({slow:,.0f} to {fast:,.0f}); a proxy takes about "
        f"{short_time(found.proxy_seconds)}, {requirements.search.trials} trials "
        f"{short_time(usual)} ({short_time(shortest)} to {short_time(longest)}), the family's "
        f"full trainings {short_time(found.family_seconds)}"
    )


def show_init(result: InitResult) -> None:
    """What was written, and how to go on."""
    pictures = "colour" if result.channels == 3 else "grey"
    out.print(
        f"{result.images:,} {pictures} pictures of {len(result.classes)} classes; networks will "
        f"see {result.resolution}x{result.resolution} pixels"
    )
    show_named("[yellow]worth knowing[/]", result.warnings)
    out.print(
        f"\nwrote {result.requirements} and {result.prototype}: read them, change what you like, "
        f"then\n  collabdesign check {result.requirements}\n"
        f"  collabdesign search {result.requirements}",
        markup=False,
    )


def show_rows(title: str, rows: Mapping[str, str]) -> None:
    """Names and what they are, one a line."""
    out.print(f"[bold]{escape(title)}[/]")
    for name, text in rows.items():
        out.print(f"  {escape(name)}: {escape(text)}")


def _table(first: str, *columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
