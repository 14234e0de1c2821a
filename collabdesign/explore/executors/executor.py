"""What a driver hands to an executor, and what it hears from it.

A driver submits trainings; an executor carries out as many at a time as it has slots, the others
wait in it in order. Each pass of each training is an event. The driver answers by letting it go on,
or by :meth:`Executor.cancel`. Checkpoints travel as bytes with the events, so that whoever trains
needs no disk that it shares with the driver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from collabdesign.design.architecture import Architecture
from collabdesign.design.requirements import Training
from collabdesign.errors import CollabdesignError
from collabdesign.evaluate.build import Buildable
from collabdesign.evaluate.training import EpochRecord


@dataclass(frozen=True)
class Start:
    """What a training begins with: a trained network, and its weights as they are saved."""

    architecture: Architecture
    weights: bytes


@dataclass(frozen=True)
class Task:
    """One training to make.

    Attributes:
        key: Names it in events; of those under way each has another.
        network: What to train: an architecture, or a well-known network for the same images.
        seed: Of the network's beginning, the order of images and their augmentation.
        keeps: Whether a checkpoint comes with each pass, and the weights with the end.
        checkpoint: Of an earlier attempt at this very training, to go on from.
        start: What it begins with where layers agree; nothing where None.
        keeps_weights: Whether the weights come with the end, without checkpoints before.
    """

    key: str
    network: Buildable
    recipe: Training
    seed: int
    keeps: bool = False
    checkpoint: bytes | None = None
    start: Start | None = None
    keeps_weights: bool = False

    @property
    def architecture(self) -> Architecture:
        """Of a task whose network is a designed one."""
        assert isinstance(self.network, Architecture), self.network
        return self.network


@dataclass(frozen=True)
class PassEnded:
    """One pass is through. Of a training that goes on from a checkpoint the earlier ones come
    again, without their checkpoints."""

    key: str
    record: EpochRecord
    checkpoint: bytes | None


@dataclass(frozen=True)
class Trained:
    """A training came to its end; of one that keeps, the weights as they are saved."""

    key: str
    weights: bytes | None


@dataclass(frozen=True)
class Failed:
    """A network could not be trained: ``diverged: ...`` or ``out_of_memory: ...``."""

    key: str
    reason: str


@dataclass(frozen=True)
class Died:
    """The process or machine that trained is gone; so is what it trained, to be submitted again.

    Attributes:
        how: In words, such as ``SIGKILL``.
        fault: The fault of its own that ended it, such as ``Segmentation fault``; empty where it
            was killed from outside.
    """

    key: str
    how: str
    fault: str = ""


Event = PassEnded | Trained | Failed | Died


class TrainersDied(CollabdesignError):
    """Raised when the processes that train are killed one after the other."""


class Executor(Protocol):
    """Carries out trainings somewhere."""

    @property
    def slots(self) -> int:
        """Trainings at a time; may change while it runs."""

    @property
    def ahead(self) -> int:
        """How many more to submit, so that a free slot never waits for the driver."""

    @property
    def where(self) -> str:
        """In words, such as ``2 processes``."""

    def submit(self, task: Task) -> None:
        """Take one more; it begins when a slot is free."""

    def wait(self, seconds: float) -> Event | None:
        """The next event, None where none came in that time.

        Raises:
            TrainersDied: Nothing that is started lives long enough to train.
        """

    def cancel(self, key: str) -> None:
        """Stop a training or forget it; at most events that are under way come from it."""

    def close(self) -> None:
        """End all trainings, at once."""
