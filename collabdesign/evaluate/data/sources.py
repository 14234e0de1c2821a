"""Labelled pictures from folders, tables, parquet files, scikit-learn's digits and torchvision's
named sets.

A source is a row of ``SOURCES``, and one of the table of the same name that says what a person
writes, :mod:`collabdesign.design.sources`. What reads it is imported only where its data is asked
for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from collabdesign.design.folders import differing
from collabdesign.design.sources import Data
from collabdesign.design.tables import Row, read_table
from collabdesign.errors import InputError, Problem
from collabdesign.evaluate.data.folder import list_folder
from collabdesign.evaluate.data.parquet import parquet_source
from collabdesign.evaluate.data.pictures import Picture, UnreadableImage, read_picture
from collabdesign.evaluate.data.source import Source


@dataclass(frozen=True)
class Sources:
    """All pictures of the data.

    Attributes:
        train: To learn from and to choose by, and where ``test`` is None to test on too.
        test: The test part where it is a source of its own, with labels of train's classes.
    """

    train: Source
    test: Source | None

    @property
    def lacking(self) -> tuple[str, ...]:
        """Classes that have no picture in a test part of its own."""
        if self.test is None:
            return ()
        counts = np.bincount(self.test.labels, minlength=len(self.train.class_names))
        names = zip(self.train.class_names, counts.tolist(), strict=True)
        return tuple(name for name, count in names if not count)


@dataclass(frozen=True)
class Reader:
    """How a source is read.

    Attributes:
        train: Everything but the test part, where that is a source of its own.
        test: The test part, None where a part of train is put aside as test.
    """

    train: Callable[[Data], Source]
    test: Callable[[Data], Source | None]


def open_sources(data: Data) -> Sources:
    """All pictures, none of them opened.

    Raises:
        InputError: The data is missing, does not have the classes that are asked for, or test has
            others than train.
    """
    reader = SOURCES[data.source]
    train = reader.train(data)
    if len(train.class_names) != data.classes:
        raise InputError(
            f"data.classes must be the {len(train.class_names)} classes that the data has, "
            f"got {data.classes}"
        )
    test = reader.test(data)
    return Sources(train, test and _with_classes_of(train, test, data))


def _with_classes_of(train: Source, test: Source, data: Data) -> Source:
    if test.class_names == train.class_names:
        return test
    if got := differing(train.class_names, test.class_names, data.test_may_lack_classes):
        rule = "data.test must have the class folders of data.train"
        raise InputError(f"{rule}, got {got} in {data.test or data.train}")
    places = np.array([train.class_names.index(name) for name in test.class_names])
    return replace(test, class_names=train.class_names, labels=places[test.labels])


# -- files ------------------------------------------------------------------------------------


def _of_files(
    paths: Sequence[str], labels: Sequence[int], classes: Sequence[str], root: Path, data: Data
) -> Source:
    """Pictures in files; a picture is another one when size or times of its file are."""
    above = f"{root}{os.sep}"

    def version(index: int) -> str:
        name = paths[index].removeprefix(above)
        try:
            status = os.stat(paths[index])
        except OSError:  # reading it says why
            return name
        return f"{name} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"

    return Source(
        class_names=tuple(classes),
        labels=np.array(labels, dtype=np.int64),
        read=lambda index: read_picture(paths[index], data.max_megapixels),
        name=paths.__getitem__,
        version=version,
    )


def _train_folder(data: Data) -> Source:
    assert data.train is not None, "it must be written"
    return _folder(data.train, data)


def _test_folder(data: Data) -> Source | None:
    return _folder(data.test, data) if isinstance(data.test, Path) else None


def _folder(root: Path, data: Data) -> Source:
    listing = list_folder(root)
    paths, labels = [path for path, _ in listing.files], [label for _, label in listing.files]
    return replace(_of_files(paths, labels, listing.classes, root, data), listing=listing)


def _train_table(data: Data) -> Source:
    assert data.train is not None, "it must be written"
    rows = read_table(data.train)
    return _table(data, data.train, [row for row in rows if not row.is_test or _puts_aside(data)])


def _test_table(data: Data) -> Source | None:
    assert data.train is not None, "it must be written"
    if isinstance(data.test, Path):
        return _table(data, data.test, read_table(data.test))
    rows = [row for row in read_table(data.train) if row.is_test]
    return _table(data, data.train, rows) if rows and not _puts_aside(data) else None


def _puts_aside(data: Data) -> bool:
    """Whether a fraction is to be the test part, so that a table's own pictures are train's too."""
    return data.test is not None and not isinstance(data.test, Path)


def _table(data: Data, file: Path, rows: Sequence[Row]) -> Source:
    classes = sorted({row.label for row in rows})
    places = {name: label for label, name in enumerate(classes)}
    paths, labels = [row.path for row in rows], [places[row.label] for row in rows]
    return _of_files(paths, labels, classes, file.parent, data)


def _train_parquet(data: Data) -> Source:
    source = parquet_source("train", data)
    assert source is not None, "there is always a train part"
    return source


# -- sets that others prepared ------------------------------------------------------------------


def _digits(data: Data) -> Source:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # The pixels are counts from 0 to 16.
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    return Source(
        class_names=tuple(str(name) for name in bunch.target_names),
        labels=bunch.target.astype(np.int64),
        read=lambda index: Picture.of(Image.fromarray(pixels[index])),
        name=lambda index: f"digit {index}",
    )


_BY_FLAG = {"train": {"train": True}, "test": {"train": False}}
_BY_SPLIT = {"train": {"split": "train"}, "test": {"split": "test"}}

# Each name in torchvision.datasets, and what its class is called with for either part.
_NAMED_SETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "CIFAR10": _BY_FLAG,
    "CIFAR100": _BY_FLAG,
    "MNIST": _BY_FLAG,
    "FashionMNIST": _BY_FLAG,
    "KMNIST": _BY_FLAG,
    "EMNIST": {part: {**flag, "split": "balanced"} for part, flag in _BY_FLAG.items()},
    "SVHN": _BY_SPLIT,
    "STL10": _BY_SPLIT,
    "Flowers102": _BY_SPLIT,
    "OxfordIIITPet": {**_BY_SPLIT, "train": {"split": "trainval"}},
    "Imagenette": {**_BY_SPLIT, "test": {"split": "val"}},
}


def _named_set(part: str, data: Data) -> Source:
    from torchvision import datasets

    if (name := data.dataset) is None:
        raise InputError(f"data.dataset must be written, one of {', '.join(_NAMED_SETS)}")
    root = data.root or Path("data")
    try:
        images = getattr(datasets, name)(root, download=data.download, **_NAMED_SETS[name][part])
    except (RuntimeError, OSError, ValueError) as error:
        if data.download:
            raise InputError(f"{name} could not be downloaded to {root}: {error}") from None
        raise InputError(
            Problem(
                f"{name} must stand in {root}, got no complete copy of it there",
                "write `download: true` under data to fetch it, or name its folder as data.root",
            )
        ) from None

    def named(index: int) -> str:
        return f"{name} {part} {index}"

    def read(index: int) -> Picture:
        try:
            return Picture.of(images[index][0])
        # As in read_picture: decoders raise nearly anything, and the reason is reported.
        except Exception as error:
            raise UnreadableImage(named(index), str(error)) from None

    labels = getattr(images, "targets", getattr(images, "labels", None))
    if labels is None:
        labels = [images[index][1] for index in range(len(images))]
    labels = np.asarray(labels, dtype=np.int64)
    names = getattr(images, "classes", None) or range(int(labels.max()) + 1)
    words = (each if isinstance(each, tuple) else (str(each),) for each in names)
    return Source(tuple(map(", ".join, words)), labels, read, named)


SOURCES: dict[str, Reader] = {
    "folder": Reader(_train_folder, _test_folder),
    "digits": Reader(_digits, _test_folder),
    "torchvision": Reader(partial(_named_set, "train"), partial(_named_set, "test")),
    "csv": Reader(_train_table, _test_table),
    "parquet": Reader(_train_parquet, partial(parquet_source, "test")),
}
