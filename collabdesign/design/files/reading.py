"""A requirements file and what it names -> Requirements, or every problem at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from collabdesign.design.files.document import read_document
from collabdesign.design.files.overlays import Overlays
from collabdesign.design.files.wording import broken_rule, fields_at, unknown_key_hint
from collabdesign.design.prototype import Prototype
from collabdesign.design.requirements import Requirements
from collabdesign.design.sources import PATHS, SOURCES, foreign_keys, keys_of, with_defaults
from collabdesign.errors import InputError


def load_requirements(
    path: Path | str, overrides: Sequence[str] = (), *, check_data: bool = True
) -> Requirements:
    """Read a requirements file and the prototype that it names.

    Args:
        path: Of the requirements file. Paths in it are relative to its folder.
        overrides: ``search.trials=80`` and the like, as after ``--set``: the value is YAML, a
            path is relative to the current directory, what holds the key is made if missing.
        check_data: Whether the folders of images must be there. Where not, the file must say
            how many classes there are, as a resolved one does.

    Raises:
        InputError: Every problem that was found, in the order of the files.
    """
    overlays = Overlays(read_document(path))
    in_prototype = [text for text in overrides if text.lstrip().startswith("prototype.")]
    for text in overrides:
        if text not in in_prototype:
            overlays.lay_override(text)
    _read_prototype(overlays)
    for text in in_prototype:
        overlays.lay_override(text)
    _find_data(overlays, check_data)
    _find_command(overlays)
    requirements = _validate(overlays, check_data)
    if requirements is None or overlays.problems:
        raise InputError(overlays.sorted_problems())
    return requirements


def _read_prototype(overlays: Overlays) -> None:
    """Put the prototype file in the place of its path."""
    written = overlays.data.get("prototype")
    if not isinstance(written, str):
        return
    file = overlays.path(("prototype",), written)
    try:
        overlays.lay_file(("prototype",), file)
    except InputError as error:
        for problem in error.problems:
            if problem.line:
                overlays.problems.append(problem)
            else:
                message = f"prototype must name a prototype file, got {file}: {problem.message}"
                overlays.note(("prototype",), message, problem.hint)


# -- data -----------------------------------------------------------------------------------


def _find_data(overlays: Overlays, check: bool) -> None:
    """Make the paths of ``data`` absolute, look into its folders, count its classes."""
    written = overlays.data.get("data")
    if not isinstance(written, dict):
        return
    data, row = dict(written), keys_of(written)
    folders = {}
    for key, default in row.paths.items() if row else ():
        if data.get(key) is None:
            data[key] = os.path.abspath(os.path.join(overlays.folder, default))
    for key in PATHS:
        path = data.get(key)
        if isinstance(path, str) and path and "\0" not in path:
            data[key] = folders[key] = os.path.abspath(overlays.path(("data", key), path))
    if row:
        _check_keys(overlays, data["source"], data)
    count = with_defaults({**data, "classes": None}).get("classes")
    if row and row.look and check:
        count, faults = row.look({key: folders[key] for key in row.own if key in folders}, data)
        for fault in faults:
            overlays.note(("data", fault.key), fault.message, fault.hint)
    if count is not None and type(data.get("classes")) is int and data["classes"] != count:
        message = f"data.classes must be the {count} that the data has, got {data['classes']}"
        overlays.note(("data", "classes"), message, "leave it out: it is found in the data")
    if count is not None and data.get("classes") is None:
        data["classes"] = count
    overlays.data = {**overlays.data, "data": data}


def _check_keys(overlays: Overlays, source: str, data: Mapping[str, Any]) -> None:
    """Note keys that the source needs, and those that belong to another."""
    for key in SOURCES[source].needs:
        if data.get(key) is None:
            message = f"data.{key} must be given where data.source is {source}, got nothing"
            overlays.note(("data",), message, _help(("data", key)), at_key=True)
    for key, other in foreign_keys(source).items():
        if data.get(key) not in (None, False):
            message = f"data.{key} belongs to source {other}, got source {source}"
            overlays.note(("data", key), message, at_key=True)


def _find_command(overlays: Overlays) -> None:
    """Write down where the command that measures is run: beside the file that it stands in."""
    written = overlays.data.get("latency")
    if not isinstance(written, dict) or not isinstance(written.get("command"), str):
        return
    folder = written.get("folder")
    key, path = ("folder", folder) if folder is not None else ("command", ".")
    if isinstance(path, str) and path and "\0" not in path:
        found = os.path.abspath(overlays.path(("latency", key), path))
        overlays.data = {**overlays.data, "latency": {**written, "folder": found}}


# -- validation -----------------------------------------------------------------------------


def _validate(overlays: Overlays, check_data: bool) -> Requirements | None:
    """Build the requirements; None with problems noted where that fails."""
    if "prototype" not in overlays.data and {"stages", "modules"} <= set(overlays.data):
        hint = "give the requirements file that names it: `prototype: PATH`"
        overlays.note((), "the file must hold requirements, got a prototype", hint)
        return None
    requirements: Requirements | None = None
    prototype: Prototype | None = None
    try:
        requirements = Requirements.model_validate(overlays.data)
        prototype = requirements.prototype
    except ValidationError as error:
        for details in error.errors(include_url=False):
            _translate(overlays, details, check_data)
        with suppress(ValidationError):
            prototype = Prototype.model_validate(overlays.data.get("prototype"))
    data = overlays.data.get("data")
    resolution = with_defaults(data).get("resolution") if isinstance(data, dict) else None
    if prototype and type(resolution) is int and resolution > 0:
        for location, message in prototype.problems(resolution):
            overlays.note_rule(("prototype", *location), message)
    if requirements is not None:
        proxy, classes = requirements.search.proxy, requirements.data.classes
        if proxy.images is not None and proxy.images < classes:
            rule = f"must be at least 1 of each of {classes} classes, got {proxy.images}"
            overlays.note_rule(("search", "proxy", "images"), rule)
        if proxy.inherit and proxy.inherit_epochs >= proxy.epochs:
            rule = f"must be fewer than the {proxy.epochs} of search.proxy.epochs"
            rule += f", got {proxy.inherit_epochs}"
            overlays.note_rule(("search", "proxy", "inherit_epochs"), rule)
    return requirements


def _translate(overlays: Overlays, details: ErrorDetails, check_data: bool) -> None:
    """Note what pydantic found, in the words of the file and at its place."""
    location, holder = details["loc"], details["loc"][:-1]
    if location == ("prototype",) and isinstance(overlays.data.get("prototype"), str):
        return  # The file that it names could not be read, which is noted already.
    if details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]:
        return  # Entries with problems of their own do not count for pydantic.
    if details["type"] == "missing":
        if not _is_found_elsewhere(overlays, location, check_data):
            message = f"{overlays.words(location)} must be given, got nothing"
            overlays.note(holder, message, _help(location), at_key=True)
    elif details["type"] == "extra_forbidden":
        whole = "a prototype" if location[0] == "prototype" else "a requirements file"
        message = f"{overlays.words(holder) or whole} has no key {location[-1]!r}"
        overlays.note(location, message, unknown_key_hint(location), at_key=True)
    else:
        overlays.note_rule(location, *broken_rule(details))


def _is_found_elsewhere(overlays: Overlays, location: tuple[int | str, ...], check: bool) -> bool:
    """Whether a missing key follows from others, with which something is wrong already."""
    if location not in (("data", "classes"), ("data", "resolution")):
        return False
    row, key = keys_of(overlays.data.get("data")), location[-1]
    if row is None or row.pictures:
        return True
    return key not in row.untold and (check or key != "classes")


def _help(location: tuple[int | str, ...]) -> str:
    """The text under a key."""
    field = fields_at(location[:-1]).get(str(location[-1]))
    return (field and field.description) or ""
