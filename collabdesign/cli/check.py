"""``collabdesign check``: the space, the data and the machine, before any training."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from collabdesign.cli.display import Display, named, out, print_json, say
from collabdesign.cli.search import show_lengthened
from collabdesign.cli.sheet import Sheet
from collabdesign.deliver.report.words import (
    HEADS,
    QUANTITIES,
    counted,
    percent,
    quantities_of,
    short_count,
    short_quantity,
    short_time,
)
from collabdesign.design.files.reading import load_requirements
from collabdesign.design.files.units import few
from collabdesign.design.requirements import Requirements
from collabdesign.errors import CollabdesignError, NothingFits
from collabdesign.evaluate.plan import is_shorter, plan_training
from collabdesign.explore.feasible import Feasibility, explain

if TYPE_CHECKING:
    from collabdesign.evaluate.data.inspect import Copies, DataPart
    from collabdesign.explore.check import TimeEstimate


def check(
    file: Path, overrides: tuple[str, ...], device: str | None, threads: int | None, as_json: bool
) -> int:
    """Look at the space, the data and the machine before any training."""
    requirements = load_requirements(file, overrides)
    import torch

    from collabdesign.evaluate.memory import keep_freed_memory
    from collabdesign.explore.check import check as look
    from collabdesign.explore.environment import threads_for

    keep_freed_memory()
    torch.set_num_threads(threads or threads_for(requirements.limits.macs))
    with Display().shown() as display:
        found = look(requirements, device=device, on_progress=display.count)
    if as_json:
        print_json(found)
    else:
        _show_space(found.feasibility, requirements)
        _show_default(found.feasibility)
        for part in found.data:
            _show_data(part)
        if found.lacking:
            out.print(f"  [yellow]test has no picture of {escape(few(found.lacking))}[/]")
        if found.copies is not None:
            _show_copies(found.copies)
        if found.parts is not None:
            _show_parts(found.parts, requirements)
        if found.cache is not None:
            say(f"  decoded pictures are kept in {found.cache}")
        if found.time is not None:
            _show_time(found.time, requirements)
        if found.unreadable:
            out.print("\n[red]Not ready:[/] mend or remove the unreadable pictures.")
        elif found.possible:
            out.print("\n[green]Ready[/] to search.")
            say(
                "Whether the proxy ranks networks as their full training does: "
                f"collabdesign calibrate {shlex.quote(str(file))}"
            )
    if not found.feasibility.possible:
        return NothingFits.exit_code
    return CollabdesignError.exit_code if found.unreadable else 0


def _show_space(found: Feasibility, requirements: Requirements) -> None:
    out.print(
        f"[bold]Space[/]: {found.parameters} parameters, about {float(found.parameter_sets):.1e} "
        "parameter sets"
    )
    names = quantities_of(requirements)
    table = Sheet("", *(HEADS[name] for name in names))
    rows: dict[str, Mapping[str, float] | None] = {
        "smallest found": found.smallest,
        "median": found.median,
        "largest found": found.largest,
        "prototype as drawn": found.own_cost,
        "prototype's default": found.default_cost,
        "limit": requirements.limits.model_dump(exclude_none=True),
    }
    for title, row in rows.items():
        if row is not None:
            shown = {name: short_quantity(name, value) for name, value in row.items()}
            table.add_row(title, *(shown.get(name, "-") for name in names))
    shares = {name: f"{100 * share.value:.1f} %" for name, share in found.fits.items()}
    table.add_row("proposals that fit", *(shares.get(name, "-") for name in names))
    out.print(table)
    every = found.fits["all"]
    low, high = every.interval
    out.print(
        f"All limits: {100 * every.value:.1f} % of {every.of:,} random proposals fit "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
        + (f"; [bold]{found.binding}[/] binds" if found.binding else "")
    )
    _show_measured(found)
    if not found.possible:
        out.print(f"[red]{escape(explain(found, requirements))}[/]")
    for change in found.changes if found.possible else ():
        out.print(f"[yellow]{escape(change)}[/]")


def _show_measured(found: Feasibility) -> None:
    """How the default network was measured, and what is expected of all others."""
    for name, row in found.expectations.items():
        title = QUANTITIES[name]
        default = "prototype's default" if found.possible else "nearest network"
        out.print(
            f"[bold]{title.capitalize()}[/] of the {default}: "
            f"{short_quantity(name, found.closest[name])}, {escape(row.way)}"
        )
        share = ""
        if (fits := found.fits.get(name)) is not None:
            share = f"{100 * fits.value:.1f} % of random proposals are expected to fit, "
        say(
            f"  {share}half of them below {short_quantity(name, row.median)}: predicted from "
            f"{counted(row.networks, 'measured network')}, each missed by about "
            f"{percent(row.error, 0)} from the others"
        )


def _show_default(found: Feasibility) -> None:
    title, parts = "prototype's default", found.default
    if parts is None:
        title, parts = "prototype as drawn", found.own
    table = Sheet(title, "pixels", "channels", "MACs", "share", "params")
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
    least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    spread = f"{counts[least]:,} ({escape(least)}) to {counts[most]:,} ({escape(most)}) a class"
    if counts[least] == counts[most]:
        spread = f"{counts[least]:,} of each class"
    sizes = ", ".join(f"{size} ({n:,})" for size, n in list(part.sizes.items())[:3])
    more = f" and {len(part.sizes) - 3} more" if len(part.sizes) > 3 else ""
    opened = f"{part.inspected:,} opened, the others are not used"
    if part.inspected == part.images:
        opened = "all opened"
    out.print(
        f"[bold]Data, {part.name}[/]: {part.images:,} pictures "
        f"({opened}), {len(counts)} classes, {spread}; "
        f"sizes {sizes}{more}"
    )
    if part.inner:
        say(f"  folders inside of classes: {part.inner:,}, whose pictures count into the class")
    for advice, count in part.unsupported.items():
        say(f"  [yellow]{counted(count, 'file')} not read[/]: {escape(advice)}")
    if part.animated:
        say(f"  animated, or of several pages: {part.animated:,}; the first picture of each counts")
    for profile, count in part.profiles.items():
        say(
            f"  colour profile {escape(profile)}: {counted(count, 'picture')}; it is not applied, "
            "here and in model.py the numbers are taken as they are"
        )
    named("passed over", part.stray)
    named("[red]unreadable[/]", [f"{path}: {reason}" for path, reason in part.unreadable])


def _show_copies(found: Copies) -> None:
    """Pictures that stand there twice."""
    rows = (
        ("in_test", found.in_test, "of test are learnt from or chosen by, and are left out there"),
        ("in_select", found.in_select, "held out are learnt from, and are left out there"),
        ("two_classes", found.two_classes, "have two classes: correct one of the two"),
        ("near", found.near, "held out or of test look like one that is learnt from; they count"),
    )
    for name, count, words in rows:
        if count:
            out.print(f"  [yellow]{counted(count, 'picture')} {words}[/]")
            pairs = [f"{pair.one} = {pair.other}" for pair in found.pairs[name]]
            named("the same" if name != "near" else "alike", pairs, count)


def _show_parts(parts: tuple[int, int, int], requirements: Requirements) -> None:
    learn, choose, test = parts
    say(
        f"  of these {learn:,} to learn from, {choose:,} held out to choose by (one picture is "
        f"{100 / choose:.2g} points), {test:,} to test (one is {100 / test:.2g})"
    )
    show_lengthened(requirements, learn)
    proxy, full = requirements.search.proxy, requirements.family.training
    if proxy.images is not None:
        share = f"{100 * proxy.images / learn:.3g} %"
        say(f"  proxies learn from {proxy.images:,} of the {learn:,} ({share}), the same for each")
    if not is_shorter(proxy, full, learn):
        short, long = (plan_training(learn, each).epochs for each in (proxy, full))
        out.print(
            f"[yellow]A proxy of {short} epochs is no shorter than the full training of {long}[/]: "
            "it saves nothing"
        )


def _show_time(found: TimeEstimate, requirements: Requirements) -> None:
    slow, middle, fast = found.images_per_second
    longest, usual, shortest = map(short_time, found.search_seconds)
    out.print(
        f"[bold]Time[/] on {found.device}, measured on {counted(found.networks, 'network')}: "
        f"{middle:,.0f} images/s ({slow:,.0f} to {fast:,.0f}); a proxy takes about "
        f"{short_time(found.proxy_seconds)}, {requirements.search.trials} trials "
        f"{usual} ({shortest} to {longest}), the full "
        f"trainings of the family and its finalists at most {short_time(found.family_seconds)}"
    )
