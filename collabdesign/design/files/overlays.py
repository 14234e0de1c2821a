"""A requirements file, the prototype file it names and the command line, laid over each other.

Of these overlays the uppermost that says something about a place gives a problem there its
file, its line and its words.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from collabdesign.design.files.document import Document, Location, read_document, read_text
from collabdesign.design.files.units import shown
from collabdesign.errors import InputError, Problem

_LONGEST_MESSAGE = 400


@dataclass(frozen=True)
class Overlay:
    """A document that says what stands at a location and below it.

    Attributes:
        folder: That its paths are relative to; empty for the current directory.
        dropped: How many parts of a location its own words leave out.
    """

    location: Location
    document: Document
    folder: str
    dropped: int = 0


class Overlays:
    """What was read so far, where each part of it came from, and what is wrong with it.

    Attributes:
        data: Of all overlays together.
        problems: In the order of finding.
    """

    def __init__(self, document: Document) -> None:
        self.data: dict[str, Any] = document.data
        self.problems: list[Problem] = []
        self.folder = os.path.dirname(document.file)
        self._overlays = [Overlay((), document, self.folder)]

    def lay_file(self, location: Location, file: str) -> None:
        """Put a file in the place of its path.

        Raises:
            InputError: As :func:`read_document`.
        """
        document = read_document(file)
        self.data, _ = _with(self.data, tuple(map(str, location)), document.data)
        folder = os.path.dirname(file)
        self._overlays.append(Overlay(location, document, folder, dropped=len(location)))

    def lay_override(self, text: str) -> None:
        """Put the value of a ``search.trials=80`` in place; the value is YAML."""
        file = f"--set {text}"
        key, equals, value = text.partition("=")
        keys = tuple(key.strip().split("."))
        try:
            if not equals or not all(keys):
                hint = "write for example --set search.trials=80"
                raise InputError(Problem(f"--set must have key=value, got {text!r}", hint))
            data = read_text(value).data
            self.data, said = _with(self.data, keys, data)
        except InputError as error:
            self.problems += [Problem(p.message, p.hint, file) for p in error.problems]
        else:
            self._overlays.append(Overlay(said, Document(data, {}, {}, file), folder=""))

    def note(
        self, location: Location, message: str, hint: str = "", *, at_key: bool = False
    ) -> None:
        """Add a problem at a value, or at its key."""
        overlay = self._uppermost(location)
        if len(message) > _LONGEST_MESSAGE:
            message = f"{message[:300]} ... {message[-50:]}"
        below = location[len(overlay.location) :]
        self.problems.append(overlay.document.problem(below, message, hint, at_key=at_key))

    def note_rule(self, location: Location, rule: str, hint: str = "") -> None:
        """Add a problem at a value whose rule goes on after the key, or stands alone."""
        words = self.words(location)
        colon = "" if rule.startswith("must ") else ":"
        self.note(location, f"{words}{colon} {rule}" if words else rule, hint)

    def words(self, location: Location) -> str:
        """A location as a person writes it: ``stages[0].channels``."""
        text = ""
        for part in location[self._uppermost(location).dropped :]:
            text += f"[{part}]" if isinstance(part, int) else f".{part}"
        return text.removeprefix(".")

    def path(self, location: Location, written: str) -> str:
        """A path that stands at a location, relative to the current directory."""
        folder = self._uppermost(location).folder
        return os.path.normpath(os.path.join(folder, os.path.expanduser(written)))

    def sorted_problems(self) -> list[Problem]:
        """Each once, by file in the order of the overlays, then by line."""
        files = [overlay.document.file for overlay in self._overlays]

        def rank(problem: Problem) -> tuple[int, int, int]:
            order = files.index(problem.file) if problem.file in files else len(files)
            return order, problem.line, problem.column

        return sorted(dict.fromkeys(self.problems), key=rank)

    def _uppermost(self, location: Location) -> Overlay:
        for overlay in reversed(self._overlays):
            if location[: len(overlay.location)] == overlay.location:
                return overlay
        raise AssertionError("the first overlay is everywhere")


def _with(
    holder: Any, keys: tuple[str, ...], value: Any, above: tuple[str, ...] = ()
) -> tuple[Any, Location]:
    """A copy that has ``value`` at ``keys``, and the location of all that is new in it."""
    if not keys:
        return value, ()
    key, below = keys[0], keys[1:]
    if holder is None:
        made, _ = _with(None, below, value, (*above, key))
        return {key: made}, ()
    if isinstance(holder, dict):
        made, said = _with(holder.get(key), below, value, (*above, key))
        return {**holder, key: made}, (key, *said)
    if isinstance(holder, list) and key.isdecimal() and int(key) < len(holder):
        at = int(key)
        made, said = _with(holder[at], below, value, (*above, key))
        return [*holder[:at], made, *holder[at + 1 :]], (at, *said)
    words = ".".join(above)
    if isinstance(holder, list):
        raise InputError(f"{words} has entries 0 to {len(holder) - 1}, got {key!r}")
    raise InputError(f"{words} must be a mapping to have keys, got {shown(holder)}")
