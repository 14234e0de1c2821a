"""Everything that a human asks for: budgets, goals, the data, how long to look.

The models here check single values; :mod:`collabdesign.design.reading` builds them from a
file and checks what needs two values or the data's folders. ``limits`` are hard budgets known
without training; ``goals`` are judged after it.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictBool,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import core_schema

from collabdesign.design import units
from collabdesign.design.document import write_text
from collabdesign.design.prototype import Prototype
from collabdesign.design.units import shown
from collabdesign.errors import InputError, Problem

LIMITS = ("macs", "params", "weight_bytes", "peak_activation_bytes")
OBJECTIVES = ("accuracy", *LIMITS)

FREE_KEYS = ("search.trials", "family")
"""What may change between two runs of one search; see :meth:`Requirements.changes`."""

FLOPS_HINT = "write macs, multiply-adds: 1 MAC is 2 FLOPs"


class NamedSet(NamedTuple):
    """What is known of one of torchvision's data sets without opening it.

    Attributes:
        flip: Whether its pictures may be mirrored: digits, letters and characters become
            other ones, or none.
    """

    classes: int
    channels: int
    resolution: int
    flip: bool


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

DIGITS = NamedSet(classes=10, channels=1, resolution=8, flip=False)

DEFAULT_TEST = 0.2
"""Fraction put aside as test where the data has no test part and none is asked for."""


class Source(NamedTuple):
    """Keys of ``data`` that one source of images must and may have."""

    needs: tuple[str, ...]
    may: tuple[str, ...]


_COMMON_KEYS = (
    "source", "resolution", "channels", "classes", "train_images", "select", "flip", "augment",
)  # fmt: skip
SOURCES: Mapping[str, Source] = {
    "folder": Source(("train", "resolution"), ("train", "test", *_COMMON_KEYS)),
    "digits": Source((), ("test", *_COMMON_KEYS)),
    "torchvision": Source(("dataset",), ("dataset", "root", "download", *_COMMON_KEYS)),
}


@dataclass(frozen=True)
class _Checked:
    """An annotation: values go through ``read``, editors see ``schema``."""

    read: Callable[[Any], Any]
    schema: Mapping[str, Any]
    write: Callable[[Any], Any] | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        write = self.write
        return core_schema.no_info_plain_validator_function(
            self.read,
            serialization=core_schema.plain_serializer_function_ser_schema(
                write, when_used="json"
            )
            if write
            else None,
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return dict(self.schema)


def _quantity(
    parse: Callable[[object], int], write: Callable[[int], str], pattern: str
) -> _Checked:
    forms = [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": pattern}]
    return _Checked(parse, {"anyOf": forms}, write)


def _count(of: str) -> _Checked:
    return _quantity(
        lambda value: units.parse_count(value, of), units.exact_count, units.COUNT_PATTERN
    )


_BYTES = _quantity(units.parse_bytes, units.exact_bytes, units.BYTES_PATTERN)


def _whole(low: int, high: int) -> _Checked:
    def read(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise InputError(f"must be a whole number from {low} to {high}, got {shown(value)}")
        return value

    return _Checked(read, {"type": "integer", "minimum": low, "maximum": high})


def _number(low: float, high: float, *, above: bool = False) -> _Checked:
    rule = f"must be a number {'above' if above else 'from'} {low:g}"
    rule += f", at most {high:g}" if above else f" to {high:g}"

    def read(value: Any) -> float:
        is_number = type(value) in (int, float) and low <= value <= high
        if not is_number or (above and value == low):
            raise InputError(f"{rule}, got {shown(value)}")
        return float(value)

    lowest = {"exclusiveMinimum" if above else "minimum": low}
    return _Checked(read, {"type": "number", **lowest, "maximum": high})


def _read_accuracy(value: Any) -> float:
    if type(value) in (int, float) and 0 < value <= 1:
        return float(value)
    hint = ""
    percent = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%?", str(value), re.ASCII)
    if percent and 1 < float(percent[1]) <= 100:
        hint = f"write {float(percent[1]) / 100:.10g} for {percent[1]} %"
    raise InputError(
        Problem(f"must be a share of 1, above 0 and at most 1, got {shown(value)}", hint)
    )


def _read_name(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(_NAME_PATTERN, value):
        return value
    hint = "write it in quotes" if type(value) in (int, float, bool) else ""
    raise InputError(
        Problem(
            "must be letters, digits, '-', '_' and '.', at most 64, the first no sign, "
            f"got {shown(value)}",
            hint,
        )
    )


def _read_path(value: Any) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise InputError(f"must be a path, got {shown(value)}")
    return Path(value)


def _read_test(value: Any) -> Path | float:
    if type(value) not in (int, float):
        return _read_path(value)
    return _number(0, 0.5, above=True).read(value)  # type: ignore[no-any-return]


def _read_dataset(value: Any) -> str:
    if value in TORCHVISION_SETS:
        return str(value)
    by_lower = {name.lower(): name for name in TORCHVISION_SETS}
    close = difflib.get_close_matches(str(value).lower().replace("-", ""), by_lower, n=1)
    raise InputError(
        Problem(
            f"must be one of {', '.join(TORCHVISION_SETS)}, got {shown(value)}",
            f"did you mean {by_lower[close[0]]}?" if close else "",
        )
    )


def _read_objectives(value: Any) -> tuple[str, ...]:
    rule = f"must be accuracy and at least one of {', '.join(LIMITS)}, each once"
    if not isinstance(value, list | tuple):
        raise InputError(f"{rule}, got {shown(value)}")
    for name in value:
        if name not in OBJECTIVES:
            close = difflib.get_close_matches(str(name), OBJECTIVES, n=1)
            hint = f"did you mean {close[0]}?" if close else ""
            if "flop" in str(name).lower():
                hint = FLOPS_HINT
            raise InputError(Problem(f"{rule}, got {shown(name)}", hint))
    if "accuracy" not in value or len(value) < 2 or len(set(value)) < len(value):
        raise InputError(f"{rule}, got [{', '.join(value)}]")
    return ("accuracy", *(name for name in value if name != "accuracy"))


_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_PATH_SCHEMA = {"type": "string", "minLength": 1}

_Name = Annotated[
    str,
    PlainValidator(_read_name),
    WithJsonSchema({"type": "string", "pattern": _NAME_PATTERN}),
]
_Path = Annotated[Path, _Checked(_read_path, _PATH_SCHEMA, str)]
_Fraction = Annotated[float, _number(0, 0.5, above=True)]
_Objectives = Annotated[
    tuple[str, ...],
    PlainValidator(_read_objectives),
    PlainSerializer(list),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"enum": list(OBJECTIVES)},
            "contains": {"const": "accuracy"},
            "minItems": 2,
            "uniqueItems": True,
        }
    ),
]


class _Written(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Data(_Written):
    """The images, and how they are split and shown to a network."""

    source: Literal["folder", "digits", "torchvision"] = Field(
        description="folder: your own images, one folder a class. digits: scikit-learn's, no "
        "download. torchvision: one of its named data sets."
    )
    train: _Path | None = Field(
        None, description="Folder with a folder of images for each class (source folder)."
    )
    test: (
        Annotated[
            Path | float,
            _Checked(
                _read_test,
                {
                    "anyOf": [
                        _PATH_SCHEMA,
                        {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5},
                    ]
                },
                lambda test: test if isinstance(test, float) else str(test),
            ),
        ]
        | None
    ) = Field(
        None,
        description="Folder like train, or the fraction of train that is put aside as test "
        f"(default {DEFAULT_TEST}). It is read once for each finished network.",
    )
    dataset: (
        Annotated[str, _Checked(_read_dataset, {"enum": list(TORCHVISION_SETS)})] | None
    ) = Field(None, description="Name in torchvision.datasets (source torchvision).")
    root: _Path | None = Field(
        None, description="Where the named data set lies or is downloaded to (default: data)."
    )
    download: StrictBool = Field(False, description="Fetch the named data set if it is absent.")
    resolution: Annotated[int, _whole(4, 1024)] = Field(
        description="Side in pixels of the square that a network sees: the shorter side is "
        "resized to it, the centre cropped."
    )
    channels: Annotated[int, _Checked(lambda value: _read_channels(value), {"enum": [1, 3]})] = (
        Field(3, description="3 for colour, 1 for grey.")
    )
    classes: Annotated[int, _whole(2, 100_000)] = Field(
        description="Number of classes; found from the data where it is not written."
    )
    train_images: Annotated[int, _count("images")] | None = Field(
        None, description="Train on this many images only, fixed and balanced over the classes."
    )
    select: _Fraction = Field(
        0.2, description="Fraction of train held out to choose between networks."
    )
    flip: StrictBool | None = Field(
        None,
        description="Whether training may mirror a picture; unless written, yes but for digits "
        "and letters.",
    )
    augment: Literal["auto", "none", "shift", "crop"] = Field(
        "auto", description="auto: random shifts up to 64 pixels, random crops above."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        """What follows from the source and is not written."""
        if not isinstance(data, Mapping):
            return data
        known: NamedSet | None = None
        defaults: dict[str, Any] = {"flip": True}
        if data.get("source") == "digits":
            known = DIGITS
        elif data.get("source") == "torchvision" and isinstance(data.get("dataset"), str):
            known = TORCHVISION_SETS.get(data["dataset"])
        if known is not None:
            defaults = known._asdict()
        if data.get("source") in ("folder", "digits"):
            defaults["test"] = DEFAULT_TEST
        written = {key: value for key, value in data.items() if value is not None}
        return {**defaults, **written}


def _read_channels(value: Any) -> int:
    if type(value) is int and value in (1, 3):
        return value
    raise InputError(f"must be 3 (colour) or 1 (grey), got {shown(value)}")


class Limits(_Written):
    """Hard budgets, known without training: no network over one of them is trained."""

    macs: Annotated[int, _count("multiply-adds")] | None = Field(
        None, description="Multiply-adds for one image, such as 10M. 1 MAC is 2 FLOPs."
    )
    params: Annotated[int, _count("parameters")] | None = Field(
        None, description="Parameters, such as 320k."
    )
    weight_bytes: Annotated[int, _BYTES] | None = Field(
        None, description="Memory for the weights at deploy.precision, such as 1.2MB."
    )
    peak_activation_bytes: Annotated[int, _BYTES] | None = Field(
        None,
        description="Most memory for feature maps at any moment, one image, at "
        "deploy.precision, such as 512KiB.",
    )


class Deploy(_Written):
    """What the networks will run as."""

    precision: Literal["float32", "float16", "int8"] = Field(
        "float32", description="Precision at which the limits in bytes are counted."
    )


class Goals(_Written):
    """What a finished network shall reach; judged on test."""

    accuracy: (
        Annotated[
            float,
            _Checked(_read_accuracy, {"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
        ]
        | None
    ) = Field(None, description="test_accuracy of a variant, as a share of 1 such as 0.80.")


class Training(_Written):
    """One recipe; the short proxy and the full training differ in their numbers only."""

    epochs: Annotated[int, _whole(1, 100_000)] = Field(
        6, description="Passes over the training images."
    )
    batch: Annotated[int, _whole(2, 65_536)] | None = Field(
        None, description="Images a step; chosen from the size of the data unless written."
    )
    learning_rate: Annotated[float, _number(0, 100, above=True)] | None = Field(
        None, description="Highest of the one cycle; chosen from the batch unless written."
    )
    weight_decay: Annotated[float, _number(0, 1)] = Field(5e-4, description="L2, of SGD.")
    label_smoothing: Annotated[float, _number(0, 0.9)] = Field(
        0.1, description="Share of a label that is spread over all classes."
    )
    min_steps: Annotated[int, _whole(0, 10_000_000)] = Field(
        150, description="Small data is given small batches so that this many steps are made."
    )


class FamilyTraining(Training):
    """The full training of a family member."""

    epochs: Annotated[int, _whole(1, 100_000)] = Field(
        60, description="Passes over the training images."
    )
    seeds: Annotated[int, _whole(1, 100)] = Field(
        1, description="Trainings of each member, to tell skill from luck."
    )


def _nothing_is_defaults(value: Any) -> Any:
    """A heading with all its lines commented out."""
    return {} if value is None else value


_IfWritten = BeforeValidator(_nothing_is_defaults)


class Search(_Written):
    """How long to look, and how."""

    trials: Annotated[int, _whole(1, 1_000_000)] = Field(
        60, description="Networks to train briefly; those over a limit are not counted."
    )
    seed: Annotated[int, _whole(0, 2**32 - 1)] = Field(
        0, description="The same seed gives the same search on the same machine."
    )
    sampler: Literal["tpe", "random"] = Field("tpe", description="How proposals are made.")
    proxy: Annotated[Training, _IfWritten] = Field(
        Training(), description="The short training that ranks candidates."
    )


class Family(_Written):
    """What is handed over: AttoNet-A, the most accurate, to the smallest."""

    size: Annotated[int, _whole(1, 26)] = Field(4, description="Members at most.")
    training: Annotated[FamilyTraining, _IfWritten] = Field(
        FamilyTraining(), description="The full training of each member."
    )


class Requirements(_Written):
    """Everything that the human asks for."""

    version: Annotated[int, _whole(1, 1)] = Field(1, description="Of this file format.")
    name: _Name = Field(description="Names the run folder, runs/NAME.")
    prototype: Prototype
    data: Data
    limits: Annotated[Limits, _IfWritten] = Limits()
    deploy: Annotated[Deploy, _IfWritten] = Deploy()
    goals: Annotated[Goals, _IfWritten] = Goals()
    objectives: _Objectives = Field(
        ("accuracy", "macs", "params"),
        description="What the front trades: accuracy, and costs to make small.",
    )
    search: Annotated[Search, _IfWritten] = Search()
    family: Annotated[Family, _IfWritten] = Family()

    def violations(self, cost: Any) -> dict[str, float]:
        """How far a cost is from each limit that is set, as a share of the limit.

        Args:
            cost: Has the attributes that the limits are named after.

        Returns:
            ``{limit: cost / limit - 1}``: at most 0 is met.
        """
        return {
            name: getattr(cost, name) / limit - 1
            for name in LIMITS
            if (limit := getattr(self.limits, name)) is not None
        }

    def changes(self, other: Requirements, free: Sequence[str] = ()) -> list[str]:
        """What another one asks differently, a line a key: ``limits.macs: 3M -> 4M``.

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
        """Plain data as a person could have written it: all defaults, paths absolute."""
        data = self.model_dump(mode="json", exclude_none=True)
        may = SOURCES[self.data.source].may
        data["data"] = {key: value for key, value in data["data"].items() if key in may}
        return data


def resolved_yaml(requirements: Requirements) -> str:
    """The file that reads back as equal requirements: all defaults, the prototype in place."""
    return write_text(requirements.to_dict())


def _flat(data: Any, prefix: str = "") -> dict[str, str]:
    """Dotted keys to written values; lists of plain values stay whole."""
    if isinstance(data, dict):
        items = [(f"{prefix}.{key}" if prefix else key, value) for key, value in data.items()]
    elif isinstance(data, list) and any(isinstance(item, dict) for item in data):
        items = [(f"{prefix}[{index}]", value) for index, value in enumerate(data)]
    else:
        return {prefix: data if isinstance(data, str) else json.dumps(data)}
    return {key: text for name, value in items for key, text in _flat(value, name).items()}
