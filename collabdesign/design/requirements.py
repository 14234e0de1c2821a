"""Everything that a human asks for: budgets, goals, the data, how long to look.

The models here check single values; :mod:`collabdesign.design.files.reading` builds them from a
file and checks what needs two values or the folders of the data. ``limits`` are hard budgets
known without training; ``goals`` are judged after it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    create_model,
    model_validator,
)

from collabdesign.design.cost import METRICS
from collabdesign.design.files import values
from collabdesign.design.files.document import write_text
from collabdesign.design.files.values import LIMITS, OBJECTIVES
from collabdesign.design.prototype import Prototype

__all__ = [
    "DEFAULT_TEST",
    "FREE_KEYS",
    "LIMITS",
    "OBJECTIVES",
    "SOURCE_KEYS",
    "TORCHVISION_SETS",
    "Data",
    "Deploy",
    "Family",
    "FamilyTraining",
    "Goals",
    "Limits",
    "Requirements",
    "Search",
    "Training",
    "resolved_yaml",
]

FREE_KEYS = ("search.trials", "family")
"""What may change between two runs of one search; see :meth:`Requirements.changes`."""

DEFAULT_TEST = 0.2
"""Fraction put aside as test where the data has no test part and none is asked for."""


class NamedSet(NamedTuple):
    """What is known of a named data set without opening it.

    Attributes:
        flip: Whether its pictures may be mirrored: most digits, letters and characters become
            other ones, or none.
    """

    classes: int
    channels: int
    resolution: int
    flip: bool


DIGITS = NamedSet(classes=10, channels=1, resolution=8, flip=False)

# Where the pictures of a set differ in size, the resolution is a usual one.
TORCHVISION_SETS: Mapping[str, NamedSet] = {
    "CIFAR10": NamedSet(10, 3, 32, True),
    "CIFAR100": NamedSet(100, 3, 32, True),
    "MNIST": NamedSet(10, 1, 28, False),
    "FashionMNIST": NamedSet(10, 1, 28, True),
    "KMNIST": NamedSet(10, 1, 28, False),
    "EMNIST": NamedSet(47, 1, 28, False),
    "SVHN": NamedSet(10, 3, 32, False),
    "STL10": NamedSet(10, 3, 96, True),
    "Flowers102": NamedSet(102, 3, 128, True),
    "OxfordIIITPet": NamedSet(37, 3, 128, True),
    "Imagenette": NamedSet(10, 3, 128, True),
}


class SourceKeys(NamedTuple):
    """Keys of ``data`` that a source must have, and those that not every source may have."""

    needs: tuple[str, ...]
    own: tuple[str, ...]


SOURCE_KEYS: dict[str, SourceKeys] = {
    "folder": SourceKeys(needs=("train",), own=("train", "test")),
    "digits": SourceKeys(needs=(), own=("test",)),
    "torchvision": SourceKeys(needs=("dataset",), own=("dataset", "root", "download")),
}


class _Written(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Data(_Written):
    """The images, and how they are split and shown to a network."""

    source: Literal["folder", "digits", "torchvision"] = Field(
        description="folder: your own images, a folder for each class. digits: scikit-learn's, "
        "no download. torchvision: one of its named data sets."
    )
    train: Annotated[Path, values.path()] | None = Field(
        default=None, description="Folder that holds a folder of images for each class."
    )
    test: Annotated[Path | float, values.path_or_fraction(0.5)] | None = Field(
        default=None,
        description="Folder like train, or the fraction of train that is put aside as test "
        f"(default {DEFAULT_TEST}). It is read once for each finished network.",
    )
    dataset: Annotated[str, values.one_of(*TORCHVISION_SETS)] | None = Field(
        default=None, description="Name in torchvision.datasets."
    )
    root: Annotated[Path, values.path()] | None = Field(
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


def with_defaults(data: Mapping[str, Any]) -> dict[str, Any]:
    """The ``data`` part as it is written, with what follows from its source and is not."""
    source, dataset = data.get("source"), data.get("dataset")
    defaults: dict[str, Any] = {"flip": True}
    if source == "digits":
        defaults = DIGITS._asdict()
    elif source == "torchvision" and isinstance(dataset, str) and dataset in TORCHVISION_SETS:
        defaults = TORCHVISION_SETS[dataset]._asdict()
    if source in ("folder", "digits"):
        defaults["test"] = DEFAULT_TEST
    return {**defaults, **{key: value for key, value in data.items() if value is not None}}


if TYPE_CHECKING:

    class Limits(_Written):
        """A field for each metric."""

        def __getattr__(self, name: str) -> int | None: ...
else:
    Limits = create_model(
        "Limits",
        __base__=_Written,
        __module__=__name__,
        __doc__="Hard budgets, known without training: no network over one of them is trained.",
        **{
            name: (
                Annotated[int, values.limit(metric)] | None,
                Field(default=None, description=metric.limit),
            )
            for name, metric in METRICS.items()
        },
    )


class Deploy(_Written):
    """What the networks will run as."""

    precision: Literal["float32", "float16", "int8"] = Field(
        default="float32", description="Precision at which the limits in bytes are counted."
    )


class Goals(_Written):
    """What a finished network shall reach, judged on test."""

    accuracy: Annotated[float, values.accuracy()] | None = Field(
        default=None, description="test_accuracy of a variant, as a share of 1 such as 0.80."
    )


class Training(_Written):
    """One recipe; the short proxy and the full training differ in their numbers only."""

    epochs: Annotated[int, values.whole(1, 100_000)] = Field(
        default=6, description="Passes over the training images."
    )
    batch: Annotated[int, values.whole(2, 65_536)] | None = Field(
        default=None, description="Images a step (default: chosen from the size of the data)."
    )
    learning_rate: Annotated[float, values.number(0, 100, above=True)] | None = Field(
        default=None, description="Highest of the one cycle (default: chosen from the batch)."
    )
    weight_decay: Annotated[float, values.number(0, 1)] = Field(default=5e-4, description="Of SGD.")
    label_smoothing: Annotated[float, values.number(0, 0.9)] = Field(
        default=0.1, description="Share of a label that is spread over all classes."
    )
    min_steps: Annotated[int, values.whole(0, 10_000_000)] = Field(
        default=150,
        description="Steps to make at least: small data is given small batches, then more epochs.",
    )


class FamilyTraining(Training):
    """The full training of a family member."""

    epochs: Annotated[int, values.whole(1, 100_000)] = Field(
        default=60, description="Passes over the training images."
    )
    seeds: Annotated[int, values.whole(1, 100)] = Field(
        default=1, description="Trainings of each member, to tell skill from luck."
    )


# A heading whose lines are all commented out stands for its defaults.
_IfWritten = BeforeValidator(lambda value: {} if value is None else value)


class Search(_Written):
    """How long to look, and how."""

    trials: Annotated[int, values.whole(1, 1_000_000)] = Field(
        default=60, description="Networks to train briefly; those over a limit do not count."
    )
    seed: Annotated[int, values.whole(0, 2**32 - 1)] = Field(
        default=0, description="The same seed gives the same search on the same machine."
    )
    sampler: Literal["generative", "nsga2", "tpe", "random"] = Field(
        default="generative", description="How proposals are made."
    )
    proxy: Annotated[Training, _IfWritten] = Field(
        default=Training(), description="The short training that ranks candidates."
    )
    early_stopping: bool = Field(
        default=True,
        description="Whether a proxy ends as soon as a network of no larger cost will hardly be "
        "reached.",
    )


class Family(_Written):
    """What is handed over: from AttoNet-A, the most accurate, to the smallest."""

    size: Annotated[int, values.whole(1, 26)] = Field(default=4, description="Members at most.")
    finalists: Annotated[int, values.whole(1, 100)] = Field(
        default=4,
        description="So many of the best proxies, as far as they are about as good, are trained "
        "fully beside the prototype's default network; the best of these on the held-out part is "
        "the most accurate member. 1: the best proxy is.",
    )
    training: Annotated[FamilyTraining, _IfWritten] = Field(
        default=FamilyTraining(), description="The full training of each member."
    )


class Requirements(_Written):
    """Everything that a human asks for."""

    version: Annotated[int, values.whole(1, 1)] = Field(
        default=1, description="Of this file format."
    )
    name: Annotated[str, values.name()] = Field(description="Names the run folder, runs/NAME.")
    prototype: Prototype = Field(
        description="The network's macro-architecture with its freedoms: a file, relative to "
        "this one, or written in place."
    )
    data: Data
    limits: Annotated[Limits, _IfWritten] = Limits()
    deploy: Annotated[Deploy, _IfWritten] = Deploy()
    goals: Annotated[Goals, _IfWritten] = Goals()
    objectives: Annotated[tuple[str, ...], values.objectives()] = Field(
        default=("accuracy", "macs", "params"),
        description="What the front trades: accuracy, and costs to make small.",
    )
    search: Annotated[Search, _IfWritten] = Search()
    family: Annotated[Family, _IfWritten] = Family()

    def violations(self, cost: Mapping[str, float]) -> dict[str, float]:
        """How far a cost is from each limit that is set, as a share of the limit.

        Args:
            cost: By the name of the limit.

        Returns:
            ``{limit: cost / limit - 1}``; at most 0 is met.
        """
        return {
            name: cost[name] / limit - 1
            for name in LIMITS
            if (limit := getattr(self.limits, name)) is not None
        }

    def changes(self, other: Requirements, free: Sequence[str] = ()) -> list[str]:
        """What another one asks differently, a line for each key: ``limits.macs: 3M -> 4M``.

        Args:
            other: What is asked now.
            free: Keys that may change, with all below them; see ``FREE_KEYS``.
        """
        before, after = _flat(self.to_dict()), _flat(other.to_dict())
        return [
            f"{key}: {before.get(key, 'not set')} -> {after.get(key, 'not set')}"
            for key in dict.fromkeys((*before, *after))
            if before.get(key) != after.get(key)
            and not any(key == name or key.startswith(f"{name}.") for name in free)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain data as a person could have written it: all defaults, the prototype in place."""
        written = self.model_dump(mode="json", exclude_none=True)
        foreign = foreign_keys(self.data.source)
        written["data"] = {key: v for key, v in written["data"].items() if key not in foreign}
        return written


def foreign_keys(source: str) -> dict[str, str]:
    """The keys of ``data`` that belong to other sources, each with the first of those."""
    return {
        key: other
        for other in reversed(SOURCE_KEYS)
        for key in SOURCE_KEYS[other].own
        if key not in SOURCE_KEYS[source].own
    }


def resolved_yaml(requirements: Requirements) -> str:
    """The file that reads back as equal requirements."""
    return write_text(requirements.to_dict())


def _flat(data: Any, key: str = "") -> dict[str, str]:
    """Dotted keys to written values; lists of plain values stay whole."""
    if isinstance(data, dict):
        items = [(f"{key}.{name}" if key else name, value) for name, value in data.items()]
    elif isinstance(data, list) and any(isinstance(item, dict) for item in data):
        items = [(f"{key}[{index}]", value) for index, value in enumerate(data)]
    else:
        return {key: data if isinstance(data, str) else json.dumps(data)}
    return {key: text for name, value in items for key, text in _flat(value, name).items()}
