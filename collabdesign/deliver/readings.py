"""Reading the test accuracy of finished networks, each once, with a ledger of how often."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from collabdesign.errors import InputError
from collabdesign.evaluate.accuracy import evaluate
from collabdesign.evaluate.data.images import ImageData, TestData
from collabdesign.files import write_json

READINGS = "readings.json"


def judge_on_test(
    network: nn.Module, data: ImageData, test: TestData, ledger: Path
) -> tuple[float, int]:
    """The test accuracy of these weights, as :func:`read_test` says.

    Args:
        network: On the device of the test images.
        data: Gives mean and deviation.
        test: The images.
        ledger: A file of readings, by weights and images; made if it is not there.

    Raises:
        InputError: The ledger is broken.
    """
    weights = hashlib.sha256()
    for tensor in network.state_dict().values():
        weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())

    def measure() -> float:
        return evaluate(network, test.images, test.labels, mean=data.mean, std=data.std)

    return read_test(weights.hexdigest(), measure, test, ledger)


def read_test(
    content: str, measure: Callable[[], float], test: TestData, ledger: Path
) -> tuple[float, int]:
    """The test accuracy of anything, read once; how often it was read.

    The reading is entered before it is made, so that one cut off by a kill counts too.

    Args:
        content: SHA-256 of what is judged.
        measure: Its accuracy.
        test: The images.
        ledger: A file of readings, by content and images; made if it is not there.

    Raises:
        InputError: The ledger is broken.
    """
    entries = _entries(ledger)
    key = f"{content[:16]}-{test.fingerprint[:16]}"
    entry = entries.setdefault(key, {"readings": 0, "accuracy": None})
    if entry["accuracy"] is None:
        entry["readings"] += 1
        write_json(ledger, entries)
        entry["accuracy"] = measure()
        write_json(ledger, entries)
    return entry["accuracy"], entry["readings"]


def all_readings(ledger: Path) -> tuple[int, int]:
    """How many contents a ledger knows, and how often test was read in all.

    Raises:
        InputError: The ledger is broken.
    """
    entries = _entries(ledger)
    return len(entries), sum(entry["readings"] for entry in entries.values())


def _entries(ledger: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(ledger.read_text()) if ledger.is_file() else {}
    except ValueError as error:
        raise InputError(
            f"{str(ledger)!r} must hold how often test was read, and it is no JSON: {error}; "
            f"remove it with the folder {ledger.parent.name}, and what lies there is trained anew"
        ) from None
    return found
