"""What the report shows: a run's own data, and what is computed from them once.

Candidates, certificates and reference networks are shown as they were written. Only what a
drawing needs besides has a form of its own here. A number that was not measured is ``None``,
never an invented value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from collabdesign.deliver.certificate import Certificate
from collabdesign.deliver.comparison import Comparison
from collabdesign.deliver.references import ReferenceCost
from collabdesign.deliver.report.importance import Importance
from collabdesign.deliver.report.words import counted
from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import Cost
from collabdesign.design.files.units import few
from collabdesign.design.requirements import Requirements
from collabdesign.explore.aim import Aim
from collabdesign.explore.calibration import Calibration
from collabdesign.explore.record import Candidate, Record, Rejection


@dataclass(frozen=True)
class Variant:
    """A finished member of the family: its certificate, and its architecture to draw."""

    certificate: Certificate
    architecture: Architecture


@dataclass(frozen=True)
class FinalistView:
    """A candidate that was trained fully because it might be the most accurate member.

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
class NearMissView:
    """A candidate that was trained fully and is no member, since it missed ``goals.accuracy`` on
    the held-out part and others do not.

    Attributes:
        candidate: Its number.
        cost: When it was judged.
        proxy_accuracy: After the proxy, 0 to 1.
        select_accuracy: After full training, mean over its seeds.
        missed_by: What that lacks to the goal.
    """

    candidate: int
    cost: Cost
    proxy_accuracy: float
    select_accuracy: float
    missed_by: float


@dataclass(frozen=True)
class ReportView:
    """Everything that the report shows.

    Attributes:
        created: When the report was made, as it is printed.
        state: Of the search.
        requirements: The run's.
        record: What its study holds, with the costs at the precision of ``requirements``.
        importance: Which choices mattered.
        front: The trained candidates within the limits that no other beats on every objective.
        rejections: A bounded sample of the proposals over a limit.
        drawn: Cost of the prototype's own values, where they break the limits and the
            prototype's default is smaller; else ``None``.
        family: Its members, the most accurate first.
        finalists: Those trained fully to find the most accurate member, if more than one.
        near_misses: Those that missed the goal that the members meet, the nearest first.
        family_folder: Where the members lie, as a person types it.
        references: Well-known networks at the same input.
        comparison: Of the family with other networks trained on the same images, ``None`` where
            there is none.
        compare_command: What would compare it, as a person types it; empty without a family.
        hypervolume: (trials so far, hypervolume of their front), in order.
        calibration: Of the proxy, ``None`` where there is none.
        calibrate_command: What would calibrate it, as a person types it.
        aim: Where the search aimed; ``None`` where it did not, or does not yet.
        environments: Where the candidates were trained, in words, the newest first.
    """

    created: str
    state: Literal["running", "interrupted", "finished"]
    requirements: Requirements
    record: Record
    importance: Importance
    front: tuple[Candidate, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    drawn: Cost | None = None
    family: tuple[Variant, ...] = ()
    finalists: tuple[FinalistView, ...] = ()
    near_misses: tuple[NearMissView, ...] = ()
    family_folder: str = "family"
    references: tuple[ReferenceCost, ...] = ()
    comparison: Comparison | None = None
    compare_command: str = ""
    hypervolume: tuple[tuple[int, float], ...] = ()
    calibration: Calibration | None = None
    calibrate_command: str = ""
    aim: Aim | None = None
    environments: tuple[str, ...] = ()

    @property
    def limits(self) -> dict[str, float]:
        """Those that were set."""
        return self.requirements.limits.model_dump(exclude_none=True)

    @property
    def untrained(self) -> tuple[ReferenceCost, ...]:
        """The well-known networks of which only the cost is known."""
        rows = self.comparison.rows if self.comparison else ()
        trained = {row.name for row in rows if row.test_accuracies}
        return tuple(each for each in self.references if each.name not in trained)

    @property
    def about_data(self) -> tuple[str, ...]:
        """Sentences on pictures that stand there twice, and on classes without a test picture."""
        data = self.family[0].certificate.data if self.family else {}
        copies: Mapping[str, int] = data.get("copies", {})
        words = {
            "test": "of test taken out, learnt from or chosen by too.",
            "select": "taken out of the held-out part, learnt from too.",
            "two_classes": "with two classes.",
        }
        lines = [f"{counted(copies[k], 'picture')} {words[k]}" for k in words if copies.get(k)]
        if lacks := data.get("test_lacks"):
            lines.append(f"Test has no picture of {few(lacks)}.")
        return tuple(lines)

    @property
    def is_of_earlier_family(self) -> bool:
        """Whether the comparison is of other members than those of today."""
        if self.comparison is None:
            return False
        compared = {row.network for row in self.comparison.members}
        return compared != {each.architecture.id for each in self.family}

    @property
    def default(self) -> Candidate | None:
        """The prototype's default network, ``None`` before it was tried."""
        tried = (each for each in self.record.finished if each.proposed_by == "prototype")
        return next(tried, None)

    @property
    def predictions(self) -> tuple[tuple[Candidate, float, float, float], ...]:
        """Each trained candidate that was predicted: with mean, deviation and what was measured."""
        return tuple(
            (each, *each.predicted, each.accuracy)
            for each in self.record.trained
            if each.predicted is not None and each.accuracy is not None
        )
