"""Faults that end a process of its own doing, such as a segmentation fault in a library.

The interpreter's fault handler writes a report into a file while the process dies; a process that
is killed from outside leaves none.
"""

from __future__ import annotations

import faulthandler
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: A training that ended its process by a fault is tried again: the machine may have been at fault.
#: So often, and it is the network's, on this machine's libraries.
MOST_FAULTS = 2

_REPORT = "Fatal Python error: (.*)"


@contextmanager
def noted(path: Path) -> Iterator[None]:
    """A fault in here adds its report to the file; not where the process has such reports written
    elsewhere already (``PYTHONFAULTHANDLER``). A file that stays empty is removed."""
    if faulthandler.is_enabled():
        yield
        return
    with path.open("ab") as file:
        faulthandler.enable(file, all_threads=False)
        try:
            yield
        finally:
            faulthandler.disable()
            if not path.stat().st_size:
                path.unlink()


def faults(path: Path) -> list[str]:
    """The faults in a file of reports, such as ``Segmentation fault``, the first one first."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    # A report that was cut off ends in the middle of a line.
    return [each.strip() for each in re.findall(_REPORT, text)]
