"""``collabdesign export``: a member in another form."""

from __future__ import annotations

from pathlib import Path

from collabdesign.cli.display import Display, out, print_json, say
from collabdesign.cli.member import requirements_of
from collabdesign.cli.sheet import Sheet
from collabdesign.deliver.exported import Exported
from collabdesign.deliver.report.words import percent, short_bytes
from collabdesign.errors import InputError

# Of --format and --int8.
_FORMS = {("onnx", False): "onnx", ("onnx", True): "int8", ("executorch", False): "executorch"}

_NOTHING = "\N{EN DASH}"


def export(
    folder: Path,
    form: str,
    int8: bool,
    calibrate: Path | None,
    file: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> int:
    """Write a member in another form."""
    if (form, int8) not in _FORMS:
        raise InputError(f"--int8 goes with --format onnx, got {form}")
    requirements = requirements_of(folder, file, overrides)
    from collabdesign.deliver.export.variant import export_variant

    name = _FORMS[form, int8]
    with Display().shown() as display:
        display.doing(f"exporting {name}")
        (made,) = export_variant(folder, [name], requirements, calibrate)
    if as_json:
        print_json(made)
        return 0
    table = Sheet("file", "size", "held out", "test", "ms", "peak activation")
    table.add_row(*_cells(made))
    out.print(table)
    found = made.parity
    say(
        f"Beside the network: the same class for {found.same_decisions:,} of {found.images:,} "
        f"images, logits differ by at most {found.largest_difference:.2g} "
        f"(the largest is {found.largest_logit:.3g})."
    )
    if made.differs:
        out.print("[red]That is more than rounding makes:[/]", made.differs)
    say(f"Run by {made.runtime}. Peak activation is counted, not measured.")
    say(f"written: {folder / made.file}")
    return 0


def _cells(made: Exported) -> list[str]:
    accuracies = [made.select_accuracy, made.test_accuracy]
    return [
        made.file,
        short_bytes(made.bytes),
        *(_NOTHING if each is None else percent(each) for each in accuracies),
        _NOTHING if made.milliseconds is None else f"{made.milliseconds[0]:.3g}",
        short_bytes(made.peak_activation_bytes),
    ]
