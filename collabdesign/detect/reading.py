"""A detection file, or a detector file, -> what it asks for, or every problem at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from collabdesign.design.files.document import Location, read_document
from collabdesign.design.files.overlays import Overlays
from collabdesign.design.files.values import Section
from collabdesign.design.files.wording import broken_rule, fields_at, unknown_key_hint
from collabdesign.detect.bodies import REFERENCE_BODIES, why_no_body
from collabdesign.detect.detector_freedoms import DetectorFreedoms, Image
from collabdesign.detect.requirements import DetectionRequirements
from collabdesign.errors import InputError, Problem

_DETECTOR = ("detector",)


class _DetectorFile(Section):
    """A detector file, under the key that it has in a detection file."""

    detector: DetectorFreedoms = Field(description="The Mask R-CNN.")


_File = TypeVar("_File", bound=Section)


def load_detection(
    path: Path | str, overrides: Sequence[str] = (), *, check_places: bool = True
) -> DetectionRequirements:
    """Read a detection file and the detector that it names.

    Args:
        path: Of the file. Paths in it are relative to its folder.
        overrides: ``training.epochs=3`` and the like, as after ``--set``.
        check_places: Whether the body, the annotation files and the folders must be there.

    Raises:
        InputError: Every problem that was found, in the order of the files.
    """
    overlays = Overlays(read_document(path))
    if "detector" not in overlays.data and "body" in overlays.data:
        hint = "give the detection file that names it: `detector: PATH`"
        raise InputError(Problem("the file must ask for a detection, got a detector", hint))
    _lay(overlays, overrides)
    return _validated(overlays, DetectionRequirements, check_places)


def load_detector(path: Path | str, overrides: Sequence[str] = ()) -> DetectorFreedoms:
    """Read a detector file, or the detector of a detection file.

    Raises:
        InputError: Every problem that was found, in the order of the files.
    """
    document = read_document(path)
    if "detector" in document.data:
        overlays = Overlays(document)
        _lay(overlays, overrides)
        overlays.data = {"detector": overlays.data["detector"]}
    else:
        # Its keys stand under `detector` in a detection file; here they stand alone.
        overlays = Overlays(document)
        overlays.data = {}
        overlays.lay_file(_DETECTOR, str(path))
        for text in overrides:
            key = text.lstrip()
            overlays.lay_override(key if key.startswith("detector.") else f"detector.{key}")
    return _validated(overlays, _DetectorFile, True).detector


def _lay(overlays: Overlays, overrides: Sequence[str]) -> None:
    """Lay the command line and the detector file over the file."""
    in_detector = [text for text in overrides if text.lstrip().startswith("detector.")]
    for text in overrides:
        if text not in in_detector:
            overlays.lay_override(text)
    written = overlays.data.get("detector")
    if isinstance(written, str):
        file = overlays.path(_DETECTOR, written)
        try:
            overlays.lay_file(_DETECTOR, file)
        except InputError as error:
            for problem in error.problems:
                if problem.line:
                    overlays.problems.append(problem)
                else:
                    message = f"detector must name a detector file, got {file}: {problem.message}"
                    overlays.note(_DETECTOR, message, problem.hint)
    for text in in_detector:
        overlays.lay_override(text)


def _validated(overlays: Overlays, kind: type[_File], check_places: bool) -> _File:
    _find_body(overlays, check_places)
    _find_data(overlays, check_places)
    found: _File | None = None
    try:
        found = kind.model_validate(overlays.data)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            _translate(overlays, details, kind)
    _check_sides(overlays)
    if found is None or overlays.problems:
        raise InputError(overlays.sorted_problems())
    return found


def _find_body(overlays: Overlays, check: bool) -> None:
    detector = overlays.data.get("detector")
    if not isinstance(detector, dict):
        return
    body = detector.get("body")
    if not isinstance(body, str) or not body or "\0" in body or body in REFERENCE_BODIES:
        return
    path = os.path.abspath(overlays.path(("detector", "body"), body))
    if check and (why := why_no_body(Path(path), body)):
        overlays.note_rule(("detector", "body"), why)
    overlays.data = {**overlays.data, "detector": {**detector, "body": path}}


def _check_sides(overlays: Overlays) -> None:
    detector = overlays.data.get("detector")
    with suppress(ValidationError):
        image = Image.model_validate(detector.get("image") if isinstance(detector, dict) else {})
        if image.max < image.min:
            rule = f"must be at least the {image.min} of image.min, got {image.max}"
            overlays.note_rule(("detector", "image", "max"), rule)


def _find_data(overlays: Overlays, check: bool) -> None:
    """Make the paths of ``data`` absolute, and look whether they are there."""
    data = overlays.data.get("data")
    if not isinstance(data, dict):
        return
    for part in ("train", "val"):
        files = data.get(part)
        if not isinstance(files, dict):
            continue
        for key in ("annotations", "images"):
            written = files.get(key)
            if not isinstance(written, str) or not written or "\0" in written:
                continue
            location = ("data", part, key)
            path = os.path.abspath(overlays.path(location, written))
            is_there, what = (
                (os.path.isfile(path), "a file")
                if key == "annotations"
                else (os.path.isdir(path), "a folder")
            )
            if check and not is_there:
                overlays.note_rule(location, f"must be {what} that exists, got {path}")
            files = {**files, key: path}
        data = {**data, part: files}
        if part == "val" and isinstance(data.get("train"), dict):
            own = files.get("annotations")
            if isinstance(own, str) and own and own == data["train"].get("annotations"):
                rule = f"must be another file than data.train.annotations, got {own}"
                overlays.note_rule(("data", "val", "annotations"), rule)
    overlays.data = {**overlays.data, "data": data}


def _translate(overlays: Overlays, details: ErrorDetails, kind: type[Section]) -> None:
    """Note what pydantic found, in the words of the file and at its place."""
    location: Location = details["loc"]
    if location == _DETECTOR and isinstance(overlays.data.get("detector"), str):
        return  # The file that it names could not be read, which is noted already.
    if details["type"] == "missing":
        message = f"{overlays.words(location)} must be given, got nothing"
        overlays.note(location[:-1], message, _help(location, kind), at_key=True)
    elif details["type"] == "extra_forbidden":
        whole = overlays.words(location[:-1]) or "the file"
        message = f"{whole} has no key {location[-1]!r}"
        overlays.note(location, message, unknown_key_hint(location, kind), at_key=True)
    else:
        overlays.note_rule(location, *broken_rule(details))


def _help(location: Location, kind: type[Section]) -> str:
    """The text under a key."""
    field: Any = fields_at(location[:-1], kind).get(str(location[-1]))
    return (field and field.description) or ""
