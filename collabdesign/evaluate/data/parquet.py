"""Pictures inside of parquet files. pyarrow is imported only here, and where their labels are
read."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from collabdesign.design.parquet import Shard, read_shards
from collabdesign.design.sources import Data
from collabdesign.errors import InputError
from collabdesign.evaluate.data.pictures import Picture, UnreadableImage, read_bytes
from collabdesign.evaluate.data.source import Source

# Groups of rows that are kept decoded from parquet: pictures are read in their order, by threads.
_KEPT_GROUPS = 4


class _Column:
    """The image column of one file; a group of rows is read at once, and some are kept."""

    def __init__(self, shard: Shard, name: str) -> None:
        import pyarrow.parquet as pq

        self.path = shard.path
        self._name = name
        self._file = pq.ParquetFile(shard.path)
        if name not in self._file.schema_arrow.names:
            raise InputError(
                f"{shard.path} must have the column {name!r}, write data.image_column; it has "
                f"{', '.join(self._file.schema_arrow.names)}"
            )
        groups = self._file.metadata
        rows = [groups.row_group(each).num_rows for each in range(groups.num_row_groups)]
        self._ends = np.cumsum(rows)
        self._kept: OrderedDict[int, list[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def at(self, row: int) -> Any:
        """The value of a row."""
        group = int(np.searchsorted(self._ends, row, side="right"))
        first = int(self._ends[group - 1]) if group else 0
        with self._lock:
            if group not in self._kept:
                table = self._file.read_row_group(group, columns=[self._name])
                self._kept[group] = table.column(0).to_pylist()
                while len(self._kept) > _KEPT_GROUPS:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(group)
            return self._kept[group][row - first]


def parquet_source(part: str, data: Data) -> Source | None:
    """The train or test part; None where a part of train is put aside as test.

    Raises:
        InputError: The files cannot be read.
    """
    assert data.train is not None, "it must be written"
    if part == "test" and isinstance(data.test, Path):
        shards = read_shards(data.test, "train", data.label_column)
    elif part == "test" and data.test is not None:
        shards = None  # a fraction
    else:
        shards = read_shards(data.train, part, data.label_column)
    if shards is None:
        return None
    places = {name: label for label, name in enumerate(shards.classes)}
    labels = np.array([places[name] for name in shards.labels], dtype=np.int64)
    columns = [_Column(shard, data.image_column) for shard in shards.files]
    ends = np.cumsum([len(shard.labels) for shard in shards.files])

    def place(index: int) -> tuple[_Column, int]:
        number = int(np.searchsorted(ends, index, side="right"))
        return columns[number], index - (int(ends[number - 1]) if number else 0)

    def name(index: int) -> str:
        column, row = place(index)
        return f"row {row} of {column.path}"

    def read(index: int) -> Picture:
        column, row = place(index)
        value = column.at(row)
        content = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(content, bytes):
            return read_bytes(content, name(index), data.max_megapixels)
        raise UnreadableImage(name(index), "the file of a picture must stand in the row")

    # Of each file once: a row has no time of its own.
    status = [os.stat(column.path) for column in columns]
    versions = [f"{each.st_size} {each.st_mtime_ns} {each.st_ctime_ns}" for each in status]

    def version(index: int) -> str:
        column, row = place(index)
        return f"{column.path.name} {versions[columns.index(column)]} {row}"

    return Source(shards.classes, labels, read, name, version)
