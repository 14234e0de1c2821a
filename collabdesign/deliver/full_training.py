"""Full trainings of candidates, each made once, with a checkpoint each epoch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from collabdesign.design.requirements import Requirements
from collabdesign.errors import TrainingFailed
from collabdesign.evaluate.data.images import ImageData
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.network import AttoNet, build_network
from collabdesign.evaluate.plan import plan_training
from collabdesign.evaluate.seeds import seed_of
from collabdesign.evaluate.training import EpochRecord, TrainingResult, train
from collabdesign.explore.faults import MOST_FAULTS, faults, noted
from collabdesign.explore.record import Candidate


@dataclass(frozen=True)
class FamilyProgress:
    """Where the full trainings stand.

    Attributes:
        training: Counted from 1, over all members, finalists and seeds.
        trainings: All of them, as far as is known yet.
        candidate: Number of the one in training.
        epoch: Of this training.
        epochs: Of each training.
        accuracy: select_accuracy after the epoch.
    """

    training: int
    trainings: int
    candidate: int
    epoch: int
    epochs: int
    accuracy: float


OnProgress = Callable[[FamilyProgress], None]


@dataclass(frozen=True)
class FullTraining:
    """A network that was trained to the end, and how that went.

    Attributes:
        seed: What its beginning and its order of images were drawn from, with its id.
    """

    seed: int
    network: AttoNet
    result: TrainingResult


class FullTrainings:
    """Trains candidates by the family's recipe; what was trained already is only looked up.

    Args:
        requirements: Give the recipe and the first seed.
        data: The train and select parts, on the device.
        device: Where to train.
        work: Folder of the checkpoints, one a training.
        on_progress: Called after each epoch.

    Attributes:
        planned: How many trainings there will be, for those who watch.
        files: Checkpoints of the trainings so far, and reports of faults in them.
    """

    def __init__(
        self,
        requirements: Requirements,
        data: ImageData,
        device: torch.device,
        work: Path,
        on_progress: OnProgress | None,
    ) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self.planned = 0
        self.files: set[Path] = set()
        self._seed = requirements.search.seed
        self._recipe = requirements.family.training
        self._data = data
        self._device = device
        self._work = work
        self._on_progress = on_progress
        self._done: dict[tuple[str, int], FullTraining | None] = {}

    def train(self, candidate: Candidate, number: int) -> FullTraining | None:
        """A candidate with one of its seeds, counted from 0; None where its training failed."""
        key = candidate.architecture.id, number
        if key not in self._done:
            self._done[key] = self._train(candidate, number)
        return self._done[key]

    def _train(self, candidate: Candidate, number: int) -> FullTraining | None:
        place = len(self._done) + 1
        epochs = plan_training(len(self._data.train_labels), self._recipe).epochs

        def on_epoch(record: EpochRecord) -> None:
            if self._on_progress is not None:
                self._on_progress(
                    FamilyProgress(
                        training=place,
                        trainings=max(place, self.planned),
                        candidate=candidate.number,
                        epoch=record.epoch,
                        epochs=epochs,
                        accuracy=record.accuracy,
                    )
                )

        checkpoint = self._work / f"{candidate.architecture.id}-{number}.pt"
        reports = checkpoint.with_suffix(".faults")
        self.files |= {checkpoint, reports}
        # What a seed did to the process another one, that has not begun, would do as well.
        begun = checkpoint.exists() or reports.exists()
        alike = (
            [reports] if begun else sorted(self._work.glob(f"{candidate.architecture.id}-*.faults"))
        )
        if self._is_given_up(candidate, alike):
            return None
        seed = seed_of(candidate.architecture.id, self._seed + number)
        network = build_network(candidate.architecture)
        initialise(network, seed)
        try:
            with noted(reports):
                result = train(
                    network,
                    self._data,
                    self._recipe,
                    seed=seed,
                    device=self._device,
                    checkpoint=checkpoint,
                    on_epoch=on_epoch,
                )
        except TrainingFailed:
            return None  # another seed may do; a member without any is left out
        return FullTraining(self._seed + number, network, result)

    def _is_given_up(self, candidate: Candidate, reports: Sequence[Path]) -> bool:
        """Whether what is reported ended the process too often."""
        found = [fault for path in reports for fault in faults(path)]
        if len(found) < MOST_FAULTS:
            return False
        self.files.update(reports)
        logging.getLogger(__name__).warning(
            "candidate %d is left out: its full training ended the process %d times (%s); to try "
            "it again, remove %s",
            candidate.number,
            len(found),
            found[-1],
            " and ".join(map(str, reports)),
        )
        return True
