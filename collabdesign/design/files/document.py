"""YAML text to plain data with the place of every key and value, and back.

The text of a stranger is read here, so only what a design needs is taken: one document of
mappings with text keys, lists, and plain values. Tags, which can run code, duplicate keys and
anything that grows when it is read are refused. Plain words are read as YAML 1.2 does, which
is what editors show: ``true`` and ``false`` alone are truth values (``yes`` and ``no`` are
words) and ``5e-4`` is a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from collabdesign.design.files.units import shown, without_commas
from collabdesign.errors import InputError, Problem

Location = tuple[str | int, ...]
"""The keys and list positions (from 0) that lead to a value."""

MAX_BYTES = 1_000_000
MAX_NODES = 10_000
MAX_DEPTH = 40

_NOTHING = re.compile(r"(?:~|null|Null|NULL|)")
_TRUTH = re.compile(r"(?:true|True|TRUE|false|False|FALSE)")
_EMPTY = re.compile("")
# Of `{macs: 3,000,000}` the value, and what YAML takes for keys without values.
_NUMBER = re.compile(r"[0-9]{1,16}(?:\.[0-9]{3})*", re.ASCII)
_REST_OF_NUMBER = re.compile(r"[0-9]{1,16}(?:\.[0-9]{1,16})?(?: ?[A-Za-z%]{1,3})?", re.ASCII)
_INTEGER = re.compile(r"[-+]?[0-9]+", re.ASCII)
_FLOAT = re.compile(
    r"[-+]?(?:(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))"
    r"|\.(?:nan|NaN|NAN)",
    re.ASCII,
)

_KINDS = {"null": type(None), "map": dict, "seq": list}
_KINDS |= {kind.__name__: kind for kind in (str, int, float, bool)}
_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}": kind for name, kind in _KINDS.items()}

# libyaml's parser where it is built in, about ten times faster.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Document:
    """Plain data, and where each part of it stands.

    Attributes:
        data: Mappings, lists, text, numbers, truth values and None.
        positions: Line and column, from 1, of each value.
        keys: Likewise of each key.
        file: As the person named it.
    """

    data: Any
    positions: Mapping[Location, tuple[int, int]]
    keys: Mapping[Location, tuple[int, int]]
    file: str

    def problem(
        self, location: Location, message: str, hint: str = "", *, at_key: bool = False
    ) -> Problem:
        """A problem at a value, or at its key; at what holds it where it stands nowhere."""
        place = self.keys.get(location) if at_key else None
        while place is None and location not in self.positions and location:
            location = location[:-1]
            place = self.keys.get(location)
        line, column = place or self.positions.get(location, (0, 0))
        return Problem(message, hint, self.file, line, column)


def read_document(path: Path | str) -> Document:
    """Read a file whose top level is a mapping.

    Raises:
        InputError: The file cannot be read, is too large, is not UTF-8 text, is not YAML, or
            holds something that is refused. Each problem has its line and column.
    """
    file = str(path)
    document = read_text(_read_file(file), file)
    if not isinstance(document.data, dict):
        what = "an empty file" if document.data is None else f"a {_kind(document.data)}"
        hint = "write `key: value` lines"
        raise InputError(document.problem((), f"the file must be a mapping, got {what}", hint))
    return document


def read_text(text: str, file: str = "") -> Document:
    """Read one YAML value of any kind; an empty text is None.

    Raises:
        InputError: As :func:`read_document`.
    """
    return _Reader(text, file).read()


class _Dumper(yaml.SafeDumper):
    """Writes in quotes whatever this module's reader would take for a number; no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # Line ends that PyYAML folds away unless they are escaped.
        style = '"' if re.search("[\x85\u2028\u2029]", data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_Dumper.add_representer(str, _Dumper.represent_str)


for _pattern, _tag in ((_INTEGER, "int"), (_FLOAT, "float")):
    _whole = re.compile(rf"(?:{_pattern.pattern})$", re.ASCII)
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _whole, list("-+.0123456789"))


def write_text(data: Any) -> str:
    """Plain data as YAML that :func:`read_text` reads back as equal data."""
    layout: dict[str, Any] = {"default_flow_style": None, "allow_unicode": True, "width": 100}
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, **layout)
    return text


