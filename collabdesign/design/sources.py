"""Where images come from, as a person writes it.

A source is a row of ``SOURCES``, and one of the table of the same name that reads it,
:mod:`collabdesign.evaluate.data.sources`. A key that no source has yet is one more field of
:class:`Data`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, StrictBool, model_validator

from collabdesign.design.files import values
from collabdesign.design.files.values import Section
from collabdesign.design.folders import Fault, look_into
from collabdesign.design.parquet import look_into_parquet
from collabdesign.design.tables import look_into_tables

DEFAULT_TEST = 0.2
"""Fraction put aside as test where the data has no test part and none is asked for."""

MAX_MEGAPIXELS = 89
"""Of a picture, unless ``data.max_megapixels`` says more: Pillow takes larger ones for attacks."""

_OF_FILES = ("max_megapixels", "test_may_lack_classes")


class Pictures(NamedTuple):
    """What is known of pictures without opening one.

    Attributes:
        resolution: A usual one where they differ in size.
        flip: Whether they may be mirrored: most digits, letters and characters become other
            ones, or none.
    """

    classes: int
    channels: int
    resolution: int
    flip: bool


@dataclass(frozen=True)
class SourceKeys:
    """One source, as a person writes it.

    Attributes:
        help: What it is, for a person who chooses one.
        own: Its keys of ``data`` that not every source has. With ``test`` among them a part of
            train can be put aside as test; without it the source has a test part.
        needs: Those that must be written.
        pictures: What is known of its pictures, by ``data.dataset`` or under None.
        paths: Where its paths lead that are not written, relative to the file.
        look: From the absolute paths of its folders or files, by key, and all of ``data`` as it is
            written, to what lies there, opening no picture.
        splits: Whether what ``train`` names may tell a test part itself.
    """

    help: str
    own: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    pictures: Mapping[str | None, Pictures] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    look: (
        Callable[[Mapping[str, str], Mapping[str, Any]], tuple[int | None, Sequence[Fault]]] | None
    ) = None
    splits: bool = False

    @property
    def untold(self) -> tuple[str, ...]:
        """Keys of ``data`` that must be written since the source does not tell them."""
        if self.pictures:
            return ()
        return ("resolution",) if self.look else ("resolution", "classes")


SOURCES: dict[str, SourceKeys] = {
    "folder": SourceKeys(
        help="your own images, a folder for each class",
        own=("train", "test", *_OF_FILES),
        needs=("train",),
        look=look_into,
    ),
    "digits": SourceKeys(
        help="scikit-learn's, no download",
        own=("test",),
        pictures={None: Pictures(10, 1, 8, False)},
    ),
    "torchvision": SourceKeys(
        help="one of its named data sets",
        own=("dataset", "root", "download"),
        needs=("dataset",),
        pictures={
            "CIFAR10": Pictures(10, 3, 32, True),
            "CIFAR100": Pictures(100, 3, 32, True),
            "MNIST": Pictures(10, 1, 28, False),
            "FashionMNIST": Pictures(10, 1, 28, True),
            "KMNIST": Pictures(10, 1, 28, False),
            "EMNIST": Pictures(47, 1, 28, False),
            "SVHN": Pictures(10, 3, 32, False),
            "STL10": Pictures(10, 3, 96, True),
            "Flowers102": Pictures(102, 3, 128, True),
            "OxfordIIITPet": Pictures(37, 3, 128, True),
            "Imagenette": Pictures(10, 3, 128, True),
        },
        paths={"root": "data"},
    ),
    "csv": SourceKeys(
        help="your own images, listed in a CSV file with the columns path, label, perhaps split",
        own=("train", "test", *_OF_FILES),
        needs=("train",),
        look=look_into_tables,
        splits=True,
    ),
    "parquet": SourceKeys(
        help="your own images inside of parquet files, as Hugging Face's datasets have them",
        own=("train", "test", "image_column", "label_column", *_OF_FILES),
        needs=("train",),
        look=look_into_parquet,
        splits=True,
    ),
}
"""The same keys stand in ``evaluate.data.sources.SOURCES``."""


class Data(Section):
    """The images, and how they are split and shown to a network."""

    source: Annotated[str, values.key_of(SOURCES)] = Field(
        description=" ".join(f"{name}: {row.help}." for name, row in SOURCES.items())
    )
    train: Annotated[Path, values.PATH] | None = Field(
        default=None,
        description="Folder that holds a folder of images for each class; of csv the table, of "
        "parquet a file or a folder of such files.",
    )
    test: Annotated[Path | float, values.path_or_fraction(0.5)] | None = Field(
        default=None,
        description="Like train, or the fraction of train that is put aside as test "
        f"(default {DEFAULT_TEST}, or what a table or names of files give to test). It is read "
        "once for each finished network.",
    )
    test_may_lack_classes: StrictBool = Field(
        default=False,
        description="Whether classes may have no picture in test; the report names these.",
    )
    max_megapixels: Annotated[int, values.whole(1, 10_000)] = Field(
        default=MAX_MEGAPIXELS, description="Larger pictures are refused, by name."
    )
    image_column: str = Field(default="image", description="Of parquet files.")
    label_column: str = Field(default="label", description="Of parquet files.")
    dataset: (
        Annotated[str, values.one_of(*filter(None, SOURCES["torchvision"].pictures))] | None
    ) = Field(default=None, description="Name in torchvision.datasets.")
    root: Annotated[Path, values.PATH] | None = Field(
        default=None,
        description="Where the named data set lies or is downloaded to (default: data, beside "
        "this file).",
    )
    download: StrictBool = Field(
        default=False, description="Fetch the named data set where it is absent."
    )
    resolution: Annotated[int, values.whole(4, 1024)] = Field(
        description="Side in pixels of the square that a network sees: the shorter side of a "
        "picture is resized to it, the centre cropped."
    )
    channels: Annotated[int, values.one_of(3, 1)] = Field(
        default=3, description="3 for colour, 1 for grey."
    )
    classes: Annotated[int, values.whole(2, 100_000)] = Field(
        description="Found in the data where it is not written."
    )
    train_images: Annotated[int, values.count("images")] | None = Field(
        default=None,
        description="Train on this many images only, a fixed choice, balanced over the classes.",
    )
    select: Annotated[float, values.number(0, 0.5, above=True)] = Field(
        default=0.2, description="Fraction of train held out to choose between networks."
    )
    flip: StrictBool | None = Field(
        default=None,
        description="Whether training may mirror a picture (default: not digits and letters).",
    )
    augment: Literal["auto", "none", "shift", "crop"] = Field(
        default="auto", description="auto: random shifts up to 64 pixels, random crops above."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        return with_defaults(data) if isinstance(data, Mapping) else data


PATHS = ("train", "test", "root")
"""The keys that may hold a path."""


def keys_of(data: Any) -> SourceKeys | None:
    """The row of the source that a ``data`` part names; None where it names none that is known."""
    source = data.get("source") if isinstance(data, Mapping) else None
    return SOURCES.get(source) if isinstance(source, str) else None


def with_defaults(data: Mapping[str, Any]) -> dict[str, Any]:
    """The ``data`` part as it is written, with what follows from its source and is not."""
    row, dataset = keys_of(data), data.get("dataset")
    defaults: dict[str, Any] = {"flip": True}
    if row is not None:
        known = row.pictures.get(dataset if isinstance(dataset, str) else None)
        known = known or row.pictures.get(None)
        defaults = known._asdict() if known else defaults
        if "test" in row.own and not row.splits:
            defaults["test"] = DEFAULT_TEST
    return {**defaults, **{key: value for key, value in data.items() if value is not None}}


def foreign_keys(source: str) -> dict[str, str]:
    """The keys of ``data`` that belong to other sources, each with the first of those."""
    return {
        key: other
        for other in reversed(SOURCES)
        for key in SOURCES[other].own
        if key not in SOURCES[source].own
    }
