"""What pydantic finds wrong, in our words: the rule, then what came."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from collabdesign.design.files.document import Location
from collabdesign.design.files.units import shown
from collabdesign.design.files.values import FLOPS_HINT
from collabdesign.design.requirements import Requirements
from collabdesign.errors import InputError, Problem


def broken_rule(details: ErrorDetails) -> tuple[str, str]:
    """The rule that a value breaks with what came, and a hint; the key is put before it."""
    value, context = details["input"], details.get("ctx", {})
    if details["type"] == "value_error":
        error = context["error"]
        problem = error.problems[0] if isinstance(error, InputError) else Problem(str(error))
        return problem.message, problem.hint
    if details["loc"] == ("prototype",):
        return f"must be the path of a prototype file or a mapping, got {shown(value)}", ""
    rule = _RULES.get(details["type"])
    message, hint = rule(value, context) if rule else (f"must be valid ({details['msg']})", "")
    return f"{message}, got {shown(value)}", hint


def unknown_key_hint(location: Location, whole: type[BaseModel] = Requirements) -> str:
    """What was probably meant by a key that none of the keys at its place is."""
    key, keys = str(location[-1]), list(fields_at(location[:-1], whole))
    if "flop" in key.lower():
        return FLOPS_HINT
    close = difflib.get_close_matches(key, keys, n=1)
    return f"did you mean {close[0]}?" if close else f"its keys are {', '.join(keys)}"


def fields_at(location: Location, whole: type[BaseModel] = Requirements) -> Mapping[str, FieldInfo]:
    """The fields that may stand in the mapping at a location of a file of this kind."""
    kind: Any = whole
    for part in location:
        if _is_model(kind):
            field = kind.model_fields.get(str(part))
            kind = field.annotation if field else None
        elif arguments := get_args(kind):
            kind = arguments[1 if get_origin(kind) is dict else 0]
    return kind.model_fields if _is_model(kind) else {}


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _text(value: Any, context: Mapping[str, Any]) -> tuple[str, str]:
    return "must be text", "write it in quotes" if type(value) in (int, float, bool) else ""


_TRUTHS = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}


def _truth(value: Any, context: Mapping[str, Any]) -> tuple[str, str]:
    meant = _TRUTHS.get(str(value).lower())
    return "must be true or false", f"write {meant}" if meant else ""


def _one_of(value: Any, context: Mapping[str, Any]) -> tuple[str, str]:
    words = re.findall(r"'([^']*)'", context["expected"])
    close = difflib.get_close_matches(str(value).lower(), words, n=1)
    return f"must be one of {', '.join(words)}", f"did you mean {close[0]}?" if close else ""


def _entries(context: Mapping[str, Any], end: str) -> str:
    count = context[f"{end}_length"]
    return "1 entry" if count == 1 else f"{count} entries"


_RULES: Mapping[str, Callable[[Any, Mapping[str, Any]], tuple[str, str]]] = {
    "model_type": lambda value, context: ("must be a mapping of keys to values", ""),
    "dict_type": lambda value, context: ("must be a mapping of keys to values", ""),
    "tuple_type": lambda value, context: ("must be a list", ""),
    "string_type": _text,
    "bool_type": _truth,
    "literal_error": _one_of,
    "too_short": lambda value, context: (f"must have at least {_entries(context, 'min')}", ""),
    "too_long": lambda value, context: (f"must have at most {_entries(context, 'max')}", ""),
}
