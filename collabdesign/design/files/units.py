"""Quantities as a person writes them: ``10M`` multiply-adds, ``320k`` parameters, ``512KiB``.

Counts take k, M and G, powers of 1000. Bytes take B, kB, MB and GB, powers of 1000, and KiB,
MiB and GiB, powers of 1024. A plain whole number is a count, or bytes. What a unit leaves over
below one is dropped: no count lies between a limit and the whole number below it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

from collabdesign.errors import InputError, Problem

COUNT_UNITS: Mapping[str, int] = {"k": 10**3, "M": 10**6, "G": 10**9}
BYTE_UNITS: Mapping[str, int] = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}

# Far above any network, and far below what a float no longer holds.
LARGEST = 10**15

_NUMBER = r"[0-9]{1,16}(?:\.[0-9]{1,16})?"
COUNT_PATTERN = rf"^(?:[0-9]{{1,16}}|{_NUMBER} ?[kMG])$"
BYTES_PATTERN = rf"^(?:[0-9]{{1,16}}|{_NUMBER} ?(?:[kMG]?B|[KMG]iB))$"

_WRITTEN = re.compile(rf"({_NUMBER})(?: ?([A-Za-z]+))?", re.ASCII)


def parse_count(value: object, of: str = "things") -> int:
    """Read a positive count such as ``10M``, ``1.5k``, ``320000`` or ``1e6``.

    Args:
        value: Text, or a number as YAML gives it.
        of: What is counted, for the message.

    Raises:
        InputError: It is none; the message begins with ``must be``.
    """
    return _parse(value, COUNT_UNITS, f"must be a positive number of {of} such as 10M")


def parse_bytes(value: object) -> int:
    """Read a positive number of bytes such as ``512KiB``, ``1.2MB`` or ``4096``.

    Raises:
        InputError: It is none; the message begins with ``must be``.
    """
    return _parse(value, BYTE_UNITS, "must be a positive number of bytes such as 512KiB or 1.2MB")


def exact_count(value: int) -> str:
    """Write a count exactly: ``10M``, ``1.5k``, ``1234567``; :func:`parse_count` reads it."""
    return _format(value, {"": 1, **COUNT_UNITS})


def exact_bytes(value: int) -> str:
    """Write bytes exactly: ``512KiB``, ``1.2MB``, ``1234567B``; :func:`parse_bytes` reads it."""
    for unit in ("GiB", "MiB", "KiB"):
        if value and value % BYTE_UNITS[unit] == 0:
            return f"{value // BYTE_UNITS[unit]}{unit}"
    return _format(value, {unit: BYTE_UNITS[unit] for unit in ("B", "kB", "MB", "GB")})


def shown(value: object) -> str:
    """A value as YAML spells it, short enough for a message."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]} ... {text[-15:]}"


def few(words: Sequence[str], most: int = 5) -> str:
    """The first of some words, and how many more there are."""
    more = f" and {len(words) - most:,} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def _parse(value: object, units: Mapping[str, int], rule: str) -> int:
    amount: Decimal | None = None
    hint = ""
    if isinstance(value, str):
        match = _WRITTEN.fullmatch(value)
        if match and match[2] in units:
            amount = Decimal(match[1]) * units[match[2]]
        elif match and match[2]:
            hint = _hint(match[1], match[2], units)
        elif match and match[1].isdecimal():
            amount = Decimal(match[1])
    elif type(value) is int or (type(value) is float and value.is_integer()):
        amount = Decimal(value)
    if amount is None or amount < 1:
        raise InputError(Problem(f"{rule}, got {shown(value)}", hint))
    if amount > LARGEST:
        raise InputError(f"{rule}, at most {exact_count(LARGEST)}, got {shown(value)}")
    return int(amount)


def _hint(number: str, unit: str, units: Mapping[str, int]) -> str:
    """What was probably meant by a unit that is none of these."""
    by_lower = {name.lower(): name for name in units}
    if unit.lower() in by_lower:
        return f"write {number}{by_lower[unit.lower()]}: units are {', '.join(units)}"
    letter = unit[0].lower()
    if units is COUNT_UNITS and unit.lower() in {name.lower() for name in BYTE_UNITS}:
        counted = number + by_lower.get(letter, "")
        return f"{unit} is a unit of bytes: write {counted} for a count"
    if units is BYTE_UNITS and len(unit) == 1 and f"{letter}b" in by_lower:
        return f"write {number}{by_lower[f'{letter}b']} or {number}{by_lower[f'{letter}ib']}"
    return f"units are {', '.join(units)}"


def _format(value: int, units: Mapping[str, int]) -> str:
    """In the largest unit below it, or in the first where that takes over three decimals."""
    names = list(units)
    fitting = [name for name in names if units[name] <= value]
    unit = max(fitting, key=lambda name: units[name], default=names[0])
    if value * 1000 % units[unit]:
        unit = names[0]
    return f"{Decimal(value) / units[unit]:f}{unit}"
