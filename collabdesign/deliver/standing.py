"""What a full training counts for where the family is chosen, on the held-out part."""

from __future__ import annotations

from dataclasses import dataclass, field

from collabdesign.deliver.export.export import int8_accuracy
from collabdesign.design.requirements import Goals
from collabdesign.evaluate.data.images import ImageData
from collabdesign.explore.full_training import FullTraining
from collabdesign.explore.record import Candidate


@dataclass
class Standings:
    """Accuracies by which members are chosen and goals are judged.

    Without a goal for int8 a training stands where its accuracy is. With one alone it stands where
    its accuracy in int8 is. With both it stands as far above or below ``goals.accuracy`` as the
    nearer of the two forms is to its own goal.

    Attributes:
        goals: Of the requirements.
        data: The select part, and what calibrates int8.
        in_int8: By architecture and seed; each takes seconds.
    """

    goals: Goals
    data: ImageData
    in_int8: dict[tuple[str, int], float] = field(default_factory=dict)

    def of(self, candidate: Candidate, training: FullTraining) -> float:
        """Where a training of a candidate stands."""
        if self.goals.accuracy_int8 is None:
            return training.accuracy
        key = candidate.architecture.id, training.seed
        if key not in self.in_int8:
            self.in_int8[key] = int8_accuracy(training.network, candidate.architecture, self.data)
        if self.goals.accuracy is None:
            return self.in_int8[key]
        shifted = self.goals.accuracy + self.in_int8[key] - self.goals.accuracy_int8
        return min(training.accuracy, shifted)

    @property
    def goal(self) -> float | None:
        """Where one has to stand; None where there is no goal."""
        goal = self.goals.accuracy
        return self.goals.accuracy_int8 if goal is None else goal
