"""Front -> variants: full training with several seeds, one reading of test, a folder each."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from pathlib import Path

from collabdesign.deliver.certificate import Certificate
from collabdesign.deliver.choice import Choice, finalists
from collabdesign.deliver.export.formats import require_packages, usual_forms
from collabdesign.deliver.member import Finished, clear_others, deliver, judge_member
from collabdesign.deliver.report.gather import FAMILY, FINALISTS, NEAR_MISSES
from collabdesign.deliver.standing import Standings
from collabdesign.design.requirements import Requirements
from collabdesign.evaluate.data.images import TestData
from collabdesign.evaluate.plan import plan_training
from collabdesign.explore.aim import anchor_of
from collabdesign.explore.begin import Prepared
from collabdesign.explore.executors.executor import Executor
from collabdesign.explore.front import scale_of_record
from collabdesign.explore.full_training import (
    FULL_TRAININGS,
    FullTraining,
    FullTrainings,
    OnProgress,
)
from collabdesign.explore.record import Candidate, Record, trained_within
from collabdesign.files import write_json


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
    forms = forms_of(requirements)
    candidates = trained_within(record, requirements)
    folder, data = run_dir / FAMILY, prepared.data
    standings = Standings(requirements.goals, data)
    epochs = plan_training(len(data.train_labels), requirements.family.training).epochs
    full = FullTrainings(requirements, executor, run_dir / FULL_TRAININGS, epochs, on_progress)
    seeds, size = requirements.family.training.seeds, requirements.family.size
    most = requirements.family.finalists
    some = finalists(candidates, len(data.select_labels), most) if most > 1 else []
    full.planned = len(some) - bool(some) + min(size, len(candidates)) * seeds
    tried = some if len(some) > 1 else []
    reached = _decide_first(tried, full, standings, folder) if tried else {}
    anchor = anchor_of(record, requirements)
    choice = Choice(
        candidates,
        scale_of_record(record, requirements),
        size,
        standings.goal,
        {each.number for each in tried},
        reached,
        (anchor.candidate, anchor.select_accuracy) if anchor and anchor.select_accuracy else None,
    )
    judged: dict[int, float | None] = {}
    if seeds == 1:  # a finalist whose only training failed would take another's place
        judged = {each.number: reached.get(each.number) for each in tried}
    while new := choice.next_to_train(judged):
        means = {each.candidate.number: each.mean for each in _train(new, full, standings, seeds)}
        judged |= {each.number: means.get(each.number) for each in new}
    trained = _train(choice.members(judged), full, standings, seeds)
    _write_near_misses(choice, judged, folder)
    # By the held-out part alone: nothing that chooses or orders looks at test.
    trained.sort(key=lambda each: (-each.mean, each.candidate.cost.macs))
    judged_members = [
        judge_member(f"attonet-{letter}", member, forms, prepared, test, folder)
        for letter, member in zip(string.ascii_lowercase, trained, strict=False)
    ]
    certificates = [deliver(each, requirements, prepared, test, folder) for each in judged_members]
    clear_others(folder, {each.name for each in certificates})
    full.forget_others()
    if not tried:
        (folder / FINALISTS).unlink(missing_ok=True)
    return tuple(certificates)


def forms_of(requirements: Requirements) -> tuple[str, ...]:
    """The forms in which members are handed over beside ``model.py``.

    Raises:
        InputError: One that was asked for, or that a goal needs, lacks its packages.
    """
    asked = requirements.family.export
    needed = () if requirements.goals.accuracy_int8 is None else ("int8",)
    require_packages([*(asked or ()), *needed])
    return tuple(dict.fromkeys([*(usual_forms() if asked is None else asked), *needed]))


def _decide_first(
    some: Sequence[Candidate], full: FullTrainings, standings: Standings, folder: Path
) -> dict[int, float]:
    """Of each finalist, by its number, what one full training came to; written down as well."""
    trainings = full.train([(each, 0) for each in some])
    reached = {
        each.number: standings.of(each, done)
        for each, done in zip(some, trainings, strict=True)
        if done
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


def _train(
    chosen: Sequence[Candidate], full: FullTrainings, standings: Standings, seeds: int
) -> list[Finished]:
    """Each with all its seeds; without those of which no training came to an end."""
    jobs = [(candidate, number) for candidate in chosen for number in range(seeds)]
    done: dict[int, list[FullTraining]] = {}
    for (candidate, _), training in zip(jobs, full.train(jobs), strict=True):
        if training is not None:
            done.setdefault(candidate.number, []).append(training)
    return [
        Finished(
            each,
            tuple(done[each.number]),
            tuple(standings.of(each, training) for training in done[each.number]),
        )
        for each in chosen
        if each.number in done
    ]
