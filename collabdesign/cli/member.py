"""What the commands about a member's folder share: whose data it was trained and judged on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from collabdesign.deliver.certificate import CERTIFICATE
from collabdesign.design.files.reading import load_requirements
from collabdesign.design.requirements import Requirements
from collabdesign.errors import InputError

_FILE = "requirements.yaml"


def requirements_of(
    folder: Path, file: Path | None, overrides: Sequence[str]
) -> Requirements | None:
    """The requirements that a member's run was asked for.

    Args:
        folder: Of the member.
        file: Which a person names; the ``requirements.yaml`` of the run that the folder lies in,
            or beside the folder, where None.
        overrides: As after ``--set``, such as where the pictures lie here.

    Returns:
        None where none is named and none lies there.

    Raises:
        InputError: The folder is no member's, or the file cannot be used.
    """
    if not (folder / CERTIFICATE).is_file():
        raise InputError(f"a member's folder holds a {CERTIFICATE}, {str(folder)!r} has none")
    if file is None:
        above = folder.resolve().parents[:2]
        file = next((each / _FILE for each in above if (each / _FILE).is_file()), None)
    return None if file is None else load_requirements(file, overrides)
