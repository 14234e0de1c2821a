"""The values of a prototype: each is a :class:`Freedom`, read from one of three ways to write it.

One value is fixed; a list is choices with the human's own first; ``{low, high, step}`` is a
range with the human's own value in the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Any

from collabdesign.design.architecture import MAX_BRANCHES, MAX_DEPTH, OUTPUTS, SHORTCUTS
from collabdesign.design.files import values
from collabdesign.design.files.units import shown
from collabdesign.design.files.values import Written
from collabdesign.design.layer_words import WORD_PATTERN, parse_token
from collabdesign.design.operators import ACTIVATIONS, ATTENTIONS, JOINS
from collabdesign.errors import InputError

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


def _choices(written: list[Any], read: Callable[[Any], Any]) -> Freedom:
    if not written:
        raise InputError("a list of choices must name at least one, got an empty list")
    checked = tuple(map(read, written))
    if len(set(checked)) != len(checked):
        raise InputError(f"choices must differ, got {written!r}")
    return Freedom(checked, own=checked[0])


def _range(written: dict[Any, Any], read: Callable[[Any], int]) -> Freedom:
    if set(written) != {"low", "high", "step"}:
        got = sorted(map(str, written))
        raise InputError(f"a range has the keys low, high and step, got {got}")
    step = written["step"]
    if type(step) is not int or step < 1:
        raise InputError(f"the step of a range must be at least 1, got {step!r}")
    low, high = read(written["low"]), read(written["high"])
    if low > high:
        raise InputError(f"a range must have low at most high, got low {low} and high {high}")
    if (high - low) % step:
        raise InputError(
            f"the step of a range must lead from low to high, got {low} to {high} in steps of "
            f"{step} (high {high - (high - low) % step} would do)"
        )
    steps = range(low, high + 1, step)
    if len(steps) > MAX_RANGE:
        raise InputError(f"a range has at most {MAX_RANGE} values, got {len(steps)}")
    # 0 and 4 may both be allowed, and what lies between them not.
    checked = tuple(map(read, steps))
    return Freedom(checked, own=checked[(len(checked) - 1) // 2], is_range=len(checked) > 1)


_RANGE = {
    "type": "object",
    "properties": {key: {"type": "integer"} for key in ("low", "high", "step")},
    "required": ["low", "high", "step"],
    "additionalProperties": False,
}


def _freedom(
    read: Callable[[Any], Any], schema: dict[str, Any], *, ranged: bool = False
) -> Written:
    """A freedom of single values, as these are read and as editors are told of them."""

    def read_freedom(written: Any) -> Freedom:
        if isinstance(written, Freedom):
            return written
        if ranged and isinstance(written, dict):
            return _range(written, read)
        if isinstance(written, dict):
            raise InputError(f"must be a value or a list of choices, got {written!r}")
        return _choices(list(written) if isinstance(written, list | tuple) else [written], read)

    forms = [schema, {"type": "array", "items": schema, "minItems": 1}]
    return Written(read_freedom, {"anyOf": [*forms, *[_RANGE] * ranged]}, Freedom.written)


def whole(low: int, high: int) -> Written:
    """Whole numbers, both ends included."""
    return _freedom(values.whole(low, high).read, {"type": "integer"}, ranged=True)


def name_in(table: Collection[str]) -> Written:
    """One of the names in a table, to which a row may be added later."""
    return _freedom(lambda value: values.one_of(*table).read(value), {"enum": list(table)})


def _odd(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= 11 or value % 2 == 0:
        raise InputError(f"must be 1, 3, 5, 7, 9 or 11, got {shown(value)}")
    return value


def _features(value: Any) -> int:
    if type(value) is not int or not (value == 0 or 4 <= value <= MAX_CHANNELS):
        rule = f"must be 0 (no feature layer) or a whole number from 4 to {MAX_CHANNELS}"
        raise InputError(f"{rule}, got {shown(value)}")
    return value


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"a layer must be a word such as pw or dw3, got {shown(value)}")
    parse_token(value)
    return value


_WORD = {"type": "string", "pattern": WORD_PATTERN}
_POSITION = _freedom(_word, _WORD)


def _read_layers(value: Any) -> tuple[Freedom, ...]:
    """One freedom for every position, or position by position where lists stand inside."""
    if isinstance(value, tuple) and value and all(isinstance(item, Freedom) for item in value):
        return value
    if not isinstance(value, list) or not any(isinstance(item, list) for item in value):
        return (_POSITION.read(value),)
    if len(value) > MAX_DEPTH:
        raise InputError(f"a branch has at most {MAX_DEPTH} layers, got {len(value)} lists")
    return tuple(map(_POSITION.read, value))


def _written_layers(positions: tuple[Freedom, ...]) -> Any:
    if len(positions) == 1:
        return positions[0].written()
    return [list(position.values) for position in positions]


_WORDS = {"type": "array", "items": _WORD, "minItems": 1}
_LAYERS = {"anyOf": [_WORD, {"type": "array", "items": {"anyOf": [_WORD, _WORDS]}}]}
_WIDTH = {"type": "number", "exclusiveMinimum": 0}

Kernel = Annotated[Freedom, _freedom(_odd, {"type": "integer"})]
Stride = Annotated[Freedom, _freedom(values.whole(1, 2).read, {"enum": [1, 2]})]
# At least 4, so that three concatenated branches always have a channel each.
Channels = Annotated[Freedom, whole(4, MAX_CHANNELS)]
Count = Annotated[Freedom, whole(0, MAX_MODULES)]
Features = Annotated[Freedom, _freedom(_features, {"type": "integer"}, ranged=True)]
Branches = Annotated[Freedom, whole(1, MAX_BRANCHES)]
Depth = Annotated[Freedom, whole(1, MAX_DEPTH)]
Widths = Annotated[Freedom, _freedom(values.number(0, 16, above=True).read, _WIDTH)]
Layers = Annotated[tuple[Freedom, ...], Written(_read_layers, _LAYERS, _written_layers)]
Shortcut = Annotated[Freedom, name_in(SHORTCUTS)]
Join = Annotated[Freedom, name_in(JOINS)]
Attention = Annotated[Freedom, name_in(ATTENTIONS)]
Activation = Annotated[Freedom, name_in(ACTIVATIONS)]
Output = Annotated[Freedom, name_in(OUTPUTS)]


def hidden_channels(width: float, channels: int) -> int:
    """``width`` times a stage's channels, rounded half up, at least 1."""
    return max(1, int(width * channels + 0.5))
