"""Full trainings of candidates, each made once, with a checkpoint a pass.

The search makes one, to know where to aim; the others are the family's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from collabdesign.design.architecture import Architecture
from collabdesign.design.requirements import Requirements
from collabdesign.evaluate.checkpoint import load_weights
from collabdesign.evaluate.network import AttoNet, build_network
from collabdesign.evaluate.seeds import seed_of
from collabdesign.evaluate.training import EpochRecord
from collabdesign.explore.executors.executor import Executor, Task
from collabdesign.explore.record import Candidate
from collabdesign.explore.trainings import FAULTS, Ended, carry_out, checkpoint_of

FULL_TRAININGS = Path("family", "training")
"""Where in the run folder their checkpoints lie."""

Job = tuple[Candidate, int]
"""A candidate, and the number of its seed, from 0."""


@dataclass(frozen=True)
class FamilyProgress:
    """Where the full trainings stand.

    Attributes:
        done: Trainings that came to their ends.
        trainings: All of them, over members, finalists and seeds, as far as is known yet.
        candidate: Number of the one whose pass ended last.
        epoch: Of that training.
        epochs: Of each training.
        under_way: Passes of all trainings that have not ended.
        accuracy: select_accuracy after the pass that ended last.
    """

    done: int
    trainings: int
    candidate: int
    epoch: int
    epochs: int
    under_way: int
    accuracy: float


OnProgress = Callable[[FamilyProgress], None]


@dataclass(frozen=True)
class FullTraining:
    """A network that was trained to the end, and how that went.

    Attributes:
        seed: What its beginning and its order of images were drawn from, with its id.
        network: In evaluation mode, on the CPU.
        curve: Pass by pass.
    """

    seed: int
    network: AttoNet
    curve: tuple[EpochRecord, ...]

    @property
    def accuracy(self) -> float:
        """On the held-out part of train, after the last pass."""
        return self.curve[-1].accuracy


@dataclass
class FullTrainings:
    """Trains candidates by the family's recipe; what was trained already is only looked up.

    Attributes:
        requirements: Give the recipe and the first seed.
        executor: Where to train.
        work: Folder of the checkpoints, one a training; made if it is not there.
        epochs: Of a full training.
        on_progress: Called after each pass.
        planned: How many trainings there will be, for those who watch.
        done: By the keys of their checkpoints; None where a training failed.
    """

    requirements: Requirements
    executor: Executor
    work: Path
    epochs: int
    on_progress: OnProgress
    planned: int = 0
    done: dict[str, FullTraining | None] = field(default_factory=dict)

    def train(self, jobs: Sequence[Job]) -> list[FullTraining | None]:
        """Train all that are not trained yet, several at a time; None where a training failed."""
        keys = [_key(candidate.architecture, number) for candidate, number in jobs]
        new = {key: job for key, job in zip(keys, jobs, strict=True) if key not in self.done}
        under_way: dict[str, int] = {}

        def on_pass(task: Task, record: EpochRecord) -> None:
            under_way[task.key] = record.epoch
            self.on_progress(
                FamilyProgress(
                    done=len(self.done),
                    trainings=max(self.planned, len(self.done) + len(new)),
                    candidate=new[task.key][0].number,
                    epoch=record.epoch,
                    epochs=self.epochs,
                    under_way=sum(under_way.values()),
                    accuracy=record.accuracy,
                )
            )

        self.work.mkdir(parents=True, exist_ok=True)
        seed = self.requirements.search.seed
        tasks = [
            full_task(candidate.architecture, number, self.requirements)
            for candidate, number in new.values()
        ]
        for ended in carry_out(self.executor, tasks, self.work, on_pass):
            key = ended.task.key
            under_way.pop(key, None)
            _, number = new.pop(key)
            # Where one failed another seed may do; a member without any is left out.
            self.done[key] = None if ended.reason else _trained(ended, seed + number)
        return [self.done[key] for key in keys]

    def forget_others(self) -> None:
        """Remove checkpoints of trainings that nobody asked for this time."""
        kept = {checkpoint_of(self.work, key) for key in self.done} | {self.work / FAULTS}
        for file in self.work.iterdir():
            if file.is_file() and file not in kept:
                file.unlink()


def _trained(ended: Ended, seed: int) -> FullTraining:
    network = build_network(ended.task.architecture)
    assert ended.weights is not None
    load_weights(network, ended.weights)
    return FullTraining(seed, network.eval(), ended.curve)


def full_task(architecture: Architecture, number: int, requirements: Requirements) -> Task:
    """The full training of a network with the seed of this number, from 0; the same wherever it
    is asked for."""
    seed = seed_of(architecture.id, requirements.search.seed + number)
    return Task(
        _key(architecture, number), architecture, requirements.family.training, seed, keeps=True
    )


def _key(architecture: Architecture, number: int) -> str:
    return f"{architecture.id}-{number}"
