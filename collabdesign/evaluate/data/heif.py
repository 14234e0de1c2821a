"""Pictures as phones of one maker store them: HEIC, by the extra ``heif``."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

SUFFIXES = frozenset({".heic", ".heif", ".hif"})


@cache
def can_read_heif() -> bool:
    """Whether the extra is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def is_heif(path: Path | str) -> bool:
    """By its suffix."""
    return Path(path).suffix.lower() in SUFFIXES


@cache
def register_heif() -> None:
    """Let PIL open such files, where the extra is installed."""
    if can_read_heif():
        from pillow_heif import register_heif_opener

        register_heif_opener()
