"""The two streams that commands write to: text that a stream cannot show, and readers that leave.

Nothing of this loads more than Python does by itself.
"""

from __future__ import annotations

import codecs
import os
import sys
from typing import TextIO

_HANDLER = "collabdesign"

# What we write beyond ASCII ourselves, as one would type it. The rest stands in names that people
# gave, and is shown by its code points.
_TYPED = {
    "\N{NO-BREAK SPACE}": " ",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{MINUS SIGN}": "-",
    "\N{MIDDLE DOT}": "-",
    "\N{BULLET}": "*",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{RIGHTWARDS ARROW}": "->",
    "\N{PLUS-MINUS SIGN}": "+-",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{GREATER-THAN OR EQUAL TO}": ">=",
    "\N{LEFT SINGLE QUOTATION MARK}": "'",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{LEFT DOUBLE QUOTATION MARK}": '"',
    "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
}

_NO_CURSOR = ("", "dumb", "unknown")
_NOT_FORCED = ("", "0", "false")


class _Lasting:
    """A stream that takes all that is written, also when nobody reads any more.

    Attributes:
        lost: Why it cannot be written to any more, None while it can.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost: OSError | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        self.lost = self.lost or error
        _to_nowhere(self._stream)


def prepare(*, lasting: bool) -> None:
    """Let both streams take any text; where ``lasting``, also after their readers left.

    Such a command does its work to the end. Else a write raises BrokenPipeError then.
    """
    codecs.register_error(_HANDLER, _spelled)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_HANDLER)
        if lasting and stream is not None and not isinstance(stream, _Lasting):
            setattr(sys, name, _Lasting(stream))


def lost() -> OSError | None:
    """Why a stream was lost that was to last, None where none was."""
    found = (getattr(each, "lost", None) for each in (sys.stdout, sys.stderr))
    return next(filter(None, found), None)


def finish() -> None:
    """Write what waits. Where that is refused it is dropped, and Python says nothing at its end."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            _to_nowhere(stream)


def say_line(text: str) -> None:
    """A line of the answer, without what makes tables and colours."""
    print(text, flush=True)


def note_line(text: str) -> None:
    """A line beside the answer, likewise."""
    print(text, file=sys.stderr, flush=True)


def shown(text: str) -> str:
    """A text as standard output shows it, so that its width is known."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, _HANDLER).decode(encoding)


def shows(text: str) -> bool:
    """Whether standard output shows a text as it is."""
    return shown(text) == text


def moves_cursor(stream: TextIO | None) -> bool:
    """Whether it is a terminal on which a line can be written anew."""
    is_terminal = stream is not None and stream.isatty()
    return is_terminal and os.environ.get("TERM", "").lower() not in _NO_CURSOR


def has_colour(stream: TextIO | None) -> bool:
    """Whether colours are wanted there (https://no-color.org, https://force-color.org)."""
    if os.environ.get("NO_COLOR"):
        return False
    forced = os.environ.get("FORCE_COLOR", "").lower() not in _NOT_FORCED
    return forced or moves_cursor(stream)


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an encoding lacks."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    each = (_TYPED.get(one) or one.encode("ascii", "backslashreplace").decode() for one in lacking)
    return "".join(each), error.end


def _to_nowhere(stream: TextIO) -> None:
    """Let what is written to it, and what waits to be, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
