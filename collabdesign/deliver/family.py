"""Front -> variants: full training with several seeds, one reading of test, a folder each."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import statistics
import string
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from collabdesign.deliver.certificate import CERTIFICATE, Certificate, judge, title_of
from collabdesign.deliver.report.gather import FAMILY, FINALISTS
from collabdesign.deliver.source import write_model
from collabdesign.design.architecture import Architecture
from collabdesign.design.requirements import Requirements
from collabdesign.errors import InputError
from collabdesign.evaluate.accuracy import evaluate
from collabdesign.evaluate.checkpoint import load_weights
from collabdesign.evaluate.data.images import ImageData, TestData
from collabdesign.evaluate.network import AttoNet, build_network
from collabdesign.evaluate.plan import plan_training
from collabdesign.explore.begin import Prepared
from collabdesign.explore.environment import environment
from collabdesign.explore.executors.executor import Executor
from collabdesign.explore.front import Scale, netscore, scale_of_record
from collabdesign.explore.full_training import FullTraining, FullTrainings, OnProgress
from collabdesign.explore.record import Candidate, CurvePoint, Record, trained_within
from collabdesign.files import write_json

# The report numbers its lines.
RULE = """\
The first member is the most accurate network. To find it, the best proxies whose difference may \
be noise (at most family.finalists) and the prototype's default network are each trained fully \
once. The one with the highest select accuracy is taken. With family.finalists: 1 it is the best \
proxy.
The others come from the front. The range of cost from the first member to the smallest network \
is cut into equal parts, one for each other member. Cost is the product of the costs that are \
objectives, on a log scale.
From each part the network that adds most hypervolume is taken. If two add the same, the one with \
the higher NetScore (accuracy for its cost) is taken.
If a part is empty, its place goes to the network of the whole front that adds most hypervolume.
If the front has fewer networks than the family, all of them are taken. The front of the \
candidates that are left fills the other places in the same way.
The members are named A, B and so on, from the highest select accuracy (mean over seeds) down."""
WORK = "training"

# What a member's folder holds of ours, the certificate last; all else is a person's.
_WRITTEN = ("architecture.json", "weights.pt", "model.py", CERTIFICATE)
_READINGS = "readings.json"


# Standard errors within which two proxies are about as good: on so many held-out images the
# worse of two is further ahead by chance in one case of forty.
_ABOUT_AS_GOOD = 1.96

# Less than one image more or less makes of any accuracy.
_TRIFLE = 1e-9


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


def choose_family(trained: Sequence[Candidate], scale: Scale, size: int) -> list[Candidate]:
    """Up to ``size`` of the trained candidates by :data:`RULE`, the most accurate first."""
    left = list(trained)
    pool: list[Candidate] = []
    while left and len(pool) < size:
        layer = list(scale.front(left))
        room = size - len(pool)
        pool += layer if len(layer) <= room else _spread(layer, pool, scale, room)
        left = [each for each in left if each not in layer]
    return sorted(pool, key=lambda each: (-each.proxy_accuracy, each.number))


def finalists(trained: Sequence[Candidate], images: int, most: int) -> list[Candidate]:
    """The most accurate proxies, as far as they are about as good, and the prototype's default
    network, which is to be beaten; the most accurate first.

    Args:
        trained: With an accuracy each.
        images: On which it was counted.
        most: So many at most, the default not counted.
    """
    ranked = sorted(trained, key=lambda each: (-each.proxy_accuracy, each.cost.macs, each.number))
    if not ranked:
        return []
    best = ranked[0].proxy_accuracy
    error = math.sqrt(2 * best * (1 - best) / images)
    some = [each for each in ranked[:most] if each.proxy_accuracy >= best - _ABOUT_AS_GOOD * error]
    return some + [each for each in ranked if each.proposed_by == "prototype" and each not in some]


def rank_finalists(trained: Sequence[Candidate], reached: Mapping[int, float]) -> list[Candidate]:
    """The candidates, with the finalists' accuracies replaced so that their order is that of their
    full trainings.

    The best finalist gets the best proxy's accuracy and a trifle more: it stands before others of
    this accuracy. Each other finalist gets as much less as it is behind after full training.

    Args:
        trained: With an accuracy each.
        reached: By the number of the candidate, the accuracy after full training.
    """
    if not reached:
        return list(trained)
    first = max(reached.values())
    proxy = max(each.proxy_accuracy for each in trained if each.number in reached)
    return [
        replace(each, accuracy=max(0.0, proxy + _TRIFLE - (first - reached[each.number])))
        if each.number in reached
        else each
        for each in trained
    ]


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
    full = FullTrainings(requirements, executor, folder / WORK, epochs, on_progress)
    seeds, size = requirements.family.training.seeds, requirements.family.size
    most = requirements.family.finalists
    some = finalists(candidates, len(data.select_labels), most) if most > 1 else []
    full.planned = len(some) - bool(some) + min(size, len(candidates)) * seeds
    tried = some if len(some) > 1 else []
    reached = _decide_first(tried, full, folder) if tried else {}
    # A finalist whose only training failed would take another's place.
    failed = {each.number for each in tried} - reached.keys() if seeds == 1 else set()
    left = [each for each in candidates if each.number not in failed]
    scale = scale_of_record(record, requirements)
    decided = choose_family(rank_finalists(left, reached), scale, size)
    by_number = {each.number: each for each in candidates}
    chosen = [by_number[each.number] for each in decided]
    once = {each.number for each in chosen} | reached.keys()
    full.planned = len(once) + len(chosen) * (seeds - 1)
    trained = _train(chosen, full, seeds)
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


def _spread(
    layer: list[Candidate], chosen: Sequence[Candidate], scale: Scale, room: int
) -> list[Candidate]:
    """``room`` members of one front, spread by :data:`RULE`."""
    first = max(layer, key=lambda c: (c.proxy_accuracy, -c.number))
    picked, missing = [first], room - 1

    def gain(candidate: Candidate) -> tuple[float, float]:
        held = [scale.values(each) for each in (*chosen, *picked, candidate)]
        score = netscore(candidate.proxy_accuracy, candidate.cost.params, candidate.cost.macs)
        return scale.hypervolume(held), score

    depths = {each.number: _size(scale, first) - _size(scale, each) for each in layer}
    deepest = max(depths.values())
    for number in range(missing):
        # The smallest alone is not a part: one that costs hardly more may be far better.
        low, high = number * deepest / missing, (number + 1) * deepest / missing
        some = [c for c in layer if c not in picked and low < depths[c.number] <= high]
        if some:
            picked.append(max(some, key=gain))
    while len(picked) < room:
        picked.append(max((each for each in layer if each not in picked), key=gain))
    return picked


def _size(scale: Scale, candidate: Candidate) -> float:
    """Logarithm of the product of the costs among the objectives."""
    return sum(math.log(max(value, 1)) for value in scale.values(candidate)[1:])


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
    fresh = family / f".{name}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    write_model(fresh, architecture, network, data.class_names, data.mean, data.std, title_of(name))
    digest = hashlib.sha256((fresh / "weights.pt").read_bytes()).hexdigest()
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    accuracy, readings = _judge_on_test(network, data, test, family / _READINGS)
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
        requirements=judge(requirements, cost, accuracy),
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


def _judge_on_test(
    network: AttoNet, data: ImageData, test: TestData, ledger: Path
) -> tuple[float, int]:
    """The test accuracy of these weights, read once; how often they were read.

    The reading is entered before it is made, so that one cut off by a kill counts too.
    """
    try:
        entries = json.loads(ledger.read_text()) if ledger.is_file() else {}
    except ValueError as error:
        raise InputError(
            f"{str(ledger)!r} must hold how often test was read, and it is no JSON: {error}; "
            "remove it with the family's folder, and the family is trained anew"
        ) from None
    weights = hashlib.sha256()
    for tensor in network.state_dict().values():
        weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    key = f"{weights.hexdigest()[:16]}-{test.fingerprint[:16]}"
    entry = entries.setdefault(key, {"readings": 0, "accuracy": None})
    if entry["accuracy"] is None:
        entry["readings"] += 1
        write_json(ledger, entries)
        entry["accuracy"] = evaluate(
            network, test.images, test.labels, mean=data.mean, std=data.std
        )
        write_json(ledger, entries)
    return entry["accuracy"], entry["readings"]


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
