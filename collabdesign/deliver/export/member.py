"""The other forms of a member: written into its folder, judged once on test, timed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import nn

from collabdesign.deliver.certificate import read_certificate
from collabdesign.deliver.export.export import (
    Pictures,
    Written,
    test_accuracy,
    times_of,
    write_form,
)
from collabdesign.deliver.exported import Exported
from collabdesign.deliver.readings import read_test
from collabdesign.design.architecture import Architecture
from collabdesign.design.exports import EXPORTS
from collabdesign.errors import InputError
from collabdesign.evaluate.data.images import TestData
from collabdesign.files import write_bytes

# In the order of the table, whatever the order in which they are asked for.
_ORDER = {name: place for place, name in enumerate(EXPORTS)}


def export_member(
    names: Sequence[str],
    network: nn.Module,
    architecture: Architecture,
    pictures: Pictures,
    test: TestData | None,
    folder: Path,
    ledger: Path,
    on_refused: Callable[[str, InputError], None] | None = None,
) -> tuple[Exported, ...]:
    """Write forms of a network and find out how they do.

    Args:
        names: Keys of :data:`collabdesign.design.exports.EXPORTS`.
        network: Trained, on the CPU.
        architecture: Of the network.
        pictures: To calibrate and to compare on.
        test: The test part; None where it is not at hand.
        folder: Gets the files.
        ledger: Of readings of test.
        on_refused: Called with a form that cannot be written; the others are. Where it is None,
            that raises.

    Raises:
        InputError: An operation stands in the way of a form.
    """
    written = []
    for name in _in_order(names):
        try:
            written.append(write_form(name, network, architecture, pictures))
        except InputError as error:
            if on_refused is None:
                raise
            on_refused(name, error)
    shape = (architecture.input_channels, architecture.resolution, architecture.resolution)
    found = []
    for each, time in zip(written, times_of(written, shape), strict=True):
        write_bytes(folder / each.facts.file, each.content)
        facts = replace(each.facts, milliseconds=time)
        if test is not None:
            accuracy, readings = _judged(each, pictures, test, ledger)
            facts = replace(facts, test_accuracy=accuracy, test_readings=readings)
        found.append(facts)
    return tuple(found)


def _judged(
    written: Written, pictures: Pictures, test: TestData, ledger: Path
) -> tuple[float, int]:
    measure = partial(test_accuracy, written, pictures.mean, pictures.std, test)
    return read_test(written.facts.sha256, measure, test, ledger)


def joined(some: Sequence[Exported], others: Sequence[Exported]) -> tuple[Exported, ...]:
    """Rows of a certificate; of two of a form the one in ``others``."""
    rows = {each.format: each for each in (*some, *others)}
    return tuple(rows[name] for name in _in_order(tuple(rows)))


def kept_exports(folder: Path, weights_sha256: str, test_sha256: str) -> tuple[Exported, ...]:
    """What lies in a member's folder already, of these very weights, judged on this very test
    part and as its certificate says."""
    try:
        before = read_certificate(folder)
    except InputError:
        return ()
    if (before.weights_sha256, before.data.get("test_sha256")) != (weights_sha256, test_sha256):
        return ()
    return tuple(each for each in before.exports if is_whole(folder, each))


def is_whole(folder: Path, exported: Exported) -> bool:
    """Whether a file is the one that was written."""
    path = folder / exported.file
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == exported.sha256


def copy_kept(kept: Sequence[Exported], folder: Path, fresh: Path) -> None:
    """The files of rows, from one folder into another."""
    for each in kept:
        shutil.copyfile(folder / each.file, fresh / each.file)


def _in_order(names: Sequence[str]) -> list[str]:
    return sorted(names, key=_ORDER.__getitem__)
