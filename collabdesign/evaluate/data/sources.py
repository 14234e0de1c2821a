"""Labelled pictures from a folder, from scikit-learn's digits, from torchvision's named sets.

A source is a row of ``SOURCES``, and one of the table of the same name that says what a person
writes, :mod:`collabdesign.design.sources`. scikit-learn and torchvision are imported only where
their data is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from collabdesign.design import sources as design
from collabdesign.design.folders import differing
from collabdesign.design.sources import Data
from collabdesign.errors import InputError, Problem
from collabdesign.evaluate.data.folder import FolderListing, list_folder
from collabdesign.evaluate.data.pictures import UnreadableImage, read_image

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """Labelled pictures before any of them is needed.

    Attributes:
        class_names: A label is an index into them.
        labels: int64 [N].
        read: From an index to a picture; raises ``UnreadableImage``.
        name: From an index to what a person calls the picture.
        listing: The same pictures as files in a folder, where they are a person's own.
    """

    class_names: tuple[str, ...]
    labels: Integers
    read: Callable[[int], Image.Image]
    name: Callable[[int], str]
    listing: FolderListing | None = None


@dataclass(frozen=True)
class Reader:
    """How a source is read.

    Attributes:
        train: Everything but the test part, where that is a source of its own.
        test: The test part: of a source that always has one, or where ``data.test`` is a path.
    """

    train: Callable[[Data], Source]
    test: Callable[[Data], Source]


def train_source(data: Data) -> Source:
    """Everything that is not the source's own test part; of a folder no file is opened.

    Raises:
        InputError: The data is missing, or does not have the classes that are asked for.
    """
    source = SOURCES[data.source].train(data)
    if len(source.class_names) != data.classes:
        raise InputError(
            f"data.classes must be the {len(source.class_names)} classes that the data has, "
            f"got {data.classes}"
        )
    return source


def has_own_test(data: Data) -> bool:
    """Whether the test part is a source of its own, so that none is put aside from train."""
    return "test" not in design.SOURCES[data.source].own or isinstance(data.test, Path)


def test_source(data: Data, train: Source | None = None) -> Source:
    """The test part that is a source of its own; of a folder no file is opened.

    Where its classes must be compared with those of train, and that is None, it is looked for.

    Raises:
        InputError: The data is missing, or its classes are not those of train.
    """
    source = SOURCES[data.source].test(data)
    if isinstance(data.test, Path):
        train = train or train_source(data)
        if got := differing(train.class_names, source.class_names):
            rule = "data.test must have the class folders of data.train"
            raise InputError(f"{rule}, got {got} in {data.test}")
    return source


def _test_folder(data: Data) -> Source:
    assert isinstance(data.test, Path), "only asked where has_own_test"
    return _folder_source(data.test)


def _train_folder(data: Data) -> Source:
    if data.train is None:
        raise InputError("data.train must be written, a folder with one folder a class")
    return _folder_source(data.train)


def _folder_source(root: Path) -> Source:
    listing = list_folder(root)
    return Source(
        class_names=listing.classes,
        labels=np.array([label for _, label in listing.files], dtype=np.int64),
        read=lambda index: read_image(listing.files[index][0]),
        name=lambda index: str(listing.files[index][0]),
        listing=listing,
    )


def _digits(data: Data) -> Source:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # The pixels are counts from 0 to 16.
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    return Source(
        class_names=tuple(str(name) for name in bunch.target_names),
        labels=bunch.target.astype(np.int64),
        read=lambda index: Image.fromarray(pixels[index]),
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

    def read(index: int) -> Image.Image:
        try:
            image: Image.Image = images[index][0]
        # As in read_image: decoders raise nearly anything, and the reason is reported.
        except Exception as error:
            raise UnreadableImage(named(index), str(error)) from None
        return image

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
}
