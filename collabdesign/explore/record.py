"""The study's schema: what a candidate's row holds, and the one reader of it.

A search lives in an Optuna study on SQLite. Each candidate is a trial with one JSON attribute,
which :class:`Candidate` reads and writes; :mod:`collabdesign.explore.store` is the only
writer. Reading goes through plain ``sqlite3``, read-only: a running or finished search is
told in milliseconds, without Optuna or torch.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import Cost, cost_of
from collabdesign.design.requirements import Requirements
from collabdesign.errors import InputError

SCHEMA_VERSION = 1
CANDIDATE_KEY = "candidate"
DATABASE = "study.db"

# How many rejected proposals a candidate's row keeps: for the sampler, which learns from
# them also after a restart, and for the report.
REJECTIONS_KEPT = 8


class CurvePoint(NamedTuple):
    """One epoch: training loss, and accuracy on the held-out part of train (0 to 1)."""

    epoch: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Rejection:
    """A proposal over a limit: never trained, never a trial.

    Attributes:
        params: What was proposed.
        cost: What it would cost.
        violations: Each limit to ``cost / limit - 1``.
    """

    params: Mapping[str, Any]
    cost: Cost
    violations: Mapping[str, float]


@dataclass(frozen=True)
class Candidate:
    """An architecture within the limits that is being or was trained as a proxy.

    Attributes:
        number: Its trial's number in the study.
        index: Position in the search, counting no killed trial; seeds its proposal.
        proposed_by: ``prototype`` or ``machine``.
        predicted: Mean and deviation of the proxy_accuracy that the sampler expected, if it did.
        outcome: ``running``, ``trained``, ``stopped`` early or ``failed``.
        reason: Why it was stopped or failed, else empty.
        accuracy: ``proxy_accuracy`` if trained, else None.
        curve: Epoch by epoch.
        seconds: Wall time of its training.
        rejected: Proposals over a limit since the candidate before.
        rejected_by: Limit to how many of these broke it.
        repeated: Proposals answered from the store since the candidate before.
        rejections: The first few of the rejected.
        worker: The sign of the process that claimed it; see :mod:`collabdesign.explore.lock`.
    """

    number: int
    index: int
    params: Mapping[str, Any]
    architecture: Architecture
    cost: Cost
    proposed_by: str
    predicted: tuple[float, float] | None = None
    outcome: str = "running"
    reason: str = ""
    accuracy: float | None = None
    curve: tuple[CurvePoint, ...] = ()
    seconds: float = 0.0
    rejected: int = 0
    rejected_by: Mapping[str, int] | None = None
    repeated: int = 0
    rejections: tuple[Rejection, ...] = ()
    worker: str = ""

    def to_json(self) -> dict[str, Any]:
        """The trial's attribute; :meth:`from_json` is its inverse."""
        return {
            "version": SCHEMA_VERSION,
            "index": self.index,
            "id": self.architecture.id,
            "params": dict(self.params),
            "architecture": self.architecture.to_dict(),
            "cost": self.cost.to_json(),
            "proposed_by": self.proposed_by,
            "predicted": list(self.predicted) if self.predicted else None,
            "outcome": self.outcome,
            "reason": self.reason,
            "accuracy": self.accuracy,
            "curve": [list(point) for point in self.curve],
            "seconds": self.seconds,
            "rejected": self.rejected,
            "rejected_by": dict(self.rejected_by or {}),
            "repeated": self.repeated,
            "rejections": [
                [dict(each.params), each.cost.to_json(), dict(each.violations)]
                for each in self.rejections
            ],
            "worker": self.worker,
        }

    @classmethod
    def from_json(cls, number: int, data: Mapping[str, Any]) -> Candidate:
        """Read the attribute of trial ``number``."""
        return cls(
            number=number,
            index=data["index"],
            params=data["params"],
            architecture=Architecture.from_dict(data["architecture"]),
            cost=Cost.from_json(data["cost"]),
            proposed_by=data["proposed_by"],
            predicted=tuple(data["predicted"]) if data.get("predicted") else None,
            outcome=data["outcome"],
            reason=data["reason"],
            accuracy=data["accuracy"],
            curve=tuple(CurvePoint(*point) for point in data["curve"]),
            seconds=data["seconds"],
            rejected=data["rejected"],
            rejected_by=data["rejected_by"],
            repeated=data["repeated"],
            rejections=tuple(
                Rejection(params, Cost.from_json(cost), violations)
                for params, cost, violations in data["rejections"]
            ),
            worker=data.get("worker", ""),
        )


