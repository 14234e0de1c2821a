"""What was exported of a member, and how it does; without torch.

A row of a certificate, made by :mod:`collabdesign.deliver.export.export`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from collabdesign.design.exports import EXPORTS

# Logits in float32 differ by rounding alone: so much of the largest of them, at most.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Parity:
    """How far a written network agrees with the network itself.

    Attributes:
        images: On so many; of the held-out part, where that is at hand.
        largest_difference: Of two logits.
        largest_logit: Of the network itself, by its amount.
        same_decisions: Images that both put into the same class.
    """

    images: int
    largest_difference: float
    largest_logit: float
    same_decisions: int

    @property
    def is_rounding(self) -> bool:
        """Whether the difference is no more than float32 rounding makes."""
        return self.largest_difference <= TOLERANCE * max(1.0, self.largest_logit)


@dataclass(frozen=True)
class Exported:
    """One form of a member.

    Attributes:
        format: A key of :data:`collabdesign.design.exports.EXPORTS`.
        file: In the member's folder.
        precision: ``float32`` or ``int8``.
        bytes: Size of the file.
        sha256: Of the file.
        runtime: What ran it, with its version.
        parity: With the network in float32.
        select_accuracy: On the held-out part of train; None where it is not at hand.
        test_accuracy: On test; likewise.
        test_readings: How often this file was judged on test.
        milliseconds: For one image on one thread: median and quartiles; None where not measured.
        peak_activation_bytes: As counted, at its precision.
        differs: The first layer to differ, where float32 differs by more than rounding.
    """

    format: str
    file: str
    precision: str
    bytes: int
    sha256: str
    runtime: str
    parity: Parity
    select_accuracy: float | None
    test_accuracy: float | None
    test_readings: int
    milliseconds: tuple[float, float, float] | None
    peak_activation_bytes: int
    differs: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Exported:
        """What :func:`dataclasses.asdict` gave, after its way through JSON.

        Raises:
            ValueError: It is of no form that is known. A file beside the folder is none either.
        """
        facts = EXPORTS.get(data["format"])
        if facts is None or data["file"] != facts.file:
            raise ValueError(f"no form is called {data['format']!r}, in a file {data['file']!r}")
        times = data["milliseconds"]
        changed = {
            "parity": Parity(**data["parity"]),
            "milliseconds": None if times is None else tuple(times),
        }
        return cls(**{**data, **changed})
