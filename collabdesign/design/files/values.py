"""The kinds of value that a person writes in a requirements file.

Each is the annotation of a model's field: how the value is read and written, and what an
editor is told. Reading raises :class:`InputError` with a message that begins with
``must``; whoever knows the key puts it before that.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic_core import core_schema

from collabdesign.design.cost import QUANTITIES, Quantity
from collabdesign.design.files import units
from collabdesign.design.files.units import shown
from collabdesign.errors import InputError, Problem

LIMITS = tuple(QUANTITIES)
OBJECTIVES = ("accuracy", *LIMITS)

FLOPS_HINT = "write macs, multiply-adds: 1 MAC is 2 FLOPs"


class Section(BaseModel):
    """A mapping that a person writes, all of whose keys are known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# Compared by identity: typing hashes annotations, and a schema has no hash.
@dataclass(frozen=True, eq=False)
class Written:
    """An annotation for pydantic.

    Attributes:
        read: From what YAML gives, or raises.
        schema: JSON Schema of what may be written.
        write: To what JSON takes; nothing to do where None.
    """

    read: Callable[[Any], Any]
    schema: Mapping[str, Any]
    write: Callable[[Any], Any] | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        """How pydantic reads and writes the value."""
        serialization = self.write and core_schema.plain_serializer_function_ser_schema(
            self.write, when_used="json"
        )
        return core_schema.no_info_plain_validator_function(self.read, serialization=serialization)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        """What pydantic tells editors."""
        return dict(self.schema)


def count(of: str) -> Written:
    """A positive count such as ``10M``."""
    read = partial(units.parse_count, of=of)
    return Written(read, _quantity_schema(units.COUNT_PATTERN), units.exact_count)


def limit(quantity: Quantity) -> Written:
    """A limit on a quantity, in its unit."""
    if quantity.unit == "count":
        return count(quantity.title)
    if quantity.unit == "bytes":
        return Written(units.parse_bytes, _quantity_schema(units.BYTES_PATTERN), units.exact_bytes)
    return number(0, 10**5, above=True)


def _quantity_schema(pattern: str) -> dict[str, Any]:
    return {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": units.LARGEST},
            {"type": "string", "pattern": pattern},
        ]
    }


