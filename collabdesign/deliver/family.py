"""Front -> variants: full training with several seeds, one reading of test, a folder each."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import string
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from collabdesign.deliver.certificate import CERTIFICATE, Certificate, judge, title_of
from collabdesign.deliver.choice import Choice, finalists
from collabdesign.deliver.readings import READINGS, judge_on_test
from collabdesign.deliver.report.gather import FAMILY, FINALISTS, NEAR_MISSES
from collabdesign.deliver.source import write_model
from collabdesign.design.architecture import Architecture
from collabdesign.design.requirements import Requirements
from collabdesign.errors import InputError
from collabdesign.evaluate.checkpoint import load_weights
from collabdesign.evaluate.data.images import TestData
from collabdesign.evaluate.network import AttoNet, build_network
from collabdesign.evaluate.plan import plan_training
from collabdesign.explore.aim import anchor_of
from collabdesign.explore.begin import Prepared
from collabdesign.explore.environment import environment
from collabdesign.explore.executors.executor import Executor
from collabdesign.explore.front import scale_of_record
from collabdesign.explore.full_training import (
    FULL_TRAININGS,
    FullTraining,
    FullTrainings,
    OnProgress,
)
from collabdesign.explore.measurements import MEASUREMENTS, ways_of
from collabdesign.explore.record import Candidate, CurvePoint, Record, trained_within
from collabdesign.files import write_json

# What a member's folder holds of ours, the certificate last; all else is a person's.
_WRITTEN = ("architecture.json", "weights.pt", "model.py", CERTIFICATE)


@dataclass(frozen=True)
class _Member:
    candidate: Candidate
    trainings: tuple[FullTraining, ...]

    @property
    def best(self) -> FullTraining:
        """The one that is best on the held-out part; the first of equal ones."""
        return max(self.trainings, key=lambda each: each.accuracy)

    @property
    def mean(self) -> float:
        return statistics.fmean(each.accuracy for each in self.trainings)


def build_family(
    requirements: Requirements,
    run_dir: Path,
    record: Record,
    prepared: Prepared,
    test: TestData,
    executor: Executor,
    on_progress: OnProgress,
) -> tuple[Certificate, ...]:
    """Choose, train fully, judge once on test and write ``family/attonet-a`` and so on.

    A training goes on from its last pass when the same call is made again; what is finished
    is not trained again, nor read again on test.

    Args:
        requirements: Give ``family`` and the data.
        run_dir: Of the search.
        record: Its outcome.
        prepared: The train and select parts, and the device.
        test: The test part, on the device; judged on once all trainings are done.
        executor: Where to train.
        on_progress: Called after each pass.

    Returns:
        The members' certificates, the most accurate on the held-out part first; empty where
        every full training failed.
    """
    candidates = trained_within(record, requirements)
    folder, data = run_dir / FAMILY, prepared.data
    epochs = plan_training(len(data.train_labels), requirements.family.training).epochs
    full = FullTrainings(requirements, executor, run_dir / FULL_TRAININGS, epochs, on_progress)
    seeds, size = requirements.family.training.seeds, requirements.family.size
    most = requirements.family.finalists
    some = finalists(candidates, len(data.select_labels), most) if most > 1 else []
    full.planned = len(some) - bool(some) + min(size, len(candidates)) * seeds
    tried = some if len(some) > 1 else []
    reached = _decide_first(tried, full, folder) if tried else {}
    anchor = anchor_of(record, requirements)
    choice = Choice(
        candidates,
        scale_of_record(record, requirements),
        size,
        requirements.goals.accuracy,
        {each.number for each in tried},
        reached,
        (anchor.candidate, anchor.select_accuracy) if anchor and anchor.select_accuracy else None,
    )
    judged: dict[int, float | None] = {}
    if seeds == 1:  # a finalist whose only training failed would take another's place
        judged = {each.number: reached.get(each.number) for each in tried}
    while new := choice.next_to_train(judged):
        means = {each.candidate.number: each.mean for each in _train(new, full, seeds)}
        judged |= {each.number: means.get(each.number) for each in new}
    trained = _train(choice.members(judged), full, seeds)
    _write_near_misses(choice, judged, folder)
    # By the held-out part alone: nothing that chooses or orders looks at test.
    trained.sort(key=lambda each: (-each.mean, each.candidate.cost.macs))
    certificates = [
        _deliver(f"attonet-{letter}", member, requirements, prepared, test, folder)
        for letter, member in zip(string.ascii_lowercase, trained, strict=False)
    ]
    _clear(folder, {each.name for each in certificates})
    full.forget_others()
    if not tried:
        (folder / FINALISTS).unlink(missing_ok=True)
    return tuple(certificates)


def load_variant(folder: Path | str) -> AttoNet:
    """A delivered network with its weights, in evaluation mode, on the CPU.

    Raises:
        InputError: The folder holds no variant.
    """
    folder = Path(folder)
    try:
        text = (folder / "architecture.json").read_text(encoding="utf-8")
        network = build_network(Architecture.from_dict(json.loads(text)))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"a variant's folder holds an architecture.json: {error}") from None
    try:
        load_weights(network, (folder / "weights.pt").read_bytes())
    except (OSError, InputError) as error:
        raise InputError(f"weights.pt must fit architecture.json in {folder}: {error}") from None
    return network.eval()


def _decide_first(some: Sequence[Candidate], full: FullTrainings, folder: Path) -> dict[int, float]:
    """Of each finalist, by its number, what one full training came to; written down as well."""
    trainings = full.train([(each, 0) for each in some])
    reached = {
        each.number: done.accuracy for each, done in zip(some, trainings, strict=True) if done
    }
    write_json(
        folder / FINALISTS,
        [
            {
                "candidate": each.number,
                "proposed_by": each.proposed_by,
                "proxy_accuracy": each.accuracy,
                "select_accuracy": reached.get(each.number),
            }
            for each in some
        ],
    )
    return reached


def _write_near_misses(choice: Choice, judged: Mapping[int, float | None], folder: Path) -> None:
    """What was trained fully and missed the goal that others meet."""
    by_number = {each.number: each for each in choice.candidates}
    rows = [
        {
            "candidate": number,
            "cost": dict(by_number[number].cost),
            "proxy_accuracy": by_number[number].accuracy,
            "select_accuracy": accuracy,
            "missed_by": (choice.goal or 0.0) - accuracy,
        }
        for number, accuracy in choice.near_misses(judged).items()
    ]
    if rows:
        write_json(folder / NEAR_MISSES, rows)
    else:
        (folder / NEAR_MISSES).unlink(missing_ok=True)


def _train(chosen: Sequence[Candidate], full: FullTrainings, seeds: int) -> list[_Member]:
    """Each with all its seeds; without those of which no training came to an end."""
    jobs = [(candidate, number) for candidate in chosen for number in range(seeds)]
    done: dict[int, list[FullTraining]] = {}
    for (candidate, _), training in zip(jobs, full.train(jobs), strict=True):
        if training is not None:
            done.setdefault(candidate.number, []).append(training)
    return [_Member(each, tuple(done[each.number])) for each in chosen if each.number in done]


def _deliver(
    name: str,
    member: _Member,
    requirements: Requirements,
    prepared: Prepared,
    test: TestData,
    family: Path,
) -> Certificate:
    """Write a member's files under a temporary name and put them in the place of earlier ones."""
    data, device = prepared.data, prepared.device
    best, network = member.best, member.best.network
    architecture, cost = member.candidate.architecture, member.candidate.cost
    ways = ways_of(family.with_name(MEASUREMENTS), architecture.id, cost)
    fresh = family / f".{name}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    write_model(fresh, architecture, network, data.class_names, data.mean, data.std, title_of(name))
    digest = hashlib.sha256((fresh / "weights.pt").read_bytes()).hexdigest()
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    accuracy, readings = judge_on_test(network, data, test, family / READINGS)
    certificate = Certificate(
        name=name,
        candidate=member.candidate.number,
        architecture=architecture.id,
        cost=cost,
        precision=requirements.deploy.precision,
        select_accuracies=tuple(each.accuracy for each in member.trainings),
        seeds=tuple(each.seed for each in member.trainings),
        delivered_seed=best.seed,
        test_accuracy=accuracy,
        test_images=len(test.labels),
        test_readings=readings,
        requirements=judge(requirements, cost, accuracy, ways),
        curve=tuple(CurvePoint(each.epoch, each.loss, each.accuracy) for each in best.curve),
        epochs=len(best.curve),
        weights_sha256=digest,
        data={
            "source": requirements.data.source,
            "train_images": len(data.train_labels),
            "select_images": len(data.select_labels),
            "train_and_select_sha256": data.fingerprint,
            "test_sha256": test.fingerprint,
        },
        environment=environment(device),
    )
    write_json(fresh / CERTIFICATE, certificate.to_dict())
    _put(fresh, family / name)
    return certificate


def _put(fresh: Path, folder: Path) -> None:
    """Move what was written to where it belongs; what a person put there stays.

    The certificate goes first and comes last: a folder that has one is whole.
    """
    folder.mkdir(exist_ok=True)
    (folder / CERTIFICATE).unlink(missing_ok=True)
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    for name in _WRITTEN:
        os.replace(fresh / name, folder / name)
    fresh.rmdir()


def _clear(family: Path, names: set[str]) -> None:
    """Remove what was written for members of an earlier, larger family; what a person put beside
    it stays."""
    for folder in family.glob("attonet-*"):
        if folder.name not in names and folder.is_dir():
            shutil.rmtree(folder / "__pycache__", ignore_errors=True)
            for name in _WRITTEN:
                (folder / name).unlink(missing_ok=True)
            with suppress(OSError):  # it holds what a person put there
                folder.rmdir()
