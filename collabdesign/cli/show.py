"""``collabdesign show``: one candidate of a run."""

from __future__ import annotations

from pathlib import Path

from collabdesign.cli.display import out, print_json, say
from collabdesign.deliver.report.words import describe, percent, short_quantity
from collabdesign.errors import InputError
from collabdesign.explore.study import read_record


def show(run_dir: Path, candidate: int, as_json: bool) -> int:
    """Describe one CANDIDATE of the run in DIR, by its number."""
    known = {each.number: each for each in read_record(run_dir).candidates}
    found = known.get(candidate)
    if found is None:
        numbers = ", ".join(map(str, known)) or "none"
        raise InputError(f"the candidate must be one of {numbers}, got {candidate}")
    if as_json:
        print_json({"number": found.number, **found.to_json()})
        return 0
    rows = {
        "architecture": found.architecture.id,
        "proposed by": found.proposed_by,
        "outcome": found.outcome + (f" ({found.reason})" if found.reason else ""),
    }
    if found.parent is not None:
        rows["began with the weights of"] = f"candidate {found.parent}"
    if found.accuracy is not None:
        rows["proxy_accuracy"] = percent(found.accuracy)
    rows |= {name: short_quantity(name, value) for name, value in found.cost.items()}
    out.print(f"[bold]candidate {found.number}[/]")
    for name, text in rows.items():
        say(f"  {name}: {text}")
    for line in describe(found.architecture):
        say(f"  {line}")
    return 0
