"""What was measured of networks in a run, each once: a file in the run folder remembers it.

A line is written as soon as a network is measured, so that a kill loses none. Of a line that a kill
cut short nothing is read, and its network is measured again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collabdesign.design.architecture import Architecture
from collabdesign.design.requirements import Requirements
from collabdesign.design.workload import Workload, workload_of
from collabdesign.explore.predictor import Predictor

if TYPE_CHECKING:
    from collabdesign.evaluate.measure import Measurement

MEASUREMENTS = "measurements.jsonl"

# Moments of a search before its first candidate, whose index is 0, and one after all.
FIRST, DEFAULT, CALIBRATION = -2, -1, 10**9


@dataclass(frozen=True)
class Measured:
    """What was measured of one network.

    Attributes:
        architecture: Its id.
        at: The index of the candidate for which it was measured, or ``FIRST``, ``DEFAULT`` or
            ``CALIBRATION``.
        work: In it.
        values: By the quantity's name, in its unit.
        quartiles: The first and the third of its runs, of those for which they are known.
        ways: How each was measured, in words.
    """

    architecture: str
    at: int
    work: Workload
    values: Mapping[str, float]
    quartiles: Mapping[str, tuple[float, float]]
    ways: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """A line of the file; :meth:`from_json` is its inverse."""
        return {**vars(self), "work": self.work._asdict()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measured:
        """Read a line; ``TypeError`` or ``KeyError`` where it is none of this version."""
        pairs = {name: (low, high) for name, (low, high) in data["quartiles"].items()}
        return cls(**{**data, "work": Workload(**data["work"]), "quartiles": pairs})


@dataclass(frozen=True)
class Meter:
    """What measures a network that is not known yet: each quantity by its name, and how each is
    measured, in words."""

    measure: Callable[[Architecture], Mapping[str, Measurement]]
    ways: Mapping[str, str]

    @classmethod
    def of(cls, requirements: Requirements) -> Meter:
        """What measures as the requirements ask.

        Raises:
            InputError: This cannot be measured, or not here.
        """
        # Loads torch, which those who only read a run do not need.
        from collabdesign.evaluate.measure import measure, require_measurable, ways

        require_measurable(requirements)
        return cls(lambda architecture: measure(architecture, requirements), ways(requirements))


class Measurements:
    """All that is measured in a run, and what measures the rest.

    Args:
        meter: Measures. Rows of the file that were measured in other ways do not count.
        path: Of the file; nothing is kept where None.
    """

    def __init__(self, meter: Meter, path: Path | None = None) -> None:
        self._meter = meter
        self._path = path
        self._rows: dict[str, Measured] = {}
        self._predictors: dict[tuple[str, ...], Predictor] = {}
        for row in read_measurements(path) if path is not None else ():
            if row.ways == meter.ways:
                self._rows.setdefault(row.architecture, row)

    @property
    def ways(self) -> Mapping[str, str]:
        """How each quantity is measured, in words."""
        return self._meter.ways

    def of(self, architecture: Architecture, at: int) -> Measured:
        """What is known of a network; it is measured where nothing is.

        Args:
            architecture: The network.
            at: When it was asked for; see :class:`Measured`.

        Raises:
            NotMeasured: It could not be measured.
        """
        row = self._rows.get(architecture.id)
        if row is None:
            found = self._meter.measure(architecture)
            row = Measured(
                architecture=architecture.id,
                at=at,
                work=workload_of(architecture),
                values={name: each.value for name, each in found.items()},
                quartiles={n: each.quartiles for n, each in found.items() if each.quartiles},
                ways=self._meter.ways,
            )
            if self._path is not None:
                _append(self._path, row)
            self._rows[row.architecture] = row
        return row

    def known(self, architecture: Architecture) -> Measured | None:
        """What was measured of a network, None where nothing was."""
        return self._rows.get(architecture.id)

    def before(self, at: int) -> list[Measured]:
        """All that was measured for earlier moments, in order."""
        return [row for row in self._rows.values() if row.at < at]

    def predictor(self, rows: Sequence[Measured]) -> Predictor:
        """What follows from these rows, at least 1; for the same rows the same object."""
        key = tuple(row.architecture for row in rows)
        if key not in self._predictors:
            self._predictors[key] = Predictor.of(
                key, [row.work for row in rows], [row.values for row in rows]
            )
        return self._predictors[key]


def read_measurements(path: Path) -> Iterator[Measured]:
    """The rows of a file, in order; none where there is no file."""
    with suppress(FileNotFoundError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            # Cut short by a kill, or of another version.
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                yield Measured.from_json(json.loads(line))


def ways_of(path: Path, architecture: str, cost: Mapping[str, float]) -> dict[str, str]:
    """How each measured quantity in a network's cost was measured, in words; as far as the file
    tells."""
    for row in read_measurements(path):
        if row.architecture == architecture and row.values.items() <= cost.items():
            spread = {
                name: f", quartiles {low:.4g} to {high:.4g}"
                for name, (low, high) in row.quartiles.items()
            }
            return {name: way + spread.get(name, "") for name, way in row.ways.items()}
    return {}


def _append(path: Path, row: Measured) -> None:
    """In one write, after the end of a line that was cut short."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        is_cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        line = json.dumps(row.to_json(), ensure_ascii=False)
        os.write(descriptor, f"{chr(10) * is_cut}{line}\n".encode())
    finally:
        os.close(descriptor)
