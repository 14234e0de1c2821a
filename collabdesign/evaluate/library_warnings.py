"""What libraries warn of: with the file that it is about, or kept from people.

``warnings.catch_warnings`` is not for threads, and pictures are decoded in several: what it sets
belongs to the process. Here the first thread that listens sets it, the last one takes it back, and
each hears of its own alone.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

log = logging.getLogger(__name__)

_LOCK = threading.Lock()
_HERE = threading.local()
_listening = 0
_catching: warnings.catch_warnings[Any] | None = None

# A thing is said of so many files, those that are read first.
_FILES_NAMED = 5
_named: dict[str, int] = {}


@contextmanager
def heard() -> Iterator[list[str]]:
    """What libraries warn of in this thread while the block runs, each once; it is not shown."""
    global _listening, _catching
    outer, said = getattr(_HERE, "said", None), list[str]()
    with _LOCK:
        if not _listening:
            _catching = warnings.catch_warnings()
            _catching.__enter__()
            warnings.simplefilter("always")
            warnings.showwarning = functools.partial(_hear, warnings.showwarning)
        _listening += 1
    _HERE.said = said
    try:
        yield said
    finally:
        _HERE.said = outer
        with _LOCK:
            _listening -= 1
            if not _listening:
                assert _catching is not None
                _catching.__exit__(None, None, None)


@contextmanager
def naming_file(name: Path | str) -> Iterator[None]:
    """While a file is read, what libraries warn of is logged with its name.

    One thing is said of a few files at most, with a word that there may be more.
    """
    with heard() as said:
        yield
    for text in said:
        with _LOCK:
            _named[text] = count = _named.get(text, 0) + 1
        more = " (more files of which this is to be said are not named)"
        if count <= _FILES_NAMED:
            log.warning("%s: %s%s", name, text, more if count == _FILES_NAMED else "")


def keep_from_people() -> None:
    """Of this process, the rest of what libraries warn of goes to the run's log alone.

    Where a person asks Python for warnings (``-W``, ``PYTHONWARNINGS``) they are shown.
    """
    if not sys.warnoptions:
        warnings.showwarning = _log


def _hear(otherwise: Callable[..., None], message: Warning | str, *where: Any, **more: Any) -> None:
    said: list[str] | None = getattr(_HERE, "said", None)
    if said is None:
        otherwise(message, *where, **more)
    elif (text := " ".join(str(message).split())) not in said:
        said.append(text)


def _log(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    log.info("%s: %s (%s:%d)", category.__name__, message, filename, lineno)
