"""The values of a prototype: each is a :class:`Freedom`, read from one of three ways to write it.

One value is fixed; a list is choices with the human's own first; ``{low, high, step}`` is a
range with the human's own value in the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from collabdesign.design.architecture import MAX_BRANCHES, MAX_DEPTH, OUTPUTS, SHORTCUTS
from collabdesign.design.layer_words import WORD_PATTERN, parse_token
from collabdesign.design.operators import ACTIVATIONS, ATTENTIONS, JOINS

MAX_CHANNELS = 4096
MAX_MODULES = 32
MAX_RANGE = 512


@dataclass(frozen=True)
class Freedom:
    """The values that one thing may take.

    Attributes:
        values: All of them, the smallest first for a range, as written for choices.
        own: The human's own value: the only, the first, or the middle one (the lower of two).
        is_range: Whether the values are steps of a range.
    """

    values: tuple[Any, ...]
    own: Any
    is_range: bool = False

    def written(self) -> Any:
        """As a person writes it."""
        if self.is_range:
            low, high = self.values[0], self.values[-1]
            return {"low": low, "high": high, "step": self.values[1] - low}
        return self.values[0] if len(self.values) == 1 else list(self.values)


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}, got {value!r}")
        return value

    return check


def _odd(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= 11 or value % 2 == 0:
        raise ValueError(f"must be 1, 3, 5, 7, 9 or 11, got {value!r}")
    return value


def _features(value: Any) -> int:
    if type(value) is not int or not (value == 0 or 4 <= value <= MAX_CHANNELS):
        raise ValueError(
            f"must be 0 (no feature layer) or a whole number from 4 to {MAX_CHANNELS}, "
            f"got {value!r}"
        )
    return value


def _width(value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value <= 16:
        raise ValueError(f"must be a number above 0, at most 16, got {value!r}")
    return float(value)


def _one_of(allowed: Collection[str]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}, got {value!r}")
        return value

    return check


def _token(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a layer must be a word such as pw or dw3, got {value!r}")
    parse_token(value)
    return value


def _choices(values: list[Any], check: Callable[[Any], Any]) -> Freedom:
    if not values:
        raise ValueError("a list of choices must name at least one, got an empty list")
    checked = tuple(check(value) for value in values)
    if len(set(checked)) != len(checked):
        raise ValueError(f"choices must differ, got {values!r}")
    return Freedom(checked, own=checked[0])


def _range(data: dict[Any, Any], check: Callable[[Any], int]) -> Freedom:
    if set(data) != {"low", "high", "step"}:
        raise ValueError(f"a range has the keys low, high and step, got {sorted(map(str, data))}")
    if type(data["step"]) is not int or data["step"] < 1:
        raise ValueError(f"the step of a range must be at least 1, got {data['step']!r}")
    low, high, step = check(data["low"]), check(data["high"]), data["step"]
    if low > high:
        raise ValueError(f"a range must have low at most high, got low {low} and high {high}")
    if (high - low) % step:
        raise ValueError(
            f"the step of a range must lead from low to high, got {low} to {high} in steps of "
            f"{step} (high {high - (high - low) % step} would do)"
        )
    values = tuple(range(low, high + 1, step))
    if len(values) > MAX_RANGE:
        raise ValueError(f"a range has at most {MAX_RANGE} values, got {len(values)}")
    for value in values:  # 0 and 4 may both be allowed, and what lies between them not
        check(value)
    return Freedom(values, own=values[(len(values) - 1) // 2], is_range=len(values) > 1)


def _freedom(check: Callable[[Any], Any], *, ranged: bool = False) -> Callable[[Any], Freedom]:
    def read(value: Any) -> Freedom:
        if isinstance(value, Freedom):
            return value
        if isinstance(value, list | tuple):
            return _choices(list(value), check)
        if isinstance(value, dict):
            if ranged:
                return _range(value, check)
            raise ValueError(f"must be a value or a list of choices, got {value!r}")
        return _choices([value], check)

    return read


def _read_layers(value: Any) -> tuple[Freedom, ...]:
    """One freedom for every position, or position by position where lists stand inside."""
    if isinstance(value, tuple) and value and all(isinstance(item, Freedom) for item in value):
        return value
    read = _freedom(_token)
    if isinstance(value, list) and any(isinstance(item, list) for item in value):
        if len(value) > MAX_DEPTH:
            raise ValueError(f"a branch has at most {MAX_DEPTH} layers, got {len(value)} lists")
        return tuple(read(item) for item in value)
    return (read(value),)


def _written(freedom: Freedom) -> Any:
    return freedom.written()


def _written_layers(positions: tuple[Freedom, ...]) -> Any:
    if len(positions) == 1:
        return positions[0].written()
    return [list(position.values) for position in positions]


def _schema(item: dict[str, Any], *, ranged: bool = False) -> WithJsonSchema:
    forms: list[dict[str, Any]] = [item, {"type": "array", "items": item, "minItems": 1}]
    if ranged:
        forms.append(
            {
                "type": "object",
                "properties": {key: {"type": "integer"} for key in ("low", "high", "step")},
                "required": ["low", "high", "step"],
                "additionalProperties": False,
            }
        )
    return WithJsonSchema({"anyOf": forms})


_INTEGER = {"type": "integer"}
_TOKEN_SCHEMA = {"type": "string", "pattern": WORD_PATTERN}
_LIST_OF_TOKENS = {"type": "array", "items": _TOKEN_SCHEMA, "minItems": 1}

Kernel = Annotated[
    Freedom, PlainValidator(_freedom(_odd)), PlainSerializer(_written), _schema(_INTEGER)
]
Stride = Annotated[
    Freedom,
    PlainValidator(_freedom(_whole(1, 2))),
    PlainSerializer(_written),
    _schema({"enum": [1, 2]}),
]
# At least 4, so that three concatenated branches always have a channel each.
Channels = Annotated[
    Freedom,
    PlainValidator(_freedom(_whole(4, MAX_CHANNELS), ranged=True)),
    PlainSerializer(_written),
    _schema(_INTEGER, ranged=True),
]
Count = Annotated[
    Freedom,
    PlainValidator(_freedom(_whole(1, MAX_MODULES), ranged=True)),
    PlainSerializer(_written),
    _schema(_INTEGER, ranged=True),
]
Features = Annotated[
    Freedom,
    PlainValidator(_freedom(_features, ranged=True)),
    PlainSerializer(_written),
    _schema(_INTEGER, ranged=True),
]
Branches = Annotated[
    Freedom,
    PlainValidator(_freedom(_whole(1, MAX_BRANCHES), ranged=True)),
    PlainSerializer(_written),
    _schema(_INTEGER, ranged=True),
]
Depth = Annotated[
    Freedom,
    PlainValidator(_freedom(_whole(1, MAX_DEPTH), ranged=True)),
    PlainSerializer(_written),
    _schema(_INTEGER, ranged=True),
]
Widths = Annotated[
    Freedom,
    PlainValidator(_freedom(_width)),
    PlainSerializer(_written),
    _schema({"type": "number", "exclusiveMinimum": 0}),
]
Layers = Annotated[
    tuple[Freedom, ...],
    PlainValidator(_read_layers),
    PlainSerializer(_written_layers),
    WithJsonSchema(
        {
            "anyOf": [
                _TOKEN_SCHEMA,
                {"type": "array", "items": {"anyOf": [_TOKEN_SCHEMA, _LIST_OF_TOKENS]}},
            ]
        }
    ),
]
Shortcut = Annotated[
    Freedom,
    PlainValidator(_freedom(_one_of(SHORTCUTS))),
    PlainSerializer(_written),
    _schema({"enum": list(SHORTCUTS)}),
]
Join = Annotated[
    Freedom,
    PlainValidator(_freedom(_one_of(JOINS))),
    PlainSerializer(_written),
    _schema({"enum": list(JOINS)}),
]
Attention = Annotated[
    Freedom,
    PlainValidator(_freedom(_one_of(ATTENTIONS))),
    PlainSerializer(_written),
    _schema({"enum": list(ATTENTIONS)}),
]
Activation = Annotated[
    Freedom,
    PlainValidator(_freedom(_one_of(ACTIVATIONS))),
    PlainSerializer(_written),
    _schema({"enum": list(ACTIVATIONS)}),
]
Output = Annotated[
    Freedom,
    PlainValidator(_freedom(_one_of(OUTPUTS))),
    PlainSerializer(_written),
    _schema({"enum": list(OUTPUTS)}),
]


def hidden_channels(width: float, channels: int) -> int:
    """``width`` times a stage's channels, rounded half up, at least 1."""
    return max(1, int(width * channels + 0.5))
