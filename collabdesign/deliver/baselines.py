"""The trainings of the networks that a family is compared with: each made once, and on record.

What a training came to is written down at once. A checkpoint is kept as long as its weights may
still be judged on test; where a training was cut off, it goes on from there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

from collabdesign.deliver.readings import READINGS, judge_on_test
from collabdesign.deliver.tuning import Setting, Tuned, tune
from collabdesign.design.requirements import Requirements
from collabdesign.errors import InputError
from collabdesign.evaluate.build import Buildable, build
from collabdesign.evaluate.checkpoint import load_weights
from collabdesign.evaluate.data.images import TestData
from collabdesign.evaluate.plan import plan_training
from collabdesign.evaluate.seeds import seed_of
from collabdesign.evaluate.training import EpochRecord
from collabdesign.explore.begin import Prepared
from collabdesign.explore.executors.executor import Executor, Task
from collabdesign.explore.trainings import carry_out, checkpoint_of
from collabdesign.files import write_json

TRAININGS = "trainings.json"
_WORK = "training"


class Key(NamedTuple):
    """Which training: the network's id, the setting, and the number of its seed, from 0."""

    network: str
    learning_rate: float
    epochs: int
    number: int

    @classmethod
    def of(cls, network: str, setting: Setting, number: int) -> Key:
        """From the network's id."""
        return cls(network, setting.learning_rate, setting.epochs, number)

    def __str__(self) -> str:
        return f"{self.network}-{self.learning_rate:g}-{self.epochs}-{self.number}"


@dataclass(frozen=True)
class Outcome:
    """What became of a training.

    Attributes:
        select: Accuracy on the held-out part; None where it failed, and ``reason`` says why.
        test: Accuracy on test; None where that was not read.
        readings: How often it was.
    """

    select: float | None
    reason: str = ""
    test: float | None = None
    readings: int = 0


@dataclass(frozen=True)
class CompareProgress:
    """Where the trainings of a comparison stand.

    Attributes:
        kind: ``learning rates``, ``longer trainings`` or ``seeds``.
        done: Trainings of this kind that ended, of those that were wanted at once.
        trainings: All of these.
        network: Whose pass ended last: its id here, its name to who watches a comparison.
        epoch: Of that training, like ``epochs``.
        under_way: Shares of the trainings under way that are through, added up.
        accuracy: On the held-out part after that pass.
    """

    kind: str
    done: int
    trainings: int
    network: str
    epoch: int
    epochs: int
    under_way: float
    accuracy: float


OnProgress = Callable[[CompareProgress], None]


