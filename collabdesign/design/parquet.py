"""Pictures inside of parquet files, as Hugging Face's datasets have them: an image column of
encoded files, a label column of names or of numbers whose names stand in the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from collabdesign.design.folders import Fault, class_name, differing, may_lack
from collabdesign.errors import InputError, Problem

_PARTS = ("train", "test")


@dataclass(frozen=True)
class Shard:
    """One parquet file.

    Attributes:
        path: Of the file.
        labels: As they stand there, one a row.
    """

    path: Path
    labels: tuple[Any, ...]


@dataclass(frozen=True)
class Shards:
    """The files of one part.

    Attributes:
        files: In the order of their names.
        names: Of numbered classes; empty where the file does not tell them.
    """

    files: tuple[Shard, ...]
    names: tuple[str, ...]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The class of each row, as text."""
        found = (label for shard in self.files for label in shard.labels)
        return tuple(self.names[each] if self.names else class_name(str(each)) for each in found)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """In the order of their numbers, else sorted."""
        return self.names or tuple(sorted(set(self.labels), key=_by_number))


def read_shards(path: Path, part: str, label_column: str) -> Shards | None:
    """The labels of a part; no picture is read.

    Args:
        path: A file, or a folder of files. Where names of files in a folder begin with train and
            test, each part has its own; else all are train's.
        part: ``train`` or ``test``.
        label_column: Its name.

    Returns:
        None where the folder has none for the test part.

    Raises:
        InputError: pyarrow is not installed, there are no such files, or these cannot be read.
    """
    try:
        import pyarrow.parquet as pq
        from pyarrow import ArrowException
    except ImportError:
        raise InputError(
            Problem(
                "parquet files need the package pyarrow",
                "pip install 'collabdesign[parquet]'",
            )
        ) from None
    if path.is_dir():
        files = sorted(path.glob("*.parquet"))
        own = {each: [file for file in files if file.name.startswith(each)] for each in _PARTS}
        if part == "test" and not own["test"]:
            return None
        files = own[part] or [file for file in files if file not in own["test"]]
    else:
        files = [path] if part == "train" else []
        if not files:
            return None
    if not files:
        raise InputError(f"a folder of parquet files must hold some, got none in {path}")
    shards: list[Shard] = []
    names: tuple[str, ...] = ()
    for file in files:
        try:
            table = pq.ParquetFile(file)
            if label_column not in table.schema_arrow.names:
                raise InputError(
                    Problem(
                        f"{file} must have the column {label_column!r}, it has "
                        f"{', '.join(table.schema_arrow.names)}",
                        "write data.label_column, and data.image_column where that differs too",
                    )
                )
            labels = table.read(columns=[label_column]).column(0).to_pylist()
        except (OSError, ArrowException) as error:
            raise InputError(f"a parquet file must be readable, got {file}: {error}") from None
        if missing := [row for row, label in enumerate(labels) if label is None]:
            raise InputError(f"each row of {file} must have a label, row {missing[0]} has none")
        names = _class_names(table.schema_arrow.metadata or {}, label_column) or names
        shards.append(Shard(file, tuple(labels)))
    if names:
        wrong = [each for shard in shards for each in shard.labels if not _is_index(each, names)]
        if wrong:
            raise InputError(
                f"the labels of {path} must be numbers below {len(names)}, got {wrong[0]!r}"
            )
    return Shards(tuple(shards), names)


def look_into_parquet(
    files: Mapping[str, str], data: Mapping[str, Any]
) -> tuple[int | None, list[Fault]]:
    """Count the classes of ``train``, and compare those of its test part.

    Args:
        files: Absolute paths by key.
        data: As it is written.

    Returns:
        The number of classes, None where that cannot be told, and all that is wrong.
    """
    column = data.get("label_column") or "label"
    faults: list[Fault] = []
    found: dict[str, Shards | None] = {}
    for key, part in [("train", "train"), ("test", "train")]:
        if key in files:
            try:
                found[key] = read_shards(Path(files[key]), part, column)
            except InputError as error:
                faults += [Fault(key, f"data.{key}: {p.message}", p.hint) for p in error.problems]
    train = found.get("train")
    if train is None:
        return None, faults
    test = found.get("test")
    if "test" not in files and not faults:
        test = read_shards(Path(files["train"]), "test", column)
    if test is not None and (got := differing(train.classes, set(test.labels), may_lack(data))):
        faults.append(Fault("test", f"the test part must have the classes of train, got {got}", ""))
    return len(train.classes), faults


def _class_names(metadata: Mapping[bytes, bytes], column: str) -> tuple[str, ...]:
    """As Hugging Face's datasets write them beside the schema."""
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][column]
        names = feature["names"]
    except (KeyError, ValueError, TypeError):
        return ()
    return tuple(class_name(str(name)) for name in names)


def _is_index(label: Any, names: tuple[str, ...]) -> bool:
    return isinstance(label, int) and 0 <= label < len(names)


def _by_number(name: str) -> tuple[int, int, str]:
    """Numbers by their value, before words."""
    return (0, int(name), "") if name.isdecimal() else (1, 0, name)
