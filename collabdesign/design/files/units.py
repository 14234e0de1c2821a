"""Quantities as a person writes them: ``10M`` multiply-adds, ``320k`` parameters, ``512KiB``.

Counts take k, M and G, powers of 1000. Bytes take B, kB, MB and GB, powers of 1000, and KiB,
MiB and GiB, powers of 1024. A plain whole number is a count, or bytes. What a unit leaves over
below one is dropped: no count lies between a limit and the whole number below it.

Marks between groups of digits are read where they can be nothing else: ``1_000_000``,
``3,000,000``, ``10 000``. A comma for a decimal point, and what could be either, is refused with
what to write.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
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

_WORDS = {"thousand": "k", "million": "M", "mio": "M", "mln": "M", "billion": "G", "bn": "G"}

_SCALES = {"%": Decimal("0.01"), **{name: Decimal(size) for name, size in COUNT_UNITS.items()}}

# Far above any network, and far below what a float no longer holds.
LARGEST = 10**15

_SPACE = "[ \u00a0\u202f]"  # also those that do not break, as in what is copied from a text

_PLAIN = r"(?:[0-9]{1,16}(?:\.[0-9]{1,16})?|\.[0-9]{1,16})"
# One comma or point before three digits may be a decimal one; two cannot.
_GROUPED = (
    r"(?:[0-9]{1,16}(?:_[0-9]{1,16}){1,5}"
    rf"|[0-9]{{1,3}}(?:(?:'|{_SPACE})[0-9]{{3}}){{1,5}}"
    r"|[0-9]{1,3}(?:,[0-9]{3}){2,5}|[0-9]{1,3}(?:\.[0-9]{3}){2,5})"
)
_POWER = rf"{_PLAIN}[eE]\+?[0-9]{{1,2}}"
_WITHOUT_UNIT = rf"[0-9]{{1,16}}|{_GROUPED}|{_POWER}"
COUNT_PATTERN = rf"^(?:{_WITHOUT_UNIT}|(?:{_PLAIN}|{_GROUPED}){_SPACE}?[kMG])$"
BYTES_PATTERN = rf"^(?:{_WITHOUT_UNIT}|(?:{_PLAIN}|{_GROUPED}){_SPACE}?(?:[kMG]?B|[KMG]iB))$"

_WRITTEN = re.compile(
    rf"({_POWER}|[0-9.,_'{_SPACE[1:-1]}]{{0,40}}[0-9]\.?)(?:{_SPACE}*([A-Za-z%]+))?", re.ASCII
)


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


def meanings(text: str) -> list[str]:
    """What a number may mean that a person wrote, each as Python writes it; the likelier first.

    Args:
        text: Without its unit.

    Returns:
        One where it can be nothing else, none where it is no number.
    """
    marked = re.sub(_SPACE, "_", text.strip()).replace("'", "_")
    if re.fullmatch(_PLAIN, text):
        return [text if text[0] != "." else f"0{text}"]
    if re.fullmatch(_POWER, text):
        return [f"{Decimal(text):f}"]
    if re.fullmatch(_GROUPED, text):
        return [re.sub(r"[.,_]", "", marked)]
    if re.fullmatch(r"[0-9]{1,16}\.", marked):
        return [marked[:-1]]
    if found := re.fullmatch(r"([0-9]{1,3}(?:[._][0-9]{3})+),([0-9]{1,16})", marked):
        return [f"{re.sub('[._]', '', found[1])}.{found[2]}"]
    if found := re.fullmatch(r"([0-9]{1,3}(?:[,_][0-9]{3})+)\.([0-9]{1,16})", marked):
        return [f"{re.sub('[,_]', '', found[1])}.{found[2]}"]
    if found := re.fullmatch(r"([0-9]{0,16}),([0-9]{1,16})", marked):
        decimal = f"{found[1] or '0'}.{found[2]}"
        is_group = re.fullmatch(r"[1-9][0-9]{0,2},[0-9]{3}", marked)
        return [f"{found[1]}{found[2]}", decimal] if is_group else [decimal]
    if re.fullmatch(r"[0-9]{1,3}(?:[,_.][0-9]{2,4}){2,5}", marked):
        return [re.sub(r"[.,_]", "", marked)]
    return []


def to_write(value: object, fits: Callable[[str], bool]) -> str:
    """The hint for a number that was written in another way; empty where none is seen in it.

    Args:
        value: That was refused.
        fits: Whether a number as Python writes it may stand there.
    """
    match = _WRITTEN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return ""
    scale = _SCALES.get(match[2], Decimal(1))
    numbers = [f"{Decimal(each) * scale:f}" for each in meanings(match[1])]
    numbers = [each.rstrip("0").rstrip(".") if "." in each else each for each in numbers]
    fitting = [each for each in numbers if fits(each)]
    return f"write {' or '.join(fitting)}" if fitting else ""


def without_commas(text: str) -> str:
    """A number with its unit as it is to be written where a comma ends it, empty where unclear."""
    match = _WRITTEN.fullmatch(text)
    unit = (match[2] or "") if match else ""
    return " or ".join(f"{each}{unit}" for each in meanings(match[1])) if match else ""


def _parse(value: object, units: Mapping[str, int], rule: str) -> int:
    amount: Decimal | None = None
    hint = ""
    if isinstance(value, str):
        amount, hint = _read(value, units)
    elif type(value) is int or (type(value) is float and value.is_integer()):
        amount = Decimal(value)
    if amount is None or amount < 1:
        raise InputError(Problem(f"{rule}, got {shown(value)}", hint))
    if amount > LARGEST:
        raise InputError(f"{rule}, at most {exact_count(LARGEST)}, got {shown(value)}")
    return int(amount)


def _read(text: str, units: Mapping[str, int]) -> tuple[Decimal | None, str]:
    """What a text certainly says, None where that is not certain, and then what to write."""
    match = _WRITTEN.fullmatch(text)
    if match is None:
        return None, ""
    number, unit = match[1], match[2]
    if unit is not None and unit not in units:
        return None, "; or ".join(_hint(each, unit, units) for each in meanings(number))
    is_certain = re.fullmatch(rf"{_PLAIN}|{_GROUPED}" if unit else _WITHOUT_UNIT, number)
    if is_certain:
        amount = Decimal(meanings(number)[0]) * (units[unit] if unit else 1)
        return (amount, "") if unit or amount == amount.to_integral_value() else (None, "")
    likely = [f"{each}{unit or ''}" for each in meanings(number)]
    if not unit and re.fullmatch(r"[1-9][0-9]{0,2}\.[0-9]{3}", number):
        likely = [number.replace(".", ""), number]  # as a comma there
    if not unit:
        likely = [each for each in (_whole(each) for each in likely) if each]
    return None, f"write {' or '.join(likely)}" if likely else ""


def _whole(number: str) -> str:
    """A whole number without its decimals, empty for another."""
    amount = Decimal(number)
    return f"{amount:.0f}" if amount == amount.to_integral_value() else ""


def _hint(number: str, unit: str, units: Mapping[str, int]) -> str:
    """What was probably meant by a unit that is none of these."""
    by_lower = {name.lower(): name for name in units}
    if unit.lower() in by_lower:
        return f"write {number}{by_lower[unit.lower()]}: units are {', '.join(units)}"
    letter = unit[0].lower()
    if (short := _WORDS.get(unit.lower().removesuffix("s"))) is not None:
        ways = [each for each in units if each.lower() in (short.lower(), f"{short}b".lower())]
        return f"write {number}{ways[0]}"
    if units is COUNT_UNITS and unit == "B":
        return f"B is a unit of bytes: write {number} for a count, {number}G for billions"
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
