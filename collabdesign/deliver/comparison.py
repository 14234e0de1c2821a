"""What a comparison with other networks found, and the file in the run folder that holds it.

:mod:`collabdesign.deliver.compare` trains the networks; here is what the report needs of it,
without torch. The file, ``compare.json``, is the plain form of :class:`Comparison`, with the
properties of its rows written out.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from collabdesign.errors import InputError
from collabdesign.explore.front import netscore
from collabdesign.files import write_json

COMPARISON = "compare.json"

#: What NetScore is here; see :func:`collabdesign.explore.front.netscore`.
NETSCORE = (
    "NetScore (arXiv 1806.05512) = 20 log10(a^2 / sqrt(p m)), with the mean test accuracy a in "
    "per cent, the parameters p in millions and the multiply-adds m in thousands of millions"
)

_VERSION = 1

Kind = Literal["member", "well-known", "prototype", "random"]


@dataclass(frozen=True)
class Tried:
    """One training by which a setting was chosen; without an accuracy where it failed."""

    learning_rate: float
    epochs: int
    select_accuracy: float | None


@dataclass(frozen=True)
class Row:
    """One network.

    Attributes:
        name: As it is known.
        kind: A member of the family, a well-known network, the prototype's default network, or
            the most accurate member of a random search.
        source: Where its definition is from.
        network: Its id; equal ids are equal networks.
        macs: Multiply-accumulates at batch 1; None where it cannot be had at this input.
        params: Parameters; likewise.
        learning_rate: The highest, of the trainings that count; None where none came to its end.
        epochs: Of these trainings; likewise.
        seeds: Of these trainings.
        select_accuracies: On the held-out part of train, one a seed.
        test_accuracies: On test, one a seed.
        test_readings: How often test was read for these weights, one a seed.
        tried: By which the setting was chosen; empty for members, which are not tuned.
        onnx_ms: Median milliseconds for one image; None where it was not measured.
        onnx_ms_quartiles: First and third, likewise.
        onnx_int8_ms: In int8, and ``onnx_int8_ms_quartiles``, likewise.
        note: Why something is missing, else empty.
    """

    name: str
    kind: Kind
    source: str
    network: str
    macs: int | None = None
    params: int | None = None
    learning_rate: float | None = None
    epochs: int | None = None
    seeds: tuple[int, ...] = ()
    select_accuracies: tuple[float, ...] = ()
    test_accuracies: tuple[float, ...] = ()
    test_readings: tuple[int, ...] = ()
    tried: tuple[Tried, ...] = ()
    onnx_ms: float | None = None
    onnx_ms_quartiles: tuple[float, float] | None = None
    onnx_int8_ms: float | None = None
    onnx_int8_ms_quartiles: tuple[float, float] | None = None
    note: str = ""

    @property
    def mean(self) -> float | None:
        """Of the test accuracies; None where there is none."""
        return statistics.fmean(self.test_accuracies) if self.test_accuracies else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation of the test accuracies; None for fewer than two."""
        return statistics.stdev(self.test_accuracies) if len(self.test_accuracies) > 1 else None

    @property
    def netscore(self) -> float | None:
        """:data:`NETSCORE`; None where something of it is not known."""
        if self.mean is None or self.params is None or self.macs is None:
            return None
        return netscore(self.mean, self.params, self.macs)


@dataclass(frozen=True)
class Difference:
    """A member's test accuracy less a baseline's, seed by seed.

    Attributes:
        seeds: How many both were trained with.
        mean: Of the differences, a share of 1.
        low: Of the 95 % interval of the mean, by Student's t, and ``high`` its end; None with one
            seed.
    """

    member: str
    baseline: str
    seeds: int
    mean: float
    low: float | None
    high: float | None

    @property
    def words(self) -> str:
        """In percentage points: ``+1.2 (-0.3 to +2.7)``."""
        mean = f"{100 * self.mean:+.1f}"
        if self.low is None or self.high is None:
            return mean
        return f"{mean} ({100 * self.low:+.1f} to {100 * self.high:+.1f})"