def _read_file(file: str) -> str:
    try:
        with open(file, "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(Problem("the file must exist, got none", _nearby(file), file)) from None
    except IsADirectoryError:
        raise InputError(Problem("must be a file, got a folder", _nearby(file), file)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(Problem(f"the file must be readable, got: {reason}", "", file)) from None
    if len(raw) > MAX_BYTES:
        rule = f"the file must have at most {MAX_BYTES // 10**6} MB"
        raise InputError(Problem(f"{rule}, got more", "", file))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        hint = "save it as UTF-8 text"
        message = f"the file must be UTF-8 text, got the byte 0x{raw[error.start]:02x}"
        raise InputError(Problem(message, hint, file, line, column)) from None


def _nearby(file: str) -> str:
    """The YAML files that stand where a file is looked for."""
    path = Path(file)
    try:
        folder = path if path.is_dir() else path.parent
        names = sorted(
            entry.name for entry in folder.iterdir() if entry.suffix in (".yaml", ".yml")
        )
    except (OSError, ValueError):
        return f"there is no folder {path.parent}"
    few = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    if names:
        return f"in {folder} there are: {few}"
    return f"in {folder} there is no YAML file; collabdesign init --data FOLDER writes one"


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "mapping"
    return "list" if isinstance(value, list) else "single value"


class _Reader:
    """One pass over the events of a text, with bounded depth and size."""

    def __init__(self, text: str, file: str, loader: Any = None) -> None:
        self.loader = loader or _LOADER
        self.text = text
        self.file = file
        self.problems: list[Problem] = []
        self.positions: dict[Location, tuple[int, int]] = {}
        self.keys: dict[Location, tuple[int, int]] = {}
        # Of each anchor: its value and how many nodes that is, None while it is being read.
        self.anchors: dict[str, tuple[Any, int] | None] = {}
        self.nodes = 0
        self.events: Iterator[Any] = iter(())

    def read(self) -> Document:
        if unprintable := yaml.reader.Reader.NON_PRINTABLE.search(self.text):
            at = unprintable.start()
            line, column = self.text.count("\n", 0, at) + 1, at - self.text.rfind("\n", 0, at)
            message = f"the file must be text, got the character {self.text[at]!a}"
            raise InputError(Problem(message, "", self.file, line, column))
        self.events = yaml.parse(self.text, Loader=self.loader)
        try:
            data = self._documents()
        except yaml.YAMLError as error:
            if self.loader is not yaml.SafeLoader and "nesting depth" in str(error):
                # Some versions of libyaml look ahead and stop at a bound of their own, far
                # beyond where ours was passed.
                return _Reader(self.text, self.file, yaml.SafeLoader).read()
            raise InputError([*self.problems, self._syntax(error)]) from None
        if self.problems:
            raise InputError(self.problems)
        return Document(data, self.positions, self.keys, self.file)

    def _documents(self) -> Any:
        next(self.events)
        if isinstance(next(self.events), yaml.StreamEndEvent):
            self.positions[()] = (1, 1)
            return None
        data = self._value(next(self.events), (), 0)
        next(self.events)
        second = next(self.events)
        if not isinstance(second, yaml.StreamEndEvent):
            self._refuse(second, "the file must hold one document, got a second one")
        return data

    def _value(self, event: Any, location: Location, depth: int) -> Any:
        self.positions[location] = _place(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self.nodes
        self._count(event, 1)
        if depth > MAX_DEPTH:
            self._refuse(event, f"values must stand at most {MAX_DEPTH} deep, got more")
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        data: Any
        if isinstance(event, yaml.MappingStartEvent):
            data = self._mapping(event, location, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            data = []
            while not isinstance(item := next(self.events), yaml.SequenceEndEvent):
                data.append(self._value(item, (*location, len(data)), depth + 1))
        else:
            data = _scalar(event)
        self._check_tag(event, data)
        if event.anchor is not None:
            self.anchors[event.anchor] = (data, self.nodes - before)
        return data

    def _mapping(self, at_map: Any, location: Location, depth: int) -> dict[str, Any]:
        data: dict[str, Any] = {}
        number, at_number = "", at_map  # the value before, which commas may have cut
        while True:
            at_key, at_value = next(self.events), None
            if number and _is_plain(at_key, _REST_OF_NUMBER):
                at_value = next(self.events)
                if _is_plain(at_value, _EMPTY):
                    number += f",{at_key.value}"
                    continue
            if "," in number:
                self._note(
                    at_number,
                    f"a number must be written without commas between braces, got {number}",
                    f"write {without_commas(number)}" if without_commas(number) else "",
                )
            if isinstance(at_key, yaml.MappingEndEvent):
                return data
            # Not yet known by name: the value of a key that is refused stands nowhere.
            key = self._value(at_key, (*location, "?"), depth + 1)
            del self.positions[(*location, "?")]
            if not isinstance(key, str):
                message = f"a key must be text, got {_shown_key(key)}"
                hint = "write it in quotes" if isinstance(key, bool | int | float) else ""
                self._note(at_key, message, hint)
                key = f"? {len(data)}"
            elif key == "<<":
                self._note(at_key, "a key must be text, got a merge (<<)", "write its keys out")
            elif key in data:
                first = self.keys[(*location, key)]
                self._note(
                    at_key, f"a key must stand once, got {key!r} a second time",
                    f"it stands in line {first[0]} already",
                )  # fmt: skip
            at = (*location, key)
            self.keys.setdefault(at, _place(at_key))
            at_value = at_value or next(self.events)
            number, at_number = at_value.value if _is_plain(at_value, _NUMBER) else "", at_value
            data[key] = self._value(at_value, at, depth + 1)

    def _alias(self, event: Any) -> Any:
        name = event.anchor
        if name not in self.anchors:
            self._refuse(event, f"an alias must follow its anchor, got *{name} without one")
        anchor = self.anchors[name]
        if anchor is None:
            self._refuse(event, f"an alias must not stand inside its anchor, got *{name}")
        data, size = anchor
        self._count(event, size)
        return data

    def _count(self, event: Any, nodes: int) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            self._refuse(
                event,
                f"the file must hold at most {MAX_NODES:,} values, aliases written out, got more",
            )

    def _check_tag(self, event: Any, data: Any) -> None:
        tag = event.tag
        if tag in (None, "!") or _PLAIN_TAGS.get(tag) is type(data):
            return
        name = tag.replace("tag:yaml.org,2002:", "!!")
        if tag in _PLAIN_TAGS:
            self._note(event, f"a tag must name its value's kind, got {name}", "leave it out")
        else:
            self._note(
                event, f"a value must be plain text, number, list or mapping, got the tag {name}",
                "tags that run code are refused: leave it out",
            )  # fmt: skip

    def _note(self, event: Any, message: str, hint: str = "") -> None:
        self.problems.append(Problem(message, hint, self.file, *_place(event)))

    def _refuse(self, event: Any, message: str) -> NoReturn:
        """End the reading where going on makes no sense."""
        self._note(event, message)
        raise InputError(self.problems)

    def _syntax(self, error: yaml.YAMLError) -> Problem:
        if not isinstance(error, yaml.MarkedYAMLError):
            return Problem(f"the file must be YAML, got: {error}", "", self.file)
        mark, start = error.problem_mark or error.context_mark, error.context_mark
        what = str(error.problem)
        if start and mark and start.line < mark.line:
            what += f", {error.context} that begins in line {start.line + 1}"
        hint = "check indentation, brackets and quotes here and in the line before"
        lines = self.text.split("\n")
        if mark and mark.line < len(lines) and re.match(r" *\t", lines[mark.line]):
            hint = "indent with spaces, not with tabs"
        elif "mapping values are not allowed" in what:
            hint += "; text with ': ' in it needs quotes"
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        where = "the file" if self.file else "the value"
        return Problem(f"{where} must be YAML, got: {what}", hint, self.file, line, column)


def _is_plain(event: Any, pattern: re.Pattern[str]) -> bool:
    """Whether it is a scalar without quotes and tag that has the form."""
    is_plain = isinstance(event, yaml.ScalarEvent) and event.implicit[0] and not event.style
    return is_plain and bool(pattern.fullmatch(event.value))


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _scalar(event: Any) -> Any:
    text: str = event.value
    is_quoted = event.tag is None and not event.implicit[0]
    if is_quoted or event.tag in ("!", "tag:yaml.org,2002:str"):
        return text
    if _NOTHING.fullmatch(text):
        return None
    if _TRUTH.fullmatch(text):
        return text.lower() == "true"
    if _INTEGER.fullmatch(text):
        # Python refuses to read thousands of digits.
        return int(text) if len(text) <= 100 else text
    if _FLOAT.fullmatch(text):
        return float(re.sub(r"\.(?=[ni])", "", text.lower()))
    return text


def _shown_key(key: Any) -> str:
    return f"a {_kind(key)}" if isinstance(key, dict | list) else shown(key)
