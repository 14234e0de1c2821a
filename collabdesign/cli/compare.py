"""``collabdesign compare``: the family beside well-known networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.markup import escape

from collabdesign.cli.display import Display, note, out, print_json, say
from collabdesign.cli.options import machine_of
from collabdesign.cli.sheet import Sheet
from collabdesign.deliver.comparison import COMPARISON, NETSCORE, Comparison, Row
from collabdesign.deliver.report.words import counted, percent, short_count

_NOTHING = "\N{EN DASH}"


def compare(
    run_dir: Path,
    networks: tuple[str, ...],
    seeds: int,
    random_run: Path | None,
    as_json: bool,
    **machine: Any,
) -> int:
    """Train well-known networks as the family was trained, and compare."""
    where, display = machine_of(machine), Display()
    from collabdesign.explore.progress import Notice
    from collabdesign.pipeline import compare as train_and_compare

    def on_event(event: Any) -> None:
        if isinstance(event, Notice):
            note(event.text)
        else:
            display.tell(event)

    with display.shown():
        found = train_and_compare(
            run_dir,
            networks=networks,
            seeds=seeds,
            random_run=random_run,
            machine=where,
            on_event=on_event,
        )
    if as_json:
        print_json(found.to_dict())
    else:
        _show(found)
        say(f"written: {run_dir / COMPARISON}, {run_dir / 'report.html'}")
    return 0


def _show(found: Comparison) -> None:
    table = Sheet("network", "MACs", "params", "epochs", "test", "score", "ms", "int8 ms")
    for row in found.rows:
        table.add_row(escape(row.name), *_cells(row))
    out.print(table)
    for row in found.rows:
        if row.note:
            out.print(f"  {escape(row.name)}: [yellow]{escape(row.note)}[/]")
    if found.differences:
        first = found.members[0].name
        table = Sheet(f"{first} less", "points (95 % interval)", "seeds")
        for each in found.differences:
            if each.member == first:
                table.add_row(escape(each.baseline), each.words, str(each.seeds))
        out.print(table)
        if len(found.members) > 1:
            say("The differences of the other members are in the report.")
    if found.seeds == 1:
        say("With one seed there is no interval: a difference may be luck. --seeds 3 has one.")
    say(f"test: accuracy, mean of {counted(found.seeds, 'seed')} and standard deviation.")
    say(f"score: {NETSCORE}.")
    say(f"ms: {found.onnx}.")
    for slower in found.slower:
        say(f"Slower though more accurate: {slower.words}.")
    for sentence in found.rule.splitlines():
        say(f"- {sentence}")


def _cells(row: Row) -> list[str]:
    def shown(value: Any, words: Callable[[Any], str]) -> str:
        return _NOTHING if value is None else words(value)

    accuracy = shown(row.mean, percent)
    if row.deviation is not None:
        accuracy += f" ± {100 * row.deviation:.1f}"
    return [
        shown(row.macs, short_count),
        shown(row.params, short_count),
        shown(row.epochs, str),
        accuracy,
        shown(row.netscore, "{:.1f}".format),
        shown(row.onnx_ms, "{:.3g}".format),
        shown(row.onnx_int8_ms, "{:.3g}".format),
    ]