@dataclass(frozen=True)
class Slower:
    """A member and a less accurate network that is faster, in milliseconds at a precision."""

    member: str
    baseline: str
    precision: str
    ours: float
    theirs: float

    @property
    def words(self) -> str:
        """In a sentence's part."""
        return (
            f"{self.member} in {self.precision} takes {self.ours:.3g} ms, "
            f"{self.baseline} {self.theirs:.3g} ms"
        )


@dataclass(frozen=True)
class Comparison:
    """The networks of a comparison, the members first, and how each was trained.

    Attributes:
        created: When.
        seeds: How many each network was to be trained with.
        train_images: That were trained on; ``select_images`` and ``test_images`` likewise.
        recipe: Of all trainings, as a person writes it; the rows have what was tuned.
        rule: How a setting was chosen, a line a sentence.
        onnx: What measured the milliseconds, or why they were not measured.
        data_fingerprint: Of the train and held-out parts; ``test_fingerprint`` of test.
        environment: Versions and machine.
    """

    created: str
    seeds: int
    train_images: int
    select_images: int
    test_images: int
    recipe: dict[str, object]
    rule: str
    onnx: str
    data_fingerprint: str
    test_fingerprint: str
    environment: dict[str, str]
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]

    @property
    def members(self) -> tuple[Row, ...]:
        """The rows of the family."""
        return tuple(row for row in self.rows if row.kind == "member")

    @property
    def slower(self) -> tuple[Slower, ...]:
        """Where a member takes longer than a network that it is more accurate than."""
        return tuple(
            Slower(member.name, other.name, precision, ours, theirs)
            for member in self.members
            for other in self.rows
            if other.kind != "member"
            and member.mean is not None
            and other.mean is not None
            and member.mean > other.mean
            for precision, ours, theirs in (
                ("float32", member.onnx_ms, other.onnx_ms),
                ("int8", member.onnx_int8_ms, other.onnx_int8_ms),
            )
            if ours is not None and theirs is not None and ours > theirs
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``compare.json``; :func:`read_comparison` reads it back."""
        data = asdict(self)
        for row, plain in zip(self.rows, data["rows"], strict=True):
            plain |= {"mean": row.mean, "deviation": row.deviation, "netscore": row.netscore}
        return {"version": _VERSION, "netscore": NETSCORE, **data}

    def write(self, run_dir: Path) -> None:
        """Write ``compare.json``."""
        write_json(run_dir / COMPARISON, self.to_dict())


def read_comparison(run_dir: Path) -> Comparison | None:
    """What a run folder holds of a comparison; None where there is none.

    Raises:
        InputError: The file is none, or of another version.
    """
    path = run_dir / COMPARISON
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != _VERSION:
            raise ValueError(f"it is of version {data['version']}, not {_VERSION}")
        return TypeAdapter(Comparison).validate_python(data)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise InputError(
            f"{str(path)!r} must be a comparison, and is not: {error}; remove it, and the same "
            "collabdesign compare writes it again"
        ) from None


def differences(rows: Sequence[Row]) -> tuple[Difference, ...]:
    """Of each member and each baseline that share a seed, in order."""
    return tuple(
        _difference(member, other)
        for member in rows
        if member.kind == "member"
        for other in rows
        if other.kind != "member" and set(member.seeds) & set(other.seeds)
    )


def _difference(member: Row, baseline: Row) -> Difference:
    ours = dict(zip(member.seeds, member.test_accuracies, strict=True))
    theirs = dict(zip(baseline.seeds, baseline.test_accuracies, strict=True))
    found = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    mean, count = statistics.fmean(found), len(found)
    if count == 1:
        return Difference(member.name, baseline.name, count, mean, None, None)
    # Late: it takes a second, and who only reads what was found needs it not.
    from scipy.stats import t

    half = float(t.ppf(0.975, count - 1)) * statistics.stdev(found) / math.sqrt(count)
    return Difference(member.name, baseline.name, count, mean, mean - half, mean + half)