@dataclass(frozen=True)
class Record:
    """Everything a study holds, at one moment.

    Attributes:
        attributes: The study's own: ``requirements``, ``scale``, ``phase`` and so on.
        candidates: Without those killed from outside, in order.
        killed: How many were killed from outside.
    """

    attributes: Mapping[str, Any]
    candidates: tuple[Candidate, ...]
    killed: int

    @property
    def finished(self) -> tuple[Candidate, ...]:
        """The candidates that count as trials: trained, stopped or failed."""
        return tuple(each for each in self.candidates if each.outcome != "running")

    @property
    def running(self) -> tuple[Candidate, ...]:
        """The candidates that are claimed and not finished."""
        return tuple(each for each in self.candidates if each.outcome == "running")

    @property
    def trained(self) -> tuple[Candidate, ...]:
        """The candidates with a proxy_accuracy."""
        return tuple(each for each in self.candidates if each.outcome == "trained")

    @property
    def stopped(self) -> tuple[Candidate, ...]:
        """The candidates whose proxy was stopped early."""
        return tuple(each for each in self.candidates if each.outcome == "stopped")

    @property
    def failed(self) -> tuple[Candidate, ...]:
        """The candidates that could not be trained."""
        return tuple(each for each in self.candidates if each.outcome == "failed")

    @property
    def epochs_saved(self) -> float:
        """Share of the epochs of all proxies, trained or stopped, that stopping left out."""
        asked = int(self.attributes.get("data", {}).get("proxy_epochs", 0))
        of = asked * (len(self.trained) + len(self.stopped))
        left_out = sum(max(0, asked - len(each.curve)) for each in self.stopped)
        return left_out / of if of else 0.0

    @property
    def rejected(self) -> int:
        """All proposals over a limit, those after the last candidate included."""
        return sum(each.rejected for each in self.candidates) + int(self._tail.get("rejected", 0))

    @property
    def repeated(self) -> int:
        """All proposals that were answered from the store."""
        return sum(each.repeated for each in self.candidates) + int(self._tail.get("repeated", 0))

    @property
    def rejected_by(self) -> dict[str, int]:
        """Limit to how many proposals broke it; one may break several."""
        total: dict[str, int] = {}
        for counts in (
            *(each.rejected_by or {} for each in self.candidates),
            self._tail.get("rejected_by", {}),
        ):
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count
        return total

    @property
    def ran_out(self) -> bool:
        """Whether the search ended because nothing new that fits was found."""
        return bool(self._tail)

    @property
    def _tail(self) -> Mapping[str, Any]:
        tail: Mapping[str, Any] = self.attributes.get("tail") or {}
        return tail


def requirements_of(record: Record) -> Requirements:
    """The requirements that a run was last started with.

    Raises:
        InputError: The search has not come to them yet, or another version wrote them.
    """
    try:
        return Requirements.model_validate(record.attributes["requirements"])
    except KeyError:
        raise InputError(
            "a run can be told about once its search has begun, and this one was stopped or "
            "looked at before; the search command begins it"
        ) from None
    except ValidationError:
        raise InputError(
            f"the requirements in a {DATABASE} must be of this version of collabdesign, and "
            "these are not; search anew with another --run-dir"
        ) from None


def trained_within(record: Record, requirements: Requirements) -> tuple[Candidate, ...]:
    """The trained candidates that keep today's limits, which may be tighter than they were; as
    :func:`as_of_today` has them."""
    return tuple(
        each
        for each in as_of_today(record.trained, requirements)
        if all(value <= 0 for value in requirements.violations(each.cost).values())
    )


def best_accuracy(trained: Iterable[Candidate]) -> float | None:
    """The highest proxy_accuracy, None where there is none."""
    return max((each.accuracy for each in trained if each.accuracy is not None), default=None)


def as_of_today(
    candidates: Iterable[Candidate], requirements: Requirements
) -> tuple[Candidate, ...]:
    """Candidates for today's pictures, with their costs at today's precision: by consent
    either may be another than it was when they were trained."""
    data, precision = requirements.data, requirements.deploy.precision
    asked = (data.channels, data.resolution, data.classes)
    return tuple(
        replace(each, cost=cost_of(each.architecture, precision))
        for each in candidates
        if asked
        == (
            each.architecture.input_channels,
            each.architecture.resolution,
            each.architecture.classes,
        )
    )


def read_record(run_dir: Path) -> Record:
    """Read a run's study as it stands, also while a search writes it.

    Raises:
        InputError: There is no study, or the file is none of ours.
    """
    path = run_dir / DATABASE
    if not path.exists():
        raise InputError(
            f"a run folder holds a {DATABASE}, and {str(run_dir)!r} has none; name the folder "
            "of a search, such as runs/NAME"
        )
    with _database(path) as connection:
        attributes = {
            key: json.loads(value)
            for key, value in connection.execute(
                "SELECT key, value_json FROM study_user_attributes"
            )
        }
        if "version" not in attributes:
            raise InputError(_foreign(path))
        if attributes["version"] != SCHEMA_VERSION:
            raise InputError(
                f"{str(path)!r} must be a study of version {SCHEMA_VERSION}, got version "
                f"{attributes['version']}: another version of collabdesign wrote it; use that, or "
                "choose another --run-dir"
            )
        killed = connection.execute("SELECT count(*) FROM trials WHERE state = 'FAIL'").fetchone()
        rows = connection.execute(
            "SELECT trials.number, value_json FROM trials JOIN trial_user_attributes USING "
            "(trial_id) WHERE key = ? AND state != 'FAIL' ORDER BY trials.number",
            (CANDIDATE_KEY,),
        )
        candidates = tuple(Candidate.from_json(number, json.loads(value)) for number, value in rows)
    return Record(attributes, candidates, killed[0])


@contextmanager
def _database(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        uri = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=10)) as connection:
            yield connection
    except InputError:
        raise
    except sqlite3.OperationalError as error:
        if "no such" in str(error):  # table or column
            raise InputError(_foreign(path)) from None
        raise InputError(f"the study {str(path)!r} must be readable: {error}") from None
    except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{_foreign(path)} ({error})") from None


def _foreign(path: Path) -> str:
    return (
        f"{str(path)!r} must be the study of a collabdesign search, and it is not; "
        "move it away or choose another --run-dir"
    )
