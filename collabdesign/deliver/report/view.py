"""What the report shows, as plain frozen data: gathered in one place, only drawn in the others.

Nothing here is computed but small statistics of what was gathered. A number that was not
measured is ``None``, never an invented value.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import Cost
from collabdesign.explore.calibration import Calibration
from collabdesign.explore.front import wilson_interval
from collabdesign.explore.record import CurvePoint

__all__ = [
    "AskedView",
    "Calibration",
    "CandidateView",
    "CurvePoint",
    "DataView",
    "ImportanceView",
    "PrototypeView",
    "ReferenceView",
    "RejectedView",
    "ReportView",
    "RequirementRow",
    "VariantView",
    "wilson_interval",
]

STATES = ("running", "interrupted", "finished")
OUTCOMES = ("trained", "stopped", "failed")


@dataclass(frozen=True)
class DataView:
    """The images a search works on; counts are ``None`` where they are not known yet."""

    source: str
    classes: tuple[str, ...]
    resolution: int
    channels: int
    train_images: int | None
    select_images: int | None
    test_images: int | None


@dataclass(frozen=True)
class AskedView:
    """What the person asked for.

    Attributes:
        limits: Only those that were set, from ``macs``, ``params``, ``weight_bytes`` and
            ``peak_activation_bytes``.
        goals: Only those that were set, such as ``accuracy`` (0 to 1, on test).
        objectives: In order, ``accuracy`` first.
        precision: The one at which bytes are counted.
        trials: How many trainings the search may spend (``search.trials``).
        proxy_epochs: Length of a proxy.
        family_epochs: Length of a full training.
        family_seeds: Trainings of each variant.
        proxy_goal: The proxy_accuracy (0 to 1) that the search aimed at for ``goals.accuracy``;
            ``None`` where none is known.
    """

    limits: Mapping[str, int]
    goals: Mapping[str, float]
    objectives: tuple[str, ...]
    precision: str
    data: DataView
    trials: int
    seed: int
    proxy_epochs: int
    family_epochs: int
    family_seeds: int = 1
    proxy_goal: float | None = None


@dataclass(frozen=True)
class CandidateView:
    """An architecture within the limits that is being or was trained as a proxy.

    Attributes:
        number: Its number in the study.
        accuracy: ``proxy_accuracy`` (0 to 1), ``None`` unless the outcome is ``trained``.
        outcome: ``trained``, ``stopped`` (early, with its curve) or ``failed``.
        reason: Why it was stopped or failed, empty otherwise.
        on_front: No other candidate beats it on every objective.
        proposed_by: ``prototype``, ``machine``, ``human`` and so on.
        predicted: Mean and deviation of the proxy_accuracy that was expected of it, if any was.
        seconds: Wall time of its training.
    """

    number: int
    architecture: Architecture
    cost: Cost
    accuracy: float | None
    outcome: str
    reason: str = ""
    on_front: bool = False
    proposed_by: str = "machine"
    curve: tuple[CurvePoint, ...] = ()
    seconds: float = 0.0
    predicted: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        assert self.outcome in OUTCOMES, self.outcome
        assert (self.accuracy is not None) == (self.outcome == "trained"), self.number


@dataclass(frozen=True)
class RejectedView:
    """A proposal over a limit: never trained, so it has a cost and no accuracy.

    Attributes:
        violations: Limit to ``cost / limit - 1``; at most 0 is met.
    """

    cost: Cost
    violations: Mapping[str, float]

    @property
    def broken(self) -> dict[str, float]:
        """The limits that it is over, and by how much of them."""
        return {limit: over for limit, over in self.violations.items() if over > 0}


@dataclass(frozen=True)
class PrototypeView:
    """The prototype's default network.

    Attributes:
        own_cost: Of the prototype's own values as drawn; it may break the limits.
        candidate: Number of the candidate that it became once shrunk to the limits, ``None``
            before it was tried.
        shrunk: Whether the limits made it smaller than drawn.
    """

    own_cost: Cost
    candidate: int | None
    shrunk: bool


@dataclass(frozen=True)
class ImportanceView:
    """Which choices mattered for proxy_accuracy, by shuffling each.

    Attributes:
        candidates: Trained ones that it was estimated from.
        r2: Share of the variance of proxy_accuracy that a forest explains of candidates that it
            was not fitted to; ``None`` where there are too few candidates to tell.
        modules: Label to importance, the share that its choices have in what is no longer
            explained when each choice is shuffled; together 1, the most important first; empty
            where nothing can be said.
        choices: The most important single choices, likewise.
    """

    candidates: int
    r2: float | None = None
    modules: tuple[tuple[str, float], ...] = ()
    choices: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class RequirementRow:
    """One requirement of one variant.

    Attributes:
        name: ``macs``, ``params``, ``weight_bytes``, ``peak_activation_bytes``, ``accuracy``...
        required: The limit or the goal.
        value: What was counted or measured, ``None`` where it is not known yet.
        measured: How, in a few words.
        met: ``None`` where the value is not known yet.
        at_least: ``True`` for a goal, ``False`` for a limit.
    """

    name: str
    required: float
    value: float | None
    measured: str
    met: bool | None
    at_least: bool = False


@dataclass(frozen=True)
class VariantView:
    """A finished member of the family.

    Attributes:
        name: ``attonet-a``: also the folder's name under ``family/``.
        candidate: Number of the candidate that it comes from.
        select_accuracies: After full training, one a seed (0 to 1).
        test_accuracy: Of the delivered weights, ``None`` until it is read.
        test_images: How many images that is a share of.
        test_readings: How often the test set was read for this variant.
        requirements: Every limit and goal.
        curve: Full training of the delivered weights.
    """

    name: str
    candidate: int
    architecture: Architecture
    cost: Cost
    select_accuracies: tuple[float, ...]
    test_accuracy: float | None
    test_images: int
    test_readings: int
    requirements: tuple[RequirementRow, ...]
    curve: tuple[CurvePoint, ...] = ()

    @property
    def title(self) -> str:
        """``AttoNet-A`` for ``attonet-a``; any other name as it is."""
        stem, _, letter = self.name.partition("-")
        return f"AttoNet-{letter.upper()}" if stem == "attonet" and letter else self.name

    @property
    def select_mean(self) -> float | None:
        """Mean over the seeds."""
        return statistics.fmean(self.select_accuracies) if self.select_accuracies else None

    @property
    def select_deviation(self) -> float | None:
        """Sample standard deviation over the seeds, ``None`` for fewer than two."""
        accuracies = self.select_accuracies
        return statistics.stdev(accuracies) if len(accuracies) > 1 else None

    @property
    def test_interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of the test accuracy."""
        if self.test_accuracy is None or self.test_images < 1:
            return None
        return wilson_interval(self.test_accuracy, self.test_images)

    @property
    def missed(self) -> tuple[RequirementRow, ...]:
        """The requirements that are known not to be met."""
        return tuple(row for row in self.requirements if row.met is False)


