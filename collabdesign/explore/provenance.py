"""``environment.json``: on what the candidates of a run were trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from collabdesign.errors import InputError
from collabdesign.files import write_json

ENVIRONMENT = "environment.json"


def note_environment(run_dir: Path, environment: Mapping[str, str], first: int) -> None:
    """Add on what the candidates from a number on are trained; a broken file is begun anew.

    The file has one entry for each environment that trained any: the versions, and the first and
    last number of the candidates; no last one while the search goes on.
    """
    runs = []
    with suppress(InputError):
        runs = [each for each in read_environments(run_dir) if each["candidates"][0] < first]
    if runs and {**runs[-1], "candidates": None} == {**environment, "candidates": None}:
        first = runs.pop()["candidates"][0]
    elif runs:
        runs[-1]["candidates"][1] = first - 1
    runs.append({**environment, "candidates": [first, None]})
    write_json(run_dir / ENVIRONMENT, {"runs": runs})


def read_environments(run_dir: Path) -> list[dict[str, Any]]:
    """The entries of :func:`note_environment`, oldest first; also the one of earlier versions.

    Raises:
        InputError: The file is broken.
    """
    path = run_dir / ENVIRONMENT
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        runs = found.get("runs", [found] if found else [])
        return [{**each, "candidates": each.get("candidates") or [0, None]} for each in runs]
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(
            f"{str(path)!r} must say where candidates were trained, and does not: {error}; remove "
            "it, and the search command writes it again"
        ) from None
