"""What a search has found: its candidates as plain data.

:mod:`collabdesign.explore.study` writes and reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pydantic import ValidationError

from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import MEASURED, Cost, cost_of
from collabdesign.design.requirements import Requirements
from collabdesign.errors import InputError

SCHEMA_VERSION = 1

# How many rejected and repeated proposals a candidate's row keeps: for the sampler, which learns
# from them also after a restart, and for the report.
REJECTIONS_KEPT = 8


class CurvePoint(NamedTuple):
    """One epoch: training loss, and accuracy on the held-out part of train (0 to 1)."""

    epoch: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Rejection:
    """A proposal over a limit: never trained, never a trial.

    Its ``violations`` are each limit to ``cost / limit - 1``.
    """

    params: Mapping[str, Any]
    cost: Cost
    violations: Mapping[str, float]


@dataclass(frozen=True)
class Candidate:
    """An architecture within the limits that is being or was trained as a proxy.

    Attributes:
        number: Its trial's number in the study, -1 before it has one.
        index: Position in the search, killed trials not counted; seeds its proposal.
        proposed_by: ``prototype`` or ``machine``.
        predicted: Mean and deviation of the proxy_accuracy that the sampler expected, if it did.
        outcome: ``running``, ``trained``, ``stopped`` early or ``failed``.
        reason: Why it was stopped or failed, or by what fault its process ended; else empty.
        accuracy: ``proxy_accuracy`` if trained, else None.
        expected: Of a stopped candidate, the proxy_accuracy that was expected when it was stopped.
        curve: Epoch by epoch.
        seconds: Wall time of its training.
        rejected: Proposals over a limit since the candidate before.
        rejected_by: Limit to how many of these broke it.
        repeated: Proposals since the candidate before whose network was known.
        rejections: The first few of the rejected.
        repeats: The first few of the repeated: parameters, and the number of the known candidate.
        parent: Number of the candidate whose weights its training began with, if it did.
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
    expected: float | None = None
    curve: tuple[CurvePoint, ...] = ()
    seconds: float = 0.0
    rejected: int = 0
    rejected_by: Mapping[str, int] | None = None
    repeated: int = 0
    rejections: tuple[Rejection, ...] = ()
    repeats: tuple[tuple[Mapping[str, Any], int], ...] = ()
    parent: int | None = None

    @property
    def proxy_accuracy(self) -> float:
        """Of one that was trained."""
        assert self.accuracy is not None, self.number
        return self.accuracy

    def to_train(self, cost: Cost) -> Candidate:
        """As it was proposed, without what an earlier attempt to train it left."""
        return replace(self, number=-1, cost=cost, reason="", curve=(), seconds=0.0)

    def to_json(self) -> dict[str, Any]:
        """The trial's attribute; :meth:`from_json` is its inverse."""
        return {
            "version": SCHEMA_VERSION,
            "id": self.architecture.id,
            **{name: value for name, value in vars(self).items() if name != "number"},
            "architecture": self.architecture.to_dict(),
            "cost": dict(self.cost),
            "rejected_by": self.rejected_by or {},
            "rejections": [
                (each.params, dict(each.cost), each.violations) for each in self.rejections
            ],
        }

    @classmethod
    def from_json(cls, number: int, data: Mapping[str, Any]) -> Candidate:
        """Read the attribute of trial ``number``, also of earlier versions, which kept less."""
        return cls(
            number=number,
            **{name: value for name, value in data.items() if name not in ("version", "id")}
            | {
                "architecture": Architecture.from_dict(data["architecture"]),
                "cost": Cost.from_json(data["cost"]),
                "predicted": tuple(data["predicted"]) if data.get("predicted") else None,
                "curve": tuple(CurvePoint(*point) for point in data["curve"]),
                "rejections": tuple(
                    Rejection(params, Cost.from_json(cost), violations)
                    for params, cost, violations in data["rejections"]
                ),
                "repeats": tuple((params, known) for params, known in data.get("repeats", ())),
            },
        )


