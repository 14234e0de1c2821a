"""A member's ``model.py``: as a text beside what would be written, and run in a process of its
own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from collabdesign.deliver.certificate import Certificate, title_of
from collabdesign.deliver.source import model_source
from collabdesign.design.architecture import Architecture
from collabdesign.errors import InputError

_SECONDS = 300

# Prints what a folder's model.py computes of the pictures in a file of NumPy's, by the torch that
# this process has, wherever that lies.
_CALL = """\
import json, sys
sys.path[:] = json.loads(sys.argv[3])
import numpy, torch
sys.path.insert(0, sys.argv[1])
from model import load
with torch.inference_mode():
    print(json.dumps(load()(torch.from_numpy(numpy.load(sys.argv[2]))).tolist()))
"""


def text_difference(folder: Path, certificate: Certificate, architecture: Architecture) -> str:
    """The first line of ``model.py`` that this version would write otherwise; empty where all are
    as it would write them.

    Args:
        folder: Of the member.
        certificate: Tells classes, mean, deviation and check value.
        architecture: Of the member.
    """
    expected = ""
    value, channels = certificate.check_value, architecture.input_channels
    sizes = len(certificate.class_names), len(certificate.mean), len(certificate.std)
    # Of an architecture or a certificate that was changed there is no text to expect.
    if value is not None and sizes == (architecture.classes, channels, channels):
        expected = model_source(
            architecture,
            name=title_of(certificate.name),
            class_names=certificate.class_names,
            mean=certificate.mean,
            std=certificate.std,
            value=value,
        )
    text = (folder / "model.py").read_bytes().decode("utf-8", errors="replace")
    return "" if text == expected else _first_other_line(text, expected)


def _first_other_line(text: str, expected: str) -> str:
    found, right = text.splitlines(), expected.splitlines()
    for number, (one, other) in enumerate(zip(found, right, strict=False), start=1):
        if one != other:
            return f"line {number} is {one.strip()!r}, not {other.strip()!r}"
    number = min(len(found), len(right))
    if len(found) > number:
        return f"line {number + 1} is {found[number].strip()!r}, and was not there"
    if len(right) > number:
        return f"line {number + 1}, {right[number].strip()!r}, is missing"
    return "line ends differ"


def model_py_logits(folder: Path, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """What ``model.py`` computes. It is a program: this runs it, with all that it may do.

    Args:
        folder: Of the member.
        pictures: float32 [N, C, R, R], normalised.

    Raises:
        InputError: It gives no logits; with the last line of what it said.
    """
    with TemporaryDirectory() as temporary:
        file = Path(temporary) / "pictures.npy"
        np.save(file, pictures)
        path = json.dumps([each for each in sys.path if os.path.isabs(each)])
        try:
            answer = subprocess.run(
                [sys.executable, "-I", "-c", _CALL, str(folder.resolve()), str(file), path],
                cwd=temporary,
                capture_output=True,
                text=True,
                errors="backslashreplace",
                timeout=_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise InputError(f"model.py gave no answer within {_SECONDS} s") from None
    try:
        return np.array(json.loads(answer.stdout), dtype=np.float32)
    except ValueError:
        said = (answer.stderr.strip() or answer.stdout.strip() or "nothing").splitlines()[-1]
        raise InputError(f"model.py gave no logits, and said: {said[:200]}") from None