class Baselines:
    """Tunes networks by :data:`collabdesign.deliver.tuning.RULE`, then trains them with every seed.

    Args:
        requirements: Give the recipe and the first seed.
        prepared: The train and select parts, and the device.
        test: Read once for each training of the setting that was chosen.
        executor: Where to train.
        folder: Gets ``trainings.json``, the ledger of readings and the checkpoints.
        on_progress: Called after each pass.

    Attributes:
        own: The setting of the recipe as it is.
        known: Every training that ended.
        began_anew: Whether the folder held trainings by another recipe or on other images, which
            do not count any more.
    """

    def __init__(
        self,
        requirements: Requirements,
        prepared: Prepared,
        test: TestData,
        executor: Executor,
        folder: Path,
        on_progress: OnProgress,
    ) -> None:
        recipe, data = requirements.family.training, prepared.data
        plan = plan_training(len(data.train_labels), recipe)
        # The batch stays what it is for the recipe's own epochs.
        self._recipe = recipe.model_copy(update={"batch": plan.batch, "min_steps": 0})
        self.own = Setting(plan.learning_rate, plan.epochs)
        self._seed = requirements.search.seed
        self._prepared, self._test = prepared, test
        self._executor, self._folder, self._on_progress = executor, folder, on_progress
        self._work = folder / _WORK
        self._work.mkdir(parents=True, exist_ok=True)
        self._of = {
            "recipe": self._recipe.model_dump(mode="json", exclude={"seeds"}),
            "seed": self._seed,
            "data": data.fingerprint,
            "test": test.fingerprint,
        }
        self.known: dict[Key, Outcome] = {}
        self.began_anew = not self._read()

    def tuned(self, networks: Sequence[Buildable]) -> dict[str, Setting | None]:
        """The setting of each network, by its id, once it is trained enough to be chosen; None
        where every training failed."""
        while True:
            found = {each.id: self._tuned(each) for each in networks}
            self._keep({each: tuned.best for each, tuned in found.items()}, [0])
            jobs = [(each, wanted, 0) for each in networks for wanted in found[each.id].wanted]
            if not jobs:
                return {each: tuned.best for each, tuned in found.items()}
            longest = max(setting.epochs for _, setting, _ in jobs)
            is_longer = longest > self.own.epochs
            self._train(jobs, "longer trainings" if is_longer else "learning rates")

    def judged(self, chosen: Mapping[Buildable, Setting], seeds: int) -> None:
        """Train each with every seed and read test for it."""
        jobs = [
            (network, setting, number)
            for network, setting in chosen.items()
            for number in range(seeds)
            if not self.is_judged(Key.of(network.id, setting, number))
        ]
        self._train(jobs, "seeds", judge=True)
        self._keep({}, [])

    def is_judged(self, key: Key) -> bool:
        """Whether nothing of this training is left to do."""
        outcome = self.known.get(key)
        return outcome is not None and (outcome.test is not None or outcome.select is None)

    def tried(self, network: str) -> dict[Setting, float | None]:
        """What the trainings of the first seed came to."""
        return {
            Setting(key.learning_rate, key.epochs): outcome.select
            for key, outcome in self.known.items()
            if key.network == network and key.number == 0
        }

    def note(self, key: Key, outcome: Outcome) -> None:
        """Write down what a training came to."""
        self.known[key] = outcome
        trainings = [{**key._asdict(), **asdict(each)} for key, each in self.known.items()]
        write_json(self._folder / TRAININGS, {"version": 1, "of": self._of, "trainings": trainings})

    def _tuned(self, network: Buildable) -> Tuned:
        data = self._prepared.data
        images, classes = len(data.select_labels), len(data.class_names)
        return tune(self.own, self.tried(network.id), images, classes)

    def _train(
        self, jobs: Iterable[tuple[Buildable, Setting, int]], kind: str, judge: bool = False
    ) -> None:
        left = {str(Key.of(job[0].id, *job[1:])): job for job in jobs}
        total, through = len(left), dict[str, float]()

        def on_pass(task: Task, record: EpochRecord) -> None:
            through[task.key] = record.epoch / task.recipe.epochs
            self._on_progress(
                CompareProgress(
                    kind=kind,
                    done=total - len(left),
                    trainings=total,
                    network=task.network.id,
                    epoch=record.epoch,
                    epochs=task.recipe.epochs,
                    under_way=sum(through.values()),
                    accuracy=record.accuracy,
                )
            )

        tasks = [
            Task(
                key,
                network,
                self._recipe.model_copy(
                    update={"learning_rate": setting.learning_rate, "epochs": setting.epochs}
                ),
                seed_of(network.id, self._seed + number),
                keeps=True,
            )
            for key, (network, setting, number) in left.items()
        ]
        for ended in carry_out(self._executor, tasks, self._work, on_pass):
            through.pop(ended.task.key, None)
            network, setting, number = left.pop(ended.task.key)
            outcome = Outcome(None if ended.reason else ended.curve[-1].accuracy, ended.reason)
            if judge and ended.weights is not None:
                outcome = self._judged(network, ended.weights, outcome)
            self.note(Key.of(network.id, setting, number), outcome)

    def _judged(self, network: Buildable, weights: bytes, outcome: Outcome) -> Outcome:
        """With its test accuracy."""
        data, device = self._prepared.data, self._prepared.device
        built = build(network)
        load_weights(built, weights)
        built.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        found, readings = judge_on_test(built, data, self._test, self._folder / READINGS)
        return replace(outcome, test=found, readings=readings)

    def _keep(self, best: Mapping[str, Setting | None], numbers: Sequence[int]) -> None:
        """Remove the checkpoints of trainings that ended, but for these."""
        kept = {
            Key.of(network, setting, number)
            for network, setting in best.items()
            if setting is not None
            for number in numbers
        }
        for key in self.known.keys() - kept:
            checkpoint_of(self._work, str(key)).unlink(missing_ok=True)

    def _read(self) -> bool:
        """Read what is known of these very trainings; False where there was something else."""
        path = self._folder / TRAININGS
        if not path.is_file():
            return True
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["version"] != 1 or found["of"] != self._of:
                return False
            for row in found["trainings"]:
                key = Key(*(row.pop(name) for name in Key._fields))
                self.known[key] = Outcome(**row)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{str(path)!r} must hold what was trained for a comparison, and does not: "
                f"{error!r}; remove it, and the same command trains that again"
            ) from None
        return True
