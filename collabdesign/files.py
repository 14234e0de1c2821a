"""Writing what is handed over: whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes) -> None:
    """Write under a temporary name beside the file, then rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """As :func:`write_bytes`, in UTF-8.

    Of a name that is no text on its disk, such as that of a folder in another encoding, each byte
    that is none is written as Python and JSON spell it: JSON reads the same name back.
    """
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_json(path: Path, data: Any) -> None:
    """As :func:`write_text`, indented."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
