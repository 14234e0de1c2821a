"""What the command line shows: tables and progress, from what the library returns.

Only :mod:`collabdesign.cli` uses it. Progress goes to standard error, answers to standard
output.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from collabdesign.deliver.report.words import (
    counted,
    percent,
    short_count,
    short_quantity,
    short_time,
)

if TYPE_CHECKING:
    from collabdesign.deliver.certificate import Certificate
    from collabdesign.deliver.full_training import FamilyProgress
    from collabdesign.deliver.init import InitResult
    from collabdesign.deliver.report.view import FinalistView, ReportView
    from collabdesign.design.cost import Cost, PartCost
    from collabdesign.design.requirements import Requirements
    from collabdesign.evaluate.data.inspect import DataPart
    from collabdesign.explore.calibrate import CalibrateProgress, Outlook
    from collabdesign.explore.calibration import Calibration
    from collabdesign.explore.check import Check, TimeEstimate
    from collabdesign.explore.feasible import Feasibility
    from collabdesign.explore.progress import Progress as SearchProgress
    from collabdesign.explore.rank import Estimate
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
        done = at.trained + at.stopped + at.failed
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
        if at.stopped:
            parts.insert(1, f"{at.stopped} stopped early")
        if at.workers > 1:
            parts.append(f"{at.workers} workers")
        elif at.epoch:
            parts.append(f"epoch {at.epoch}/{at.epochs}")
        if at.seconds_left is not None:
            parts.append(f"about {short_time(max(0.0, at.seconds_left))} left")
        within = at.epoch / at.epochs if at.epochs and done < at.trials else 0
        final = done == at.trials and at.epoch == 0
        self._update("search", done + within, at.trials, " · ".join(parts), final=final)

    def calibrate(self, at: CalibrateProgress) -> None:
        """Where a calibration stands."""
        parts = [f"{at.done}/{at.trainings} trainings"]
        if at.epoch:
            parts.append(f"{at.kind}, epoch {at.epoch}/{at.epochs}")
        if at.accuracy is not None:
            parts.append(f"{percent(at.accuracy)} on the held-out part")
        parts.append(f"about {short_time(at.seconds_left)} left")
        within = at.epoch / at.epochs if at.epoch < at.epochs else 0
        final = at.done == at.trainings
        self._update("calibrate", at.done + within, at.trainings, " · ".join(parts), final=final)

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


def show_check(found: Check, requirements: Requirements, file: Path) -> None:
    """All of ``collabdesign check``.

    Args:
        found: To show.
        requirements: That were checked.
        file: Where the person wrote them.
    """
    _show_space(found.feasibility, requirements)
    _show_default(found.feasibility)
    for part in found.data:
        _show_data(part)
    if found.parts is not None:
        _show_parts(found.parts, requirements)
    if found.time is not None:
        _show_time(found.time, requirements)
    if found.unreadable:
        out.print("\n[red]Not ready:[/] mend or remove the unreadable pictures.")
    elif found.feasibility.possible:
        out.print("\n[green]Ready[/] to search.")
        out.print(
            "Whether the proxy ranks networks as their full training does: "
            f"collabdesign calibrate {shlex.quote(str(file))}",
            markup=False,
        )


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

    table = _table("network", "MACs", "proxy", "full")
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
        out.print(f"  {name} {_interval(each)}")
    if found.failed:
        out.print(f"  {found.failed} more could not be trained both ways and are left out")
    out.print(
        f"[bold]Noise between seeds[/] of one proxy: a standard deviation of "
        f"{100 * found.noise:.2f} points; [bold]{found.noise_sentence}[/]"
    )
    table = _table("proxy epochs", "steps", "seconds", "Spearman, one seed")
    for budget in found.budgets:
        mark = " *" if budget.asked == found.asked else ""
        table.add_row(
            f"{budget.epochs}{mark}",
            str(budget.steps),
            f"{budget.seconds:.1f}",
            _interval(budget.spearman),
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


def show_lengthened(requirements: Requirements, images: int) -> None:
    """Which trainings have more epochs than the file asks, on so many training images."""
    from collabdesign.evaluate.plan import plan_training

    asked = {
        "search.proxy": requirements.search.proxy,
        "family.training": requirements.family.training,
    }
    for key, recipe in asked.items():
        epochs = plan_training(images, recipe).epochs
        if epochs > recipe.epochs:
            err.print(
                f"{key}.epochs: {epochs} instead of {recipe.epochs}, so that {images:,} images "
                f"make {recipe.min_steps} steps ({key}.min_steps)",
                markup=False,
            )


def show_calibrated(run_dir: Path, requirements: Requirements, data_fingerprint: str) -> None:
    """Before a search: what is known of its proxy, and a better one if one was found."""
    from collabdesign.explore.calibration import (
        CALIBRATION,
        KEPT_CORRELATION,
        calibration_of,
        misfits,
        proxy_goal,
    )

    found = calibration_of(run_dir, requirements, data_fingerprint)
    if others := misfits(run_dir, requirements, data_fingerprint):
        err.print(
            f"{run_dir / CALIBRATION} is of something else and not used: {'; '.join(others)}",
            markup=False,
        )
    if found is None:
        return
    err.print(
        f"calibrated: Spearman {_interval(found.spearman)} between proxies of "
        f"{found.proxy_epochs} epochs and full training; {found.noise_sentence}",
        markup=False,
    )
    asked, aim = requirements.goals.accuracy, proxy_goal(requirements, found)
    if asked is not None and aim is not None:
        means = f"needs a proxy_accuracy of about {percent(aim)}: proposals aim there"
        if asked > max(point.full for point in found.points):
            means = (
                "was reached by no network of the calibration: proposals aim at the best proxies "
                f"there were, from {percent(aim)}"
            )
        err.print(f"goals.accuracy {percent(asked)} {means}", markup=False)
    best, proxy = found.cheapest, requirements.search.proxy
    if best is not None and best.asked != proxy.epochs and "epochs" not in proxy.model_fields_set:
        err.print(
            f"a proxy of {best.epochs} epochs was the cheapest that keeps Spearman at "
            f"{KEPT_CORRELATION}: --set search.proxy.epochs={best.asked}, for which the same "
            "calibrate command is to be repeated; what is trained counts",
            markup=False,
        )


def _interval(found: Estimate) -> str:
    return f"{found.value:.2f} (95 % interval {found.low:.2f} to {found.high:.2f})"


def show_counts(record: Record) -> None:
    """What became of the proposals of a search."""
    parts = [f"{counted(len(record.trained), 'network')} trained"]
    if record.stopped:
        saved = percent(record.epochs_saved)
        parts.append(f"{len(record.stopped)} stopped early ({saved} of the epochs saved)")
    parts += [
        f"{len(record.failed)} failed",
        f"{counted(record.rejected, 'proposal')} rejected over a limit",
        f"{record.repeated} repeated",
    ]
    out.print(", ".join(parts))


def show_findings(view: ReportView) -> None:
    """What a search taught besides its networks, as the report shows it."""
    from collabdesign.deliver.report.page import prediction_words

    if view.hypervolume:
        trials, volume = view.hypervolume[-1]
        out.print(f"hypervolume of the front: {volume:.3f} after {trials} trials")
    words = prediction_words(view)
    if words:
        out.print(words, markup=False)
    if view.importance is not None and view.importance.modules:
        few = [f"{label} ({100 * value:.0f} %)" for label, value in view.importance.modules[:3]]
        out.print(f"What mattered most for proxy accuracy: {', '.join(few)}", markup=False)
    if view.calibration is not None:
        out.print(f"Of proxies, {view.calibration.noise_sentence}", markup=False)
    else:
        out.print(f"The proxy was not calibrated: {view.calibrate_command}", markup=False)


def show_family(certificates: Sequence[Certificate], record: Record) -> None:
    """One row a member, then what is not met."""
    table = _table("family", "MACs", "params", "select", "test", "95 % interval", "requirements")
    proposed_by = {each.number: each.proposed_by for each in record.candidates}
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
    if certificates:
        said = [f"{each.name} {proposed_by.get(each.candidate, '-')}" for each in certificates]
        out.print(f"proposed by: {', '.join(said)}", markup=False)


def show_finalists(finalists: Sequence[FinalistView]) -> None:
    """How the place of the most accurate member was settled, where several came near."""
    said = []
    for each in sorted(finalists, key=lambda each: -(each.select_accuracy or 0.0)):
        name = f"candidate {each.candidate}"
        if each.proposed_by == "prototype":
            name = f"the prototype's default ({name})"
        reached = each.select_accuracy
        said.append(f"{name} {'failed' if reached is None else percent(reached)}")
    if said:
        out.print(
            f"first place, after a full training each, held-out part: {', '.join(said)}",
            markup=False,
        )


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
    stopped = f"{len(record.stopped)} stopped early, " if record.stopped else ""
    out.print(f"[bold]{escape(requirements.name)}[/]: {state}")
    out.print(
        f"  {len(finished)} of {requirements.search.trials} trials "
        f"({len(record.trained)} trained, {stopped}{len(record.failed)} failed), "
        f"{record.rejected} rejected, {record.repeated} repeated"
    )
    if workers:
        out.print(f"  {workers} {'worker' if workers == 1 else 'workers'} at work")
    if record.stopped:
        out.print(f"  stopping early saved {percent(record.epochs_saved)} of the proxies' epochs")
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


def _show_parts(parts: tuple[int, int, int], requirements: Requirements) -> None:
    from collabdesign.evaluate.plan import plan_training

    learn, choose, test = parts
    out.print(
        f"  of these {learn:,} to learn from, {choose:,} held out to choose by (one picture is "
        f"{100 / choose:.2g} points), {test:,} to test (one is {100 / test:.2g})"
    )
    show_lengthened(requirements, learn)
    proxy = plan_training(learn, requirements.search.proxy).epochs
    full = plan_training(learn, requirements.family.training).epochs
    if proxy >= full:
        out.print(
            f"[yellow]A proxy of {proxy} epochs is no shorter than the full training of {full}[/]: "
            "it saves nothing"
        )


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
        f"[bold]Time[/] on {found.device}, measured on {counted(found.networks, 'network')}: "
        f"{middle:,.0f} images/s ({slow:,.0f} to {fast:,.0f}); a proxy takes about "
        f"{short_time(found.proxy_seconds)}, {requirements.search.trials} trials "
        f"{short_time(usual)} ({short_time(shortest)} to {short_time(longest)}), the full "
        f"trainings of the family and its finalists at most {short_time(found.family_seconds)}"
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