@dataclass(frozen=True)
class ReferenceView:
    """A well-known network's cost at the same input.

    Attributes:
        macs: ``None`` where the network does not apply.
        params: ``None`` where the network does not apply.
        note: Empty, or ``not applicable: ...`` with the reason.
    """

    name: str
    macs: int | None
    params: int | None
    note: str = ""


@dataclass(frozen=True)
class FinalistView:
    """One of those that were trained fully for the place of the most accurate member.

    Attributes:
        candidate: Its number.
        proposed_by: ``machine``, ``human``, or ``prototype`` for the prototype's default.
        proxy_accuracy: After the proxy, 0 to 1.
        select_accuracy: After one full training, on the same images; ``None`` where it failed.
    """

    candidate: int
    proposed_by: str
    proxy_accuracy: float
    select_accuracy: float | None


@dataclass(frozen=True)
class ReportView:
    """Everything that the report shows.

    Attributes:
        name: Of the requirements.
        created: When the report was made, as it shall be read.
        state: ``running``, ``interrupted`` or ``finished``.
        rejected_count: All proposals over a limit; ``rejected`` is a bounded sample of them.
        rejected_by_limit: Limit to how many proposals broke it; one may break several.
        repeated_count: Proposals that were answered from the store.
        seconds: Wall time spent so far.
        family_rule: How the members were chosen from the front, in a sentence.
        finalists: Of the most accurate member's place, where several proxies were about as good.
        family_folder: Where the members lie, as a person types it.
        continue_command: What continues an interrupted search.
        hypervolume: (trials so far, hypervolume of their front), in order.
        calibration: Of the proxy, ``None`` where there is none.
        calibrate_command: What would calibrate it, as a person types it.
        importance: Which choices mattered, ``None`` where it was not looked at.
        versions: Of the software and the device.
    """

    name: str
    created: str
    state: str
    asked: AskedView
    candidates: tuple[CandidateView, ...] = ()
    rejected: tuple[RejectedView, ...] = ()
    rejected_count: int = 0
    rejected_by_limit: Mapping[str, int] = field(default_factory=dict)
    repeated_count: int = 0
    seconds: float = 0.0
    prototype: PrototypeView | None = None
    family: tuple[VariantView, ...] = ()
    family_rule: str = ""
    finalists: tuple[FinalistView, ...] = ()
    family_folder: str = "family"
    references: tuple[ReferenceView, ...] = ()
    hypervolume: tuple[tuple[int, float], ...] = ()
    continue_command: str = ""
    calibration: Calibration | None = None
    calibrate_command: str = ""
    importance: ImportanceView | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.state in STATES, self.state

    def with_outcome(self, *outcomes: str) -> tuple[CandidateView, ...]:
        """The candidates with one of these outcomes, in order."""
        return tuple(each for each in self.candidates if each.outcome in outcomes)

    @property
    def epochs_saved(self) -> float:
        """Share of the epochs of all proxies, trained or stopped, that stopping left out."""
        asked = self.asked.proxy_epochs
        stopped = self.with_outcome("stopped")
        of = asked * (len(self.with_outcome("trained")) + len(stopped))
        left_out = sum(max(0, asked - len(each.curve)) for each in stopped)
        return left_out / of if of else 0.0

    @property
    def predictions(self) -> tuple[tuple[CandidateView, float, float, float], ...]:
        """Each trained candidate that was predicted: with mean, deviation and what came."""
        return tuple(
            (each, *each.predicted, each.accuracy)
            for each in self.candidates
            if each.predicted is not None and each.accuracy is not None
        )

    def proposer_of(self, member: VariantView) -> str:
        """Who proposed the candidate that a member comes from; empty where it is not known."""
        found = (each for each in self.candidates if each.number == member.candidate)
        return next((each.proposed_by for each in found), "")
