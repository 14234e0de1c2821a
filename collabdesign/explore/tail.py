"""What was proposed since the last candidate and not trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from collabdesign.explore.record import REJECTIONS_KEPT, Candidate, Rejection


class Tail:
    """Counts rejections and repeats, and keeps the first few of the rejections."""

    def __init__(self) -> None:
        self.rejected = 0
        self.repeated = 0
        self._by_limit: dict[str, int] = {}
        self._kept: list[Rejection] = []

    def reject(self, rejection: Rejection) -> None:
        """One more is over a limit."""
        self.rejected += 1
        for name, value in rejection.violations.items():
            if value > 0:
                self._by_limit[name] = self._by_limit.get(name, 0) + 1
        if len(self._kept) < REJECTIONS_KEPT:
            self._kept.append(rejection)

    def onto(self, candidate: Candidate) -> Candidate:
        """The candidate that came next, with these."""
        return replace(
            candidate,
            rejected=self.rejected,
            rejected_by=self._by_limit,
            repeated=self.repeated,
            rejections=tuple(self._kept),
        )

    def to_json(self) -> Mapping[str, object]:
        """For the study, where no candidate came next."""
        return {
            "rejected": self.rejected,
            "repeated": self.repeated,
            "rejected_by": self._by_limit,
        }
