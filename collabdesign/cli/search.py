"""``collabdesign search``: search, train the family, write the report."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collabdesign.cli.display import Display, interval, note, out, say
from collabdesign.cli.options import command, machine_of
from collabdesign.cli.sheet import Sheet
from collabdesign.deliver.certificate import Certificate
from collabdesign.deliver.report.view import FinalistView, NearMissView, ReportView
from collabdesign.deliver.report.words import (
    aim_words,
    counted,
    percent,
    short_count,
    short_quantity,
)
from collabdesign.design.files.reading import load_requirements
from collabdesign.design.requirements import Requirements, Training
from collabdesign.errors import GoalsNotMet
from collabdesign.evaluate.plan import plan_training, trained_images
from collabdesign.explore.aim import Aim
from collabdesign.explore.calibration import (
    CALIBRATION,
    KEPT_CORRELATION,
    calibration_of,
    proxy_goal,
)
from collabdesign.explore.progress import Notice
from collabdesign.explore.record import Record

if TYPE_CHECKING:
    from collabdesign.pipeline import Began, Run, RunEvent


def search(
    file: Path,
    run_dir: Path | None,
    overrides: tuple[str, ...],
    accept_changes: bool,
    **machine: Any,
) -> int:
    """Search, train the family and write the report."""
    requirements = load_requirements(file, overrides)
    where, display = machine_of(machine), Display()
    from collabdesign.pipeline import Began, run

    def on_event(event: RunEvent) -> None:
        if isinstance(event, Began):
            _announce(event)
        elif isinstance(event, Notice):
            note(event.text)
        elif isinstance(event, Aim):
            if event.anchor is not None:  # else it was told before
                note(aim_words(event))
        else:
            display.tell(event)

    with display.shown():
        done = run(
            requirements,
            run_dir,
            machine=where,
            accept_changes=accept_changes,
            command=command(),
            on_event=on_event,
        )
    return _conclude(done)


def _announce(at: Began) -> None:
    """What is about to be done."""
    trials, done = at.requirements.search.trials, at.finished
    text = f"continuing after {done} of {trials} trials" if done else f"{trials} trials"
    if done > trials:
        text = f"{done} trials are done already, {trials} were asked: none is added"
    note(f"{at.requirements.name}: {text}, in {at.run_dir}")
    show_lengthened(at.requirements, len(at.prepared.data.train_labels))
    show_calibrated(at.run_dir, at.requirements, at.prepared.data.fingerprint)


def _conclude(done: Run) -> int:
    _show_counts(done.record)
    if not done.family:
        out.print("[red]Every training failed[/]; the report says why")
    _show_family(done.family, done.record)
    _show_finalists(done.view.finalists)
    _show_near_misses(done.view.near_misses)
    _show_misses(done.family)
    _show_findings(done.view)
    say(f"report: {done.report}")
    say(f"family: {done.report.with_name('family')}")
    if done.ended is not None:
        note(f"collabdesign: {done.ended}")
        return done.ended.exit_code
    return 0 if any(each.meets_all for each in done.family) else GoalsNotMet.exit_code


def show_lengthened(requirements: Requirements, images: int) -> None:
    """Which trainings have more epochs than the file asks, on so many training images."""
    for key in ("search.proxy", "family.training"):
        recipe: Training = attrgetter(key)(requirements)
        epochs = plan_training(images, recipe).epochs
        if epochs > recipe.epochs:
            note(
                f"{key}.epochs: {epochs} instead of {recipe.epochs}, so that "
                f"{trained_images(images, recipe):,} images "
                f"make {recipe.min_steps} steps ({key}.min_steps)"
            )


def show_calibrated(run_dir: Path, requirements: Requirements, data_fingerprint: str) -> None:
    """Before a search: what is known of its proxy, and a better one if one was found."""
    found, misfits = calibration_of(run_dir, requirements, data_fingerprint)
    if misfits:
        file = run_dir / CALIBRATION
        note(f"{file} is of something else and not used: {'; '.join(misfits)}")
    if found is None:
        return
    same_cost = ""
    if (same := found.same_cost) is not None:
        pairs = counted(same.pairs, "pair")
        same_cost = f", {interval(same.spearman)} at about the same cost ({pairs})"
    note(
        f"calibrated: Spearman {interval(found.spearman)} between proxies of "
        f"{found.proxy_words} and full training{same_cost}; {found.noise_sentence}"
    )
    asked, aim = requirements.goals.accuracy, proxy_goal(requirements, found)
    if asked is not None and aim is not None:
        means = f"needs a proxy_accuracy of about {percent(aim)}: proposals aim there"
        if asked > max(point.full for point in found.points):
            means = (
                "was reached by no network of the calibration: proposals aim at the best proxies "
                f"there were, from {percent(aim)}"
            )
        note(f"goals.accuracy {percent(asked)} {means}")
    best, proxy = found.cheapest, requirements.search.proxy
    if best is not None and best.asked != proxy.epochs and "epochs" not in proxy.model_fields_set:
        note(
            f"a proxy of {best.epochs} epochs was the cheapest that keeps Spearman at "
            f"{KEPT_CORRELATION}: --set search.proxy.epochs={best.asked}, for which the same "
            "calibrate command is to be repeated; what is trained counts"
        )


def _show_counts(record: Record) -> None:
    """What became of the proposals of a search."""
    parts = [f"{counted(len(record.trained), 'network')} trained"]
    if record.stopped:
        saved = percent(record.epochs_saved)
        parts.append(f"{len(record.stopped)} stopped early ({saved} of the epochs saved)")
    parts += [
        f"{len(record.failed)} failed",
        f"{counted(record.rejected, 'proposal')} rejected over a limit",
        f"{record.repeated} repeated",
    ]
    say(", ".join(parts))


def _show_family(certificates: Sequence[Certificate], record: Record) -> None:
    """One row a member."""
    table = Sheet("family", "MACs", "params", "select", "test", "95 % interval", "requirements")
    proposed_by = {each.number: each.proposed_by for each in record.candidates}
    for each in certificates:
        low, high = each.test_interval
        met = len(each.requirements) - len(each.missed)
        colour = "green" if each.meets_all else "red"
        table.add_row(
            each.name,
            short_count(each.cost.macs),
            short_count(each.cost.params),
            percent(each.select_mean),
            percent(each.test_accuracy),
            f"{percent(low)} - {percent(high)}",
            f"[{colour}]{met} of {len(each.requirements)} met[/]",
        )
    out.print(table)
    if certificates:
        said = [f"{each.name} {proposed_by.get(each.candidate, '-')}" for each in certificates]
        say(f"proposed by: {', '.join(said)}")


def _show_finalists(finalists: Sequence[FinalistView]) -> None:
    """How the most accurate member was decided, where several came near."""
    said = []
    for each in sorted(finalists, key=lambda each: -(each.select_accuracy or 0.0)):
        name = f"candidate {each.candidate}"
        if each.proposed_by == "prototype":
            name = f"the prototype's default ({name})"
        reached = each.select_accuracy
        said.append(f"{name} {'failed' if reached is None else percent(reached)}")
    if said:
        say(f"first place, after a full training each, held-out part: {', '.join(said)}")


def _show_near_misses(near_misses: Sequence[NearMissView]) -> None:
    """What is no member, since it missed the goal on the held-out part."""
    said = [f"candidate {each.candidate} {percent(each.select_accuracy)}" for each in near_misses]
    if said:
        say(f"near misses of goals.accuracy, held-out part: {', '.join(said)}")


def _show_misses(certificates: Sequence[Certificate]) -> None:
    """The goal, where no member meets it, and who comes nearest."""
    reached = [(row, c.name) for c in certificates for row in c.requirements if row.at_least]
    if reached and not any(row.met for row, _ in reached):
        row, who = max(reached, key=lambda each: (each[0].value, each[1]))
        out.print(
            f"[red]goals.{row.name} {short_quantity(row.name, row.required)} is not met[/]: the "
            f"nearest is {who} with {short_quantity(row.name, row.value)}"
        )


def _show_findings(view: ReportView) -> None:
    """What a search taught besides its networks, as the report shows it."""
    from collabdesign.deliver.report.page import prediction_words

    if view.hypervolume:
        trials, volume = view.hypervolume[-1]
        say(f"hypervolume of the front: {volume:.3f} after {trials} trials")
    if words := prediction_words(view):
        say(words)
    if view.importance.modules:
        few = [f"{label} ({100 * value:.0f} %)" for label, value in view.importance.modules[:3]]
        say(f"What mattered most for proxy accuracy: {', '.join(few)}")
    if view.calibration is not None:
        say(f"Of proxies, {view.calibration.noise_sentence}")
    else:
        say(f"The proxy was not calibrated: {view.calibrate_command}")
