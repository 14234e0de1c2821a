"""The folder of a finished member: its network, judged once on test, with its certificate."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from collabdesign.deliver.certificate import CERTIFICATE, Certificate, judge, title_of
from collabdesign.deliver.counters import counts_of
from collabdesign.deliver.export.export import Pictures
from collabdesign.deliver.export.member import copy_kept, export_member, joined, kept_exports
from collabdesign.deliver.exported import Exported
from collabdesign.deliver.readings import READINGS, all_readings, judge_on_test
from collabdesign.deliver.source import write_model
from collabdesign.design.architecture import Architecture
from collabdesign.design.exports import EXPORTS
from collabdesign.design.requirements import Requirements
from collabdesign.errors import InputError
from collabdesign.evaluate.checkpoint import load_weights
from collabdesign.evaluate.data.images import TestData
from collabdesign.evaluate.network import AttoNet, build_network
from collabdesign.explore.begin import Prepared
from collabdesign.explore.environment import environment
from collabdesign.explore.full_training import FullTraining
from collabdesign.explore.measurements import MEASUREMENTS, ways_of
from collabdesign.explore.record import Candidate, CurvePoint
from collabdesign.files import write_json

# What a member's folder holds of ours, the certificate last; all else is a person's.
_WRITTEN = (
    "architecture.json",
    "weights.pt",
    "model.py",
    *(each.file for each in EXPORTS.values()),
    CERTIFICATE,
)


@dataclass(frozen=True)
class Finished:
    """A candidate that was trained fully.

    Attributes:
        candidate: Which.
        trainings: One a seed.
        standings: What each counts for, on the held-out part.
    """

    candidate: Candidate
    trainings: tuple[FullTraining, ...]
    standings: tuple[float, ...]

    @property
    def best(self) -> FullTraining:
        """The one that stands highest; the first of equal ones."""
        return self.trainings[self.standings.index(max(self.standings))]

    @property
    def mean(self) -> float:
        """Of its standings."""
        return statistics.fmean(self.standings)


@dataclass(frozen=True)
class JudgedMember:
    """A member that lies in a folder of its own, but for its certificate.

    Attributes:
        name: ``attonet-a`` and so on.
        finished: Its trainings.
        fresh: The folder.
        check_value: What its ``model.py`` expects.
        exports: Its other forms.
        not_exported: What stood in the way of those that could not be written.
        test_accuracy: Of the weights that are delivered.
        test_readings: How often these were judged on test.
    """

    name: str
    finished: Finished
    fresh: Path
    check_value: float
    exports: tuple[Exported, ...]
    not_exported: Mapping[str, str]
    test_accuracy: float
    test_readings: int


def judge_member(
    name: str,
    finished: Finished,
    forms: Sequence[str],
    prepared: Prepared,
    test: TestData,
    family: Path,
) -> JudgedMember:
    """Write a member's files under a temporary name, export it, judge it on test.

    Args:
        name: ``attonet-a`` and so on.
        finished: Whose best training is delivered.
        forms: In which it is handed over beside ``model.py``.
        prepared: The images, and the device.
        test: The test part, on the device.
        family: The folder of all members.
    """
    data, network = prepared.data, finished.best.network
    architecture = finished.candidate.architecture
    fresh, ledger = family / f".{name}.new", family / READINGS
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    value = write_model(
        fresh, architecture, network, data.class_names, data.mean, data.std, title_of(name)
    )
    kept = kept_exports(family / name, _sha256(fresh / "weights.pt"), test.fingerprint)
    copy_kept(kept, family / name, fresh)
    new = [form for form in forms if form not in {each.format for each in kept}]
    made: tuple[Exported, ...] = ()
    refused: dict[str, str] = {}
    if new:
        made = export_member(
            new,
            load_variant(fresh),
            architecture,
            Pictures.of(data),
            test,
            fresh,
            ledger,
            on_refused=lambda form, error: refused.update({form: str(error)}),
        )
    network.to(prepared.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    accuracy, readings = judge_on_test(network, data, test, ledger)
    exports = joined(kept, made)
    return JudgedMember(name, finished, fresh, value, exports, refused, accuracy, readings)


def deliver(
    member: JudgedMember,
    requirements: Requirements,
    prepared: Prepared,
    test: TestData,
    family: Path,
) -> Certificate:
    """Write its certificate, and put its files in the place of earlier ones.

    To be called once all members are judged, so that each certificate says how often test was
    read for all of them.
    """
    data, finished, fresh = prepared.data, member.finished, member.fresh
    best, candidate = finished.best, finished.candidate
    cost, images = candidate.cost, len(test.labels)
    int8 = next((each.test_accuracy for each in member.exports if each.format == "int8"), None)
    judged, readings = all_readings(family / READINGS)
    ways = ways_of(family.with_name(MEASUREMENTS), candidate.architecture.id, cost)
    certificate = Certificate(
        name=member.name,
        candidate=candidate.number,
        architecture=candidate.architecture.id,
        cost=cost,
        precision=requirements.deploy.precision,
        select_accuracies=tuple(each.accuracy for each in finished.trainings),
        seeds=tuple(each.seed for each in finished.trainings),
        delivered_seed=best.seed,
        test_accuracy=member.test_accuracy,
        test_images=images,
        test_readings=member.test_readings,
        requirements=judge(requirements, cost, member.test_accuracy, int8, images, ways),
        curve=tuple(CurvePoint(each.epoch, each.loss, each.accuracy) for each in best.curve),
        epochs=len(best.curve),
        weights_sha256=_sha256(fresh / "weights.pt"),
        data={
            "source": requirements.data.source,
            "train_images": len(data.train_labels),
            "select_images": len(data.select_labels),
            "train_and_select_sha256": data.fingerprint,
            "test_sha256": test.fingerprint,
            # The same picture twice: out of the held-out part and of test, or with two classes.
            "copies": {**data.copies, "test": test.copies},
            "test_lacks": list(test.lacking),
        },
        environment=environment(prepared.device),
        class_names=data.class_names,
        mean=data.mean,
        std=data.std,
        check_value=member.check_value,
        model_sha256=_sha256(fresh / "model.py"),
        counts=counts_of(candidate.architecture),
        exports=member.exports,
        not_exported=member.not_exported,
        run_readings={"judged": judged, "readings": readings},
    )
    write_json(fresh / CERTIFICATE, certificate.to_dict())
    _put(fresh, family / member.name)
    return certificate


def load_variant(folder: Path | str) -> AttoNet:
    """A delivered network with its weights, in evaluation mode, on the CPU.

    Raises:
        InputError: The folder holds no variant.
    """
    folder = Path(folder)
    network = build_network(read_architecture(folder))
    try:
        load_weights(network, (folder / "weights.pt").read_bytes())
    except (OSError, InputError) as error:
        raise InputError(f"weights.pt must fit architecture.json in {folder}: {error}") from None
    return network.eval()


def read_architecture(folder: Path) -> Architecture:
    """What a member's folder says that its network is.

    Raises:
        InputError: It does not say so.
    """
    try:
        text = (folder / "architecture.json").read_text(encoding="utf-8")
        return Architecture.from_dict(json.loads(text))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"a variant's folder holds an architecture.json: {error}") from None


def clear_others(family: Path, names: set[str]) -> None:
    """Remove what was written for members of an earlier, larger family; what a person put beside
    it stays."""
    for folder in family.glob("attonet-*"):
        if folder.name not in names and folder.is_dir():
            shutil.rmtree(folder / "__pycache__", ignore_errors=True)
            for name in _WRITTEN:
                (folder / name).unlink(missing_ok=True)
            with suppress(OSError):  # it holds what a person put there
                folder.rmdir()


def _put(fresh: Path, folder: Path) -> None:
    """Move what was written to where it belongs; what a person put there stays.

    The certificate goes first and comes last: a folder that has one is whole.
    """
    folder.mkdir(exist_ok=True)
    (folder / CERTIFICATE).unlink(missing_ok=True)
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    for name in _WRITTEN:
        if (fresh / name).exists():
            os.replace(fresh / name, folder / name)
        else:  # a form of an earlier member
            (folder / name).unlink(missing_ok=True)
    fresh.rmdir()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
