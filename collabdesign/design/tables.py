"""Pictures that a table lists: a CSV file with the columns path, label and perhaps split."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from collabdesign.design.files.units import few
from collabdesign.design.folders import Fault, class_name, differing, may_lack
from collabdesign.errors import InputError, Problem

# What people call the parts; pictures of ``valid`` are train's, of which a part is held out.
_TRAIN, _TEST = ("", "train", "training", "val", "valid", "validation"), ("test", "testing")

_SHOWN = 5


class Row(NamedTuple):
    """One picture: its file, its class, and whether the table gives it to the test part."""

    path: str
    label: str
    is_test: bool


def read_table(file: Path) -> tuple[Row, ...]:
    """Read a table; paths are relative to its folder. No picture is opened.

    Raises:
        InputError: The file is missing, is no such table, or has lines that cannot be used.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        rule = f"a table of images must be a file that can be read, got {file}"
        raise InputError(f"{rule}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"a table of images must be UTF-8 text, {file} is not") from None
    first, _, _ = text.partition("\n")
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    heads = {name.strip().lower(): name for name in reader.fieldnames or () if name}
    if not {"path", "label"} <= heads.keys():
        raise InputError(
            Problem(
                "the first line of a table of images must name the columns path and label, got "
                f"{few(list(heads)) or 'nothing'} in {file}",
                "a column split with the words train and test is optional",
            )
        )
    rows, wrong = [], []
    for line in reader:
        values = {key: (line.get(name) or "").strip() for key, name in heads.items()}
        split = values.get("split", "").lower()
        if not values["path"] or not values["label"]:
            wrong.append(f"line {reader.line_num} has no {'label' if values['path'] else 'path'}")
        elif split not in (*_TRAIN, *_TEST):
            wrong.append(f"line {reader.line_num} has the split {split!r}, not train or test")
        else:
            label = class_name(values["label"])
            path = os.path.join(file.parent, values["path"])
            rows.append(Row(path, label, split in _TEST))
    if wrong:
        raise InputError(
            f"each line of a table of images must name a picture and its class, and in {file} "
            f"{few(wrong, _SHOWN)}"
        )
    if len({row.label for row in rows if not row.is_test}) < 2:
        raise InputError(f"a table of images must list at least two classes to learn, got {file}")
    return tuple(rows)


def look_into_tables(
    files: Mapping[str, str], data: Mapping[str, Any]
) -> tuple[int | None, list[Fault]]:
    """Count the classes of ``train``, and compare those of its test part.

    Args:
        files: Absolute paths by key.
        data: As it is written.

    Returns:
        The number of classes, None where that cannot be told, and all that is wrong.
    """
    faults: list[Fault] = []
    tables: dict[str, tuple[Row, ...]] = {}
    for key, file in files.items():
        try:
            tables[key] = read_table(Path(file))
        except InputError as error:
            faults += [Fault(key, f"data.{key}: {p.message}", p.hint) for p in error.problems]
    rows = tables.get("train")
    if rows is None:
        return None, faults
    train = {row.label for row in rows if not row.is_test}
    test = {row.label for row in tables.get("test", rows) if row.is_test or "test" in tables}
    if (test or "test" in tables) and (got := differing(train, test, may_lack(data))):
        faults.append(Fault("test", f"the test part must have the classes of train, got {got}", ""))
    return len(train), faults