def whole(low: int, high: int) -> Written:
    """A whole number, both ends included."""

    def read(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            rule = f"must be a whole number from {low} to {high}"
            raise InputError(Problem(f"{rule}, got {shown(value)}", hint(value)))
        return value

    def hint(value: Any) -> str:
        if type(value) is float and value.is_integer() and low <= value <= high:
            return f"write {value:.0f}"
        return units.to_write(value, lambda each: each.isdecimal() and low <= int(each) <= high)

    return Written(read, {"type": "integer", "minimum": low, "maximum": high})


def number(low: float, high: float, *, above: bool = False) -> Written:
    """A number up to ``high``, from ``low`` or, if ``above``, above it."""
    rule = f"must be a number {'above' if above else 'from'} {low:g}"
    rule += f", at most {high:g}" if above else f" to {high:g}"

    def read(value: Any) -> float:
        # True and NaN fail here too.
        if type(value) not in (int, float) or not is_within(value):
            hint = units.to_write(value, lambda each: is_within(float(each)))
            raise InputError(Problem(f"{rule}, got {shown(value)}", hint))
        return float(value)

    def is_within(value: float) -> bool:
        return low <= value <= high and not (above and value == low)

    lowest = {"exclusiveMinimum" if above else "minimum": low}
    return Written(read, {"type": "number", **lowest, "maximum": high})


def one_of(*values: str | int) -> Written:
    """One of some words or numbers; the nearest is offered for one that is none of them."""
    by_lower = {str(value).lower(): value for value in values}

    def read(value: Any) -> str | int:
        for known in values:
            if type(value) is type(known) and value == known:
                return known
        close = difflib.get_close_matches(str(value).lower().replace("-", ""), by_lower, n=1)
        hint = f"did you mean {by_lower[close[0]]}?" if close else ""
        rule = f"must be one of {', '.join(map(str, values))}"
        raise InputError(Problem(f"{rule}, got {shown(value)}", hint))

    return Written(read, {"enum": list(values)})


def key_of(table: Mapping[str, Any]) -> Written:
    """One of the names in a table."""
    # Looked up at each reading: a row may be added after the models are made.
    return Written(
        lambda value: one_of(*table).read(value), {"type": "string", "enum": list(table)}
    )


def some_of(table: Mapping[str, Any]) -> Written:
    """A list of some of the names in a table, each once; it may be empty."""

    def read(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise InputError(f"must be a list of {', '.join(table)}, got {shown(value)}")
        names = tuple(str(one_of(*table).read(each)) for each in value)
        if len(set(names)) < len(names):
            raise InputError(f"must name each once, got [{', '.join(names)}]")
        return names

    schema = {"type": "array", "items": {"enum": list(table)}, "uniqueItems": True}
    return Written(read, schema, list)


def _read_accuracy(value: Any) -> float:
    if type(value) in (int, float) and 0 < value <= 1:
        return float(value)
    hint = ""
    percent = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%?", str(value), re.ASCII)
    if percent and 1 < float(percent[1]) <= 100:
        share = float(percent[1]) / 100
        hint = f"write {share:.10g}" if "." in percent[1] else f"write {share:.2f}"
    else:
        hint = units.to_write(value, lambda each: 0 < float(each) <= 1)
    raise InputError(
        Problem(f"must be a share of 1, above 0 and at most 1, got {shown(value)}", hint)
    )


ACCURACY = Written(_read_accuracy, {"type": "number", "exclusiveMinimum": 0, "maximum": 1})
"""A share of 1, not per cent."""


def _matching(pattern: str, rule: str) -> Written:
    def read(value: Any) -> str:
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        is_plain = type(value) in (int, float, bool) and re.fullmatch(pattern, str(value))
        hint = "write it in quotes" if is_plain else ""
        raise InputError(Problem(f"{rule}, got {shown(value)}", hint))

    return Written(read, {"type": "string", "pattern": pattern})


NAME = _matching(
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
    "must begin with a letter or digit and have at most 64 of these, '-', '_' and '.'",
)
"""A word that is safe as the name of a folder."""

DATABASE = _matching(
    r"^[a-z][a-z0-9+]*://.+$",
    "must be the address of a database such as postgresql://user@host/name",
)


MODEL_PLACE = "{onnx}"


def _read_command(value: Any) -> str:
    if not isinstance(value, str) or MODEL_PLACE not in value or "\0" in value:
        rule = f"must be a command with {MODEL_PLACE} where the path of the ONNX file belongs"
        raise InputError(Problem(f"{rule}, got {shown(value)}", "such as ./on_device.sh {onnx}"))
    return value


COMMAND = Written(_read_command, {"type": "string", "pattern": r"\{onnx\}"})
"""A command of a shell that is given a network."""


def _read_path(value: Any) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise InputError(f"must be a path, got {shown(value)}")
    return Path(value)


PATH = Written(_read_path, {"type": "string", "minLength": 1}, str)
"""A path, relative to the file that it stands in until it is read from there."""


def path_or_fraction(high: float) -> Written:
    """A path, or a number above 0 and at most ``high``."""
    fraction = number(0, high, above=True)

    def read(value: Any) -> Any:
        try:
            return fraction.read(value) if type(value) in (int, float) else _read_path(value)
        except InputError:
            rule = f"must be a folder, or a fraction above 0 and at most {high}"
            raise InputError(f"{rule}, got {shown(value)}") from None

    schema = {"anyOf": [PATH.schema, fraction.schema]}
    return Written(read, schema, lambda value: str(value) if isinstance(value, Path) else value)


def _read_objectives(value: Any) -> tuple[str, ...]:
    rule = f"must be a list of accuracy and at least one of {', '.join(LIMITS)}, each once"
    if not isinstance(value, list | tuple):
        raise InputError(f"{rule}, got {shown(value)}")
    for objective in value:
        if objective not in OBJECTIVES:
            close = difflib.get_close_matches(str(objective), OBJECTIVES, n=1)
            hint = f"did you mean {close[0]}?" if close else ""
            if "flop" in str(objective).lower():
                hint = FLOPS_HINT
            raise InputError(Problem(f"{rule}, got {shown(objective)}", hint))
    if "accuracy" not in value or len(value) < 2 or len(set(value)) < len(value):
        raise InputError(f"{rule}, got [{', '.join(value)}]")
    return ("accuracy", *(objective for objective in value if objective != "accuracy"))


FRONT = Written(
    _read_objectives,
    {
        "type": "array",
        "items": {"enum": list(OBJECTIVES)},
        "contains": {"const": "accuracy"},
        "minItems": 2,
        "uniqueItems": True,
    },
    list,
)
"""Accuracy and costs, each once; accuracy is moved to the front."""