@dataclass(frozen=True)
class Record:
    """Everything a study holds, at one moment.

    Attributes:
        attributes: The study's own: ``requirements``, ``scale`` and so on.
        candidates: Without those killed from outside, in order.
        killed: How many trainings were killed from outside and done again.
    """

    attributes: Mapping[str, Any]
    candidates: tuple[Candidate, ...]
    killed: int

    @property
    def next_number(self) -> int:
        """Of the next candidate."""
        return len(self.candidates) + self.killed

    @property
    def finished(self) -> tuple[Candidate, ...]:
        """The candidates that count as trials: trained, stopped or failed."""
        return tuple(each for each in self.candidates if each.outcome != "running")

    @property
    def running(self) -> tuple[Candidate, ...]:
        """The candidates that are claimed and not finished."""
        return self._that_are("running")

    @property
    def trained(self) -> tuple[Candidate, ...]:
        """The candidates with a proxy_accuracy."""
        return self._that_are("trained")

    @property
    def stopped(self) -> tuple[Candidate, ...]:
        """The candidates whose proxy was stopped early."""
        return self._that_are("stopped")

    @property
    def failed(self) -> tuple[Candidate, ...]:
        """The candidates that could not be trained."""
        return self._that_are("failed")

    def _that_are(self, outcome: str) -> tuple[Candidate, ...]:
        return tuple(each for each in self.candidates if each.outcome == outcome)

    @property
    def proxy_epochs(self) -> int:
        """Of a proxy that is trained to its end; 0 before the search began."""
        return int(self.attributes.get("data", {}).get("proxy_epochs", 0))

    @property
    def epochs_saved(self) -> float:
        """Share of the epochs of all proxies, trained or stopped, that stopping left out."""
        asked = self.proxy_epochs
        # Those that began with another's weights have epochs of their own, and are not stopped.
        short = [each for each in self.trained if each.parent is not None]
        of = asked * (len(self.trained) - len(short) + len(self.stopped))
        of += sum(len(each.curve) for each in short)
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
        total: Counter[str] = Counter()
        for each in self.candidates:
            total.update(each.rejected_by or {})
        total.update(self._tail.get("rejected_by", {}))
        return dict(total)

    def is_complete(self, trials: int) -> bool:
        """Whether a search of so many trials has ended."""
        return len(self.finished) >= trials or self.ran_out

    @property
    def ran_out(self) -> bool:
        """Whether the search ended because nothing new that fits was found."""
        return bool(self._tail)

    @property
    def _tail(self) -> Mapping[str, Any]:
        return self.attributes.get("tail") or {}


def requirements_of(record: Record) -> Requirements:
    """The requirements that a run was last started with.

    Raises:
        InputError: The search has not come to them yet, or another version wrote them.
    """
    try:
        return Requirements.model_validate(record.attributes["requirements"])
    except KeyError:
        raise InputError(
            "the search of this run has not begun yet; run the search command first"
        ) from None
    except ValidationError:
        raise InputError(
            "the study must hold requirements of this version of collabdesign, and they are of "
            "another version; choose another --run-dir"
        ) from None


def trained_within(record: Record, requirements: Requirements) -> tuple[Candidate, ...]:
    """The trained candidates that keep today's limits, which may be tighter than they were; as
    :func:`as_of_today` has them."""
    return tuple(
        each for each in as_of_today(record.trained, requirements) if requirements.fits(each.cost)
    )


def best_accuracy(trained: Iterable[Candidate]) -> float | None:
    """The highest proxy_accuracy, None where there is none."""
    return max((each.accuracy for each in trained if each.accuracy is not None), default=None)


def as_of_today(
    candidates: Iterable[Candidate], requirements: Requirements
) -> tuple[Candidate, ...]:
    """Candidates for today's pictures, with their costs at today's precision: by consent
    either may be another than it was when they were trained. What was measured stands."""
    data, precision = requirements.data, requirements.deploy.precision

    def is_for_today(net: Architecture) -> bool:
        asked = data.channels, data.resolution, data.classes
        return (net.input_channels, net.resolution, net.classes) == asked

    def cost(each: Candidate) -> Cost:
        measured = {name: each.cost[name] for name in MEASURED if name in each.cost}
        return Cost(**cost_of(each.architecture, precision), **measured)

    return tuple(
        replace(each, cost=cost(each)) for each in candidates if is_for_today(each.architecture)
    )
