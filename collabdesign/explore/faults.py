"""Faults that end this process of its own doing, such as a segmentation fault in a library.

The interpreter's fault handler writes a report into a file while the process dies. A process that
is killed from outside leaves none.
"""

from __future__ import annotations

import faulthandler
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

#: A training that ended its process by a fault is tried again: the machine may have been at fault.
#: So often, and it is the network's, on this machine's libraries.
MOST_FAULTS = 2

#: The reason of what failed by a fault begins so.
FAULT = "fault: "

_REPORT = "Fatal Python error: (.*)"


@contextmanager
def reported(path: Path, *, take_over: bool = False) -> Iterator[BinaryIO]:
    """A fault in here adds its report to the file, after what the caller writes there.

    Where the process has such reports written elsewhere (``PYTHONFAULTHANDLER``), they go there,
    but for ``take_over``.
    """
    was_enabled = faulthandler.is_enabled()
    is_ours = take_over or not was_enabled
    try:
        with path.open("wb", buffering=0) as file:
            if is_ours:
                faulthandler.enable(file, all_threads=False)
            try:
                yield file
            finally:
                if is_ours:
                    faulthandler.disable()
                    if was_enabled:
                        faulthandler.enable(all_threads=False)
    finally:
        path.unlink(missing_ok=True)


def death_of(path: Path) -> tuple[str, str]:
    """What was written before the report that a dead process left, and the fault, such as
    ``Segmentation fault``; empty where there is none. The file is removed."""
    text = ""
    with suppress(OSError):
        text = path.read_text(encoding="utf-8", errors="replace")
        path.unlink()
    before, *_ = text.partition("\n")
    found = re.search(_REPORT, text)
    return before, found[1].strip() if found else ""
