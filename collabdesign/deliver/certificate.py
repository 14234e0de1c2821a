"""Requirement by requirement: what was asked, the value, how it was measured, met or not."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from collabdesign.deliver.exported import Exported
from collabdesign.design.cost import METRICS, Cost
from collabdesign.design.requirements import LIMITS, Requirements
from collabdesign.errors import InputError
from collabdesign.explore.front import wilson_interval
from collabdesign.explore.record import CurvePoint

CERTIFICATE = "certificate.json"
VERSION = 1


@dataclass(frozen=True)
class Judged:
    """One requirement of one variant.

    Attributes:
        name: A limit's, or a goal's: ``accuracy``, ``accuracy_int8``.
        required: The limit (at most) or the goal (at least).
        value: What was counted or measured.
        measured: How.
        met: Whether the value keeps it.
        at_least: True for a goal, False for a limit.
        interval: Of an accuracy: Wilson's 95 % interval; None for what is counted.
    """

    name: str
    required: float
    value: float
    measured: str
    met: bool
    at_least: bool
    interval: tuple[float, float] | None = None

    @property
    def margin(self) -> float:
        """By how much the requirement is kept, in its unit; below 0 where it is missed."""
        return self.value - self.required if self.at_least else self.required - self.value


@dataclass(frozen=True)
class Count:
    """What one counter says of a network.

    Attributes:
        counter: Its name and version.
        macs: In our convention.
        params: Parameters.
        note: What was converted, and how.
    """

    counter: str
    macs: int
    params: int
    note: str = ""


@dataclass(frozen=True)
class Certificate:
    """What is known of one finished network, and how.

    Attributes:
        name: ``attonet-a`` and so on.
        candidate: Its number in the study.
        architecture: Its id.
        cost: At ``precision``.
        precision: At which the bytes are counted.
        select_accuracies: After full training, a value each seed, on the held-out part of train.
        seeds: Of these trainings.
        delivered_seed: Whose weights are delivered: the best on the held-out part.
        test_accuracy: Of the delivered weights.
        test_images: How many.
        test_readings: How often these weights were judged on test, this time included.
        requirements: Every limit and goal.
        curve: Of the delivered training.
        epochs: Passes of it.
        weights_sha256: Of ``weights.pt``.
        data: Fingerprints and counts of the images; ``copies``, pictures that were taken out of
            ``select`` and of ``test`` since they are learnt from, and those with ``two_classes``;
            classes that ``test_lacks``.
        environment: Versions and machine.
        class_names: One an output, in their order.
        mean: Of each channel of the train part, pixels running from 0 to 1.
        std: Likewise.
        check_value: What ``model.py`` expects of itself.
        model_sha256: Of ``model.py``.
        counts: By several counters.
        exports: Other forms of the network in the folder.
        not_exported: By the name of a form that could not be written, what stood in the way.
        run_readings: How many networks and files of this run were judged on test until then,
            and how often in all.
    """

    name: str
    candidate: int
    architecture: str
    cost: Cost
    precision: str
    select_accuracies: tuple[float, ...]
    seeds: tuple[int, ...]
    delivered_seed: int
    test_accuracy: float
    test_images: int
    test_readings: int
    requirements: tuple[Judged, ...]
    curve: tuple[CurvePoint, ...]
    epochs: int
    weights_sha256: str
    data: Mapping[str, Any]
    environment: Mapping[str, str]
    class_names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    check_value: float | None = None
    model_sha256: str = ""
    counts: tuple[Count, ...] = ()
    exports: tuple[Exported, ...] = ()
    not_exported: Mapping[str, str] = field(default_factory=dict)
    run_readings: Mapping[str, int] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What it is called."""
        return title_of(self.name)

    @property
    def select_mean(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.select_accuracies)

    @property
    def select_deviation(self) -> float | None:
        """Sample standard deviation over the seeds, ``None`` for fewer than two."""
        accuracies = self.select_accuracies
        return statistics.stdev(accuracies) if len(accuracies) > 1 else None

    @property
    def test_interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the test accuracy."""
        return wilson_interval(self.test_accuracy, self.test_images)

    @property
    def missed(self) -> tuple[Judged, ...]:
        """The requirements that are not met."""
        return tuple(row for row in self.requirements if not row.met)

    @property
    def meets_all(self) -> bool:
        """Whether every limit and goal is met."""
        return not self.missed

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``certificate.json``; :func:`read_certificate` reads it back."""
        data = asdict(self)
        data["curve"] = [list(point) for point in self.curve]
        data["cost"] = dict(self.cost)
        return {"version": VERSION, "meets_all": self.meets_all, **data}


def title_of(name: str) -> str:
    """``AttoNet-A`` for ``attonet-a``; any other name as it is."""
    stem, _, letter = name.partition("-")
    return f"AttoNet-{letter.upper()}" if stem == "attonet" and letter else name


def judge(
    requirements: Requirements,
    cost: Cost,
    test_accuracy: float,
    int8_accuracy: float | None = None,
    test_images: int | None = None,
    ways: Mapping[str, str] | None = None,
) -> tuple[Judged, ...]:
    """Hold a variant against every limit and goal that was set.

    Args:
        requirements: What was asked.
        cost: At their precision.
        test_accuracy: In float32.
        int8_accuracy: On test, where it was asked for.
        test_images: How many, for the intervals.
        ways: How what had to be measured of its cost was, by name.
    """
    precision = requirements.deploy.precision
    rows = []
    for name in LIMITS:
        limit = getattr(requirements.limits, name)
        if limit is not None:
            value = cost[name]
            if name in METRICS:
                how = METRICS[name].how.format(precision=precision)
            else:
                how = (ways or {}).get(name, "measured before training")
            rows.append(Judged(name, limit, value, how, value <= limit, at_least=False))
    goals = requirements.goals
    for name, goal, accuracy, form in (
        ("accuracy", goals.accuracy, test_accuracy, "float32"),
        ("accuracy_int8", goals.accuracy_int8, int8_accuracy, "int8 by onnxruntime"),
    ):
        if goal is not None:
            assert accuracy is not None, f"{name} is a goal, so it was measured"
            how = f"measured on the test images, {form}"
            interval = None if test_images is None else wilson_interval(accuracy, test_images)
            rows.append(Judged(name, goal, accuracy, how, accuracy >= goal, True, interval))
    return tuple(rows)


def read_certificate(folder: Path) -> Certificate:
    """Read a variant's certificate.

    Raises:
        InputError: There is none, or the file is none.
    """
    path = folder / CERTIFICATE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("version") != VERSION:
            raise ValueError("another version")
        data.pop("meets_all")
        data["cost"] = Cost.from_json(data["cost"])
        data["requirements"] = tuple(_judged(row) for row in data["requirements"])
        data["curve"] = tuple(CurvePoint(*point) for point in data["curve"])
        data["select_accuracies"] = tuple(data["select_accuracies"])
        data["exports"] = tuple(map(Exported.from_json, data.get("exports", ())))
        data["counts"] = tuple(Count(**row) for row in data.get("counts", ()))
        for name in ("seeds", "class_names", "mean", "std"):
            data[name] = tuple(data.get(name, ()))
        return Certificate(**data)
    except FileNotFoundError:
        raise InputError(
            f"a variant's folder holds a {CERTIFICATE}, {str(folder)!r} has none"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{str(path)!r} must be a certificate, and is not: {error}") from None


def _judged(row: dict[str, Any]) -> Judged:
    interval = row.get("interval")
    return Judged(**{**row, "interval": None if interval is None else tuple(interval)})
