"""``collabdesign search``: search, train the family, write the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from collabdesign.cli.codes import GOALS_NOT_MET
from collabdesign.cli.display import Display, err, interval, new_table, out
from collabdesign.cli.options import command, load, machine_of
from collabdesign.deliver.report.words import counted, percent, short_count, short_quantity

if TYPE_CHECKING:
    from collabdesign.deliver.certificate import Certificate
    from collabdesign.deliver.report.view import FinalistView, ReportView
    from collabdesign.design.requirements import Requirements
    from collabdesign.explore.record import Record
    from collabdesign.pipeline import Began, Run, RunEvent


def search(
    file: Path,
    run_dir: Path | None,
    overrides: tuple[str, ...],
    device: str | None,
    workers: int | None,
    threads: int | None,
    cluster: str | None,
    accept_changes: bool,
) -> int:
    """Search, train the family and write the report, as FILE asks.

    The same command on an existing run folder continues it. One command at a time works in a run
    folder; `collabdesign status --follow DIR` watches it from another terminal.

    With --workers 1 the same seed gives the same search. Several workers are faster, and which
    candidates they find depends on who is done first.
    """
    requirements = load(file, overrides)
    machine, display = machine_of(device, workers, threads, cluster), Display()
    from collabdesign.explore.progress import Notice
    from collabdesign.pipeline import Began, run

    def on_event(event: RunEvent) -> None:
        if isinstance(event, Began):
            _announce(event)
        elif isinstance(event, Notice):
            err.print(event.text, markup=False)
        else:
            display.tell(event)

    with display.shown():
        done = run(
            requirements,
            run_dir,
            machine=machine,
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
    err.print(f"{at.requirements.name}: {text}, in {at.run_dir}", markup=False)
    show_lengthened(at.requirements, len(at.prepared.data.train_labels))
    show_calibrated(at.run_dir, at.requirements, at.prepared.data.fingerprint)


def _conclude(done: Run) -> int:
    from collabdesign.deliver.report.gather import gather

    view = gather(done.run_dir)
    show_counts(done.record)
    if not done.family:
        out.print("[red]Every training failed[/]; the report says why")
    show_family(done.family, done.record)
    show_finalists(view.finalists)
    show_misses(done.family)
    show_findings(view)
    out.print(f"report: {done.report}", markup=False)
    out.print(f"family: {done.report.with_name('family')}", markup=False)
    if done.ended is not None:
        err.print(f"collabdesign: {done.ended}", markup=False)
        return done.ended.exit_code
    met = any(each.meets_all for each in done.family)
    return 0 if met else GOALS_NOT_MET


def show_lengthened(requirements: Requirements, images: int) -> None:
    """Which trainings have more epochs than the file asks, on so many training images."""
    from collabdesign.evaluate.plan import plan_training

    asked = {
        "search.proxy": requirements.search.proxy,
        "family.training": requirements.family.training,
    }
    for key, recipe in asked.items():
        epochs = plan_training(images, recipe).epochs
        if epochs > recipe.epochs:
            err.print(
                f"{key}.epochs: {epochs} instead of {recipe.epochs}, so that {images:,} images "
                f"make {recipe.min_steps} steps ({key}.min_steps)",
                markup=False,
            )


def show_calibrated(run_dir: Path, requirements: Requirements, data_fingerprint: str) -> None:
    """Before a search: what is known of its proxy, and a better one if one was found."""
    from collabdesign.explore.calibration import (
        CALIBRATION,
        KEPT_CORRELATION,
        calibration_of,
        misfits,
        proxy_goal,
    )

    found = calibration_of(run_dir, requirements, data_fingerprint)
    if others := misfits(run_dir, requirements, data_fingerprint):
        err.print(
            f"{run_dir / CALIBRATION} is of something else and not used: {'; '.join(others)}",
            markup=False,
        )
    if found is None:
        return
    err.print(
        f"calibrated: Spearman {interval(found.spearman)} between proxies of "
        f"{found.proxy_epochs} epochs and full training; {found.noise_sentence}",
        markup=False,
    )
    asked, aim = requirements.goals.accuracy, proxy_goal(requirements, found)
    if asked is not None and aim is not None:
        means = f"needs a proxy_accuracy of about {percent(aim)}: proposals aim there"
        if asked > max(point.full for point in found.points):
            means = (
                "was reached by no network of the calibration: proposals aim at the best proxies "
                f"there were, from {percent(aim)}"
            )
        err.print(f"goals.accuracy {percent(asked)} {means}", markup=False)
    best, proxy = found.cheapest, requirements.search.proxy
    if best is not None and best.asked != proxy.epochs and "epochs" not in proxy.model_fields_set:
        err.print(
            f"a proxy of {best.epochs} epochs was the cheapest that keeps Spearman at "
            f"{KEPT_CORRELATION}: --set search.proxy.epochs={best.asked}, for which the same "
            "calibrate command is to be repeated; what is trained counts",
            markup=False,
        )


def show_counts(record: Record) -> None:
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
    out.print(", ".join(parts))


def show_findings(view: ReportView) -> None:
    """What a search taught besides its networks, as the report shows it."""
    from collabdesign.deliver.report.page import prediction_words

    if view.hypervolume:
        trials, volume = view.hypervolume[-1]
        out.print(f"hypervolume of the front: {volume:.3f} after {trials} trials")
    words = prediction_words(view)
    if words:
        out.print(words, markup=False)
    if view.importance.modules:
        few = [f"{label} ({100 * value:.0f} %)" for label, value in view.importance.modules[:3]]
        out.print(f"What mattered most for proxy accuracy: {', '.join(few)}", markup=False)
    if view.calibration is not None:
        out.print(f"Of proxies, {view.calibration.noise_sentence}", markup=False)
    else:
        out.print(f"The proxy was not calibrated: {view.calibrate_command}", markup=False)


def show_family(certificates: Sequence[Certificate], record: Record) -> None:
    """One row a member, then what is not met."""
    table = new_table("family", "MACs", "params", "select", "test", "95 % interval", "requirements")
    proposed_by = {each.number: each.proposed_by for each in record.candidates}
    from collabdesign.explore.front import wilson_interval

    for each in certificates:
        low, high = wilson_interval(each.test_accuracy, each.test_images)
        met = sum(row.met for row in each.requirements)
        colour = "green" if each.meets_all else "red"
        select = sum(each.select_accuracies) / len(each.select_accuracies)
        table.add_row(
            each.name,
            short_count(each.cost.macs),
            short_count(each.cost.params),
            percent(select),
            percent(each.test_accuracy),
            f"{percent(low)} - {percent(high)}",
            f"[{colour}]{met} of {len(each.requirements)} met[/]",
        )
    out.print(table)
    if certificates:
        said = [f"{each.name} {proposed_by.get(each.candidate, '-')}" for each in certificates]
        out.print(f"proposed by: {', '.join(said)}", markup=False)


def show_finalists(finalists: Sequence[FinalistView]) -> None:
    """How the most accurate member was decided, where several came near."""
    said = []
    for each in sorted(finalists, key=lambda each: -(each.select_accuracy or 0.0)):
        name = f"candidate {each.candidate}"
        if each.proposed_by == "prototype":
            name = f"the prototype's default ({name})"
        reached = each.select_accuracy
        said.append(f"{name} {'failed' if reached is None else percent(reached)}")
    if said:
        out.print(
            f"first place, after a full training each, held-out part: {', '.join(said)}",
            markup=False,
        )


def show_misses(certificates: Sequence[Certificate]) -> None:
    """The goals that no member meets, and who comes nearest."""
    goals = {row.name: row.required for c in certificates for row in c.requirements if row.at_least}
    for name, goal in goals.items():
        values = [
            (row.value, c.name) for c in certificates for row in c.requirements if row.name == name
        ]
        value, who = max(values)
        if value < goal:
            out.print(
                f"[red]goals.{name} {short_quantity(name, goal)} is not met[/]: the nearest is "
                f"{who} with {short_quantity(name, value)}"
            )
