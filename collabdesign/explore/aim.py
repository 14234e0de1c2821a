"""Where a search aims: at networks that may come to ``goals.accuracy`` by a full training.

Which proxies these have, a calibration may tell. Without one an anchor does: the prototype's
default network, which is trained both ways, fully at the start of the search. What it was short of
the goal, or above it, a network's proxy is expected to be above the anchor's, or may be below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from collabdesign.design.requirements import Requirements
from collabdesign.explore.calibration import noted_calibration, proxy_goal
from collabdesign.explore.front import difference_error
from collabdesign.explore.record import Candidate, Record

ANCHOR = "anchor"
"""The attribute of the study that holds it."""


@dataclass(frozen=True)
class Anchor:
    """The prototype's default network, trained both ways.

    Attributes:
        candidate: Its number.
        architecture: Its id.
        training: ``family.training`` when it was trained, but for the number of seeds.
        proxy_accuracy: On the held-out part of train.
        select_accuracy: After one full training, on the same images; None where that failed.
        reason: Why it failed, else empty.
    """

    candidate: int
    architecture: str
    training: Mapping[str, Any]
    proxy_accuracy: float
    select_accuracy: float | None
    reason: str = ""

    @classmethod
    def of(
        cls,
        default: Candidate,
        requirements: Requirements,
        select_accuracy: float | None,
        reason: str = "",
    ) -> Anchor:
        """What the full training of the default network came to."""
        number, name = default.number, default.architecture.id
        training, proxy = _training_of(requirements), default.proxy_accuracy
        return cls(number, name, training, proxy, select_accuracy, reason)

    def to_json(self) -> dict[str, Any]:
        """The study's attribute."""
        return asdict(self)


@dataclass(frozen=True)
class Aim:
    """Which proxies let one expect the goal.

    Attributes:
        goal: ``goals.accuracy``.
        proxy_accuracy: That comes to it.
        margin: Left for noise: a network whose proxy is so much lower may come to it too.
        anchor: What this is concluded from; None where a calibration tells it.
    """

    goal: float
    proxy_accuracy: float
    margin: float = 0.0
    anchor: Anchor | None = None

    def at_least(self, best: float) -> float:
        """The proxy_accuracy that proposals aim to have at least.

        Concluded from an anchor it may lie beyond all that can be reached. Then the best so far is
        aimed at, with the same margin.

        Args:
            best: The highest proxy_accuracy so far.
        """
        if self.anchor is None:
            return self.proxy_accuracy
        return min(self.proxy_accuracy, best) - self.margin


def needs_anchor(record: Record, requirements: Requirements) -> bool:
    """Whether a search aims, and no calibration of its proxies tells it where."""
    search = requirements.search
    if requirements.goals.aimed is None or not search.aim or search.sampler == "random":
        return False
    if search.proxy.inherit:  # these proxies come further than the anchor's
        return False
    return proxy_goal(requirements, noted_calibration(record)) is None


def anchor_of(record: Record, requirements: Requirements) -> Anchor | None:
    """What the study holds; None where that is no anchor of today's full training."""
    noted = record.attributes.get(ANCHOR)
    anchor = Anchor(**noted) if noted else None
    return anchor if anchor and anchor.training == _training_of(requirements) else None


def aim_of(record: Record, requirements: Requirements, anchor: Anchor | None = None) -> Aim | None:
    """Where a search aims as far as is known; None where it does not, or not yet.

    Args:
        record: Of the search; its calibration was noted when it began.
        requirements: Of the search.
        anchor: The one that counts, that of the record where None.
    """
    goal = requirements.goals.aimed
    if goal is None or not requirements.search.aim:
        return None
    calibrated = proxy_goal(requirements, noted_calibration(record))
    if calibrated is not None:
        return Aim(goal, calibrated)
    anchor = anchor or anchor_of(record, requirements)
    if not needs_anchor(record, requirements) or anchor is None or anchor.select_accuracy is None:
        return None
    proxy = anchor.proxy_accuracy
    # One standard error: the cheapest that are allowed gain a search most, so that many come close
    # to what is aimed at. With a wide margin most of these would miss the goal.
    margin = difference_error(proxy, record.attributes["data"]["select_images"])
    return Aim(goal, proxy + goal - anchor.select_accuracy, margin, anchor)


def _training_of(requirements: Requirements) -> dict[str, Any]:
    return requirements.family.training.model_dump(mode="json", exclude={"seeds"})
