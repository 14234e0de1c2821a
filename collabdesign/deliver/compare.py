"""A family beside well-known networks, the untouched prototype and the best of a random search:
all trained on the same images by the same recipe, none of them a straw man.

:data:`collabdesign.deliver.tuning.RULE` says how the others are trained. The members are trained
as the family is, with more seeds where more are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import torch

from collabdesign.deliver.baselines import Baselines, CompareProgress, Key, Outcome
from collabdesign.deliver.certificate import CERTIFICATE, Certificate, read_certificate
from collabdesign.deliver.comparison import (
    Comparison,
    Row,
    Tried,
    differences,
    read_comparison,
)
from collabdesign.deliver.readings import READINGS, judge_on_test
from collabdesign.deliver.references import reference_costs
from collabdesign.deliver.report.gather import FAMILY
from collabdesign.deliver.times import with_times
from collabdesign.deliver.tuning import RATES, RULE, Setting
from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import cost_of
from collabdesign.design.requirements import MEASURING, PLACES, Requirements
from collabdesign.errors import InputError
from collabdesign.evaluate.build import Buildable
from collabdesign.evaluate.data.images import TestData
from collabdesign.evaluate.references import REFERENCES, WellKnown
from collabdesign.explore.begin import Prepared, refusal
from collabdesign.explore.environment import environment
from collabdesign.explore.executors.executor import Executor
from collabdesign.explore.feasible import default_params
from collabdesign.explore.full_training import FULL_TRAININGS, FamilyProgress, FullTrainings
from collabdesign.explore.progress import Notice
from collabdesign.explore.record import Candidate, Record, requirements_of
from collabdesign.explore.study import read_record

SEEDS = 3

#: What the prototype's default network is called among the names of well-known ones.
PROTOTYPE = "prototype"

_FOLDER = "compare"

# What a random search of equal budget may have otherwise; pictures have a fingerprint.
_OTHERWISE = (
    "name",
    "search.sampler",
    "search.seed",
    "storage",
    "family",
    "goals",
    *PLACES,
    *MEASURING,
)


@dataclass(frozen=True)
class _Entry:
    """A row to come: the network, None where it cannot be had."""

    row: Row
    network: Buildable | None


def compare(
    requirements: Requirements,
    run_dir: Path,
    record: Record,
    prepared: Prepared,
    test: TestData,
    executor: Executor,
    *,
    networks: Sequence[str],
    seeds: int,
    random_run: Path | None,
    on_event: Callable[[CompareProgress | FamilyProgress | Notice], None],
) -> Comparison:
    """Train what is not trained yet, judge it on test, measure it, and write ``compare.json``.

    Args:
        requirements: The run's.
        run_dir: Of a search with its family.
        record: Of the search.
        prepared: The train and select parts, and the device.
        test: The test part, on the device.
        executor: Where to train.
        networks: Names of well-known ones, and ``prototype``; all of them where empty.
        seeds: Of each network, at least 1.
        random_run: The run folder of a random search at equal budget, with its family.
        on_event: Called with progress.

    Raises:
        InputError: The run has no family, a name is not known, or the other run is of no random
            search at equal budget.
    """
    members = _members(run_dir, record)
    entries = [_member(certificate, candidate) for certificate, candidate in members]
    entries += _baselines(_known_names(networks), requirements, prepared)
    if random_run is not None:
        found = random_member(random_run, requirements, prepared.data.fingerprint)
        row = Row("random search", "random", f"most accurate member of {random_run.name}", found.id)
        entries.insert(len(members), _Entry(_with_cost(row, found), found))
    names = {each.network.id: each.row.name for each in entries if each.network is not None}
    trainings = Baselines(
        requirements,
        prepared,
        test,
        executor,
        run_dir / _FOLDER,
        lambda at: on_event(replace(at, network=names[at.network])),
    )
    if trainings.began_anew:
        on_event(Notice("an earlier comparison was by another recipe or on other images: all anew"))
    full = FullTrainings(
        requirements, executor, run_dir / FULL_TRAININGS, trainings.own.epochs, on_event
    )
    candidates = [candidate for _, candidate in members]
    _judge_members(candidates, seeds, full, trainings, prepared, test, run_dir / FAMILY)
    others = [each.network for each in entries if each.network and each.row.kind != "member"]
    if any(not trainings.tried(each.id) for each in others):
        epochs, each_of = trainings.own.epochs, len(RATES) + seeds
        on_event(
            Notice(
                f"{len(others)} network{'s' * (len(others) > 1)} to compare with: at least "
                f"{each_of} trainings each, of {epochs} epochs or more"
            )
        )
    chosen = trainings.tuned(others)
    settled = {each: setting for each in others if (setting := chosen[each.id]) is not None}
    trainings.judged(settled, seeds)
    rows = [
        # A member may be the prototype's default network as well: each by its own setting.
        _with_outcomes(
            each,
            trainings.own if each.row.kind == "member" else chosen.get(each.row.network),
            trainings,
            requirements,
            seeds,
        )
        for each in entries
    ]
    onnx, rows = with_times(rows, [each.network for each in entries], read_comparison(run_dir))
    comparison = Comparison(
        created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        seeds=seeds,
        train_images=len(prepared.data.train_labels),
        select_images=len(prepared.data.select_labels),
        test_images=len(test.labels),
        recipe=requirements.family.training.model_dump(mode="json", exclude={"seeds"}),
        rule=RULE,
        onnx=onnx,
        data_fingerprint=prepared.data.fingerprint,
        test_fingerprint=test.fingerprint,
        environment=environment(prepared.device),
        rows=tuple(rows),
        differences=differences(rows),
    )
    comparison.write(run_dir)
    return comparison


def random_member(random_run: Path, requirements: Requirements, fingerprint: str) -> Architecture:
    """The most accurate member of a random search at equal budget: of as many trials, within the
    same limits and of the same space, on the same images.

    Raises:
        InputError: The folder's run is something else, or has no family.
    """
    record = read_record(random_run)
    theirs = requirements_of(record)
    if theirs.search.sampler != "random":
        raise InputError(
            f"--random must name a run with search.sampler: random, got {str(random_run)!r} with "
            f"{theirs.search.sampler}"
        )
    changes = requirements.changes(theirs, _OTHERWISE)
    if record.attributes.get("data_fingerprint") != fingerprint:
        changes.append("the images are others")
    if changes:
        rule = "a random search to compare with has the same budget, space and images, but"
        raise refusal(rule, changes, "search again with what is written in the run folder")
    best = max(_members(random_run, record), key=lambda each: each[0].select_mean)
    return best[1].architecture


# -- who is compared --------------------------------------------------------------------------


def _members(run_dir: Path, record: Record) -> list[tuple[Certificate, Candidate]]:
    paths = sorted((run_dir / FAMILY).glob(f"attonet-*/{CERTIFICATE}"))
    if not paths:
        raise InputError(
            f"what is compared is the family of a run, and {str(run_dir)!r} has none; run its "
            "search command to the end"
        )
    by_id = {each.architecture.id: each for each in record.trained}
    certificates = [read_certificate(path.parent) for path in paths]
    if strangers := [each.name for each in certificates if each.architecture not in by_id]:
        raise InputError(
            f"the family must be of the run's candidates, and {', '.join(strangers)} is not; run "
            "the search command again"
        )
    return [(each, by_id[each.architecture]) for each in certificates]


def _known_names(asked: Sequence[str]) -> list[str]:
    known = {name.lower(): name for name in (PROTOTYPE, *REFERENCES)}
    if unknown := [name for name in asked if name.lower() not in known]:
        raise InputError(
            f"--network must name {', '.join(known.values())}; got {', '.join(unknown)}"
        )
    chosen = {known[name.lower()] for name in asked} or set(known.values())
    return [name for name in known.values() if name in chosen]


def _member(certificate: Certificate, candidate: Candidate) -> _Entry:
    source = f"candidate {candidate.number}"
    row = Row(certificate.title, "member", source, candidate.architecture.id)
    return _Entry(_with_cost(row, candidate.architecture), candidate.architecture)


def _baselines(
    names: Sequence[str], requirements: Requirements, prepared: Prepared
) -> list[_Entry]:
    data, found = requirements.data, []
    for name in names:
        if name == PROTOTYPE:
            params = default_params(prepared.space, requirements, prepared.pricing)
            assert params is not None, "the search was prepared"
            own = prepared.space.decode(params)
            row = Row("prototype's default", "prototype", "within the limits", own.id)
            found.append(_Entry(_with_cost(row, own), own))
            continue
        network = WellKnown(name, data.channels, data.resolution, data.classes)
        (cost,) = reference_costs(data.channels, data.resolution, data.classes, [name])
        row = Row(
            name, "well-known", REFERENCES[name].source, network.id, cost.macs, cost.params,
            note=cost.note,
        )  # fmt: skip
        found.append(_Entry(row, None if cost.note else network))
    return found


def _with_cost(row: Row, architecture: Architecture) -> Row:
    cost = cost_of(architecture)
    return replace(row, macs=cost.macs, params=cost.params)


# -- what they come to ------------------------------------------------------------------------


def _judge_members(
    candidates: Sequence[Candidate],
    seeds: int,
    full: FullTrainings,
    trainings: Baselines,
    prepared: Prepared,
    test: TestData,
    family: Path,
) -> None:
    """Of each member with every seed; its delivered weights are in the family's ledger already."""
    own = trainings.own
    jobs = [
        (candidate, number, key)
        for candidate in candidates
        for number in range(seeds)
        if not trainings.is_judged(key := Key.of(candidate.architecture.id, own, number))
    ]
    done = full.train([(candidate, number) for candidate, number, _ in jobs])
    for (_, _, key), training in zip(jobs, done, strict=True):
        if training is None:
            trainings.note(key, Outcome(None, "its full training failed"))
            continue
        network = training.network
        network.to(prepared.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        found, readings = judge_on_test(network, prepared.data, test, family / READINGS)
        trainings.note(key, Outcome(training.accuracy, "", found, readings))


def _with_outcomes(
    entry: _Entry,
    setting: Setting | None,
    trainings: Baselines,
    requirements: Requirements,
    seeds: int,
) -> Row:
    row = entry.row
    if entry.network is None:
        return row
    if row.kind != "member":
        tried = trainings.tried(row.network)
        rows = tuple(Tried(each.learning_rate, each.epochs, tried[each]) for each in tried)
        row = replace(row, tried=rows)
    outcomes = {}
    if setting is not None:
        numbers = [(number, Key.of(row.network, setting, number)) for number in range(seeds)]
        outcomes = {number: trainings.known[key] for number, key in numbers}
    whole = {n: each for n, each in outcomes.items() if each.test is not None}
    failed = [each.reason for each in outcomes.values() if each.reason]
    if setting is None:
        failed = [each.reason for key, each in trainings.known.items() if key[0] == row.network]
    note = f"{len(failed)} of its trainings failed: {failed[0]}" if failed else ""
    if setting is None or not whole:
        return replace(row, note=note)
    return replace(
        row,
        learning_rate=setting.learning_rate,
        epochs=setting.epochs,
        seeds=tuple(requirements.search.seed + number for number in whole),
        select_accuracies=tuple(each.select for each in whole.values() if each.select is not None),
        test_accuracies=tuple(each.test for each in whole.values() if each.test is not None),
        test_readings=tuple(each.readings for each in whole.values()),
        note=note,
    )
