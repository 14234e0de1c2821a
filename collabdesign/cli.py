"""The command line: a table of commands over the library's functions.

Alone this file and :mod:`collabdesign.terminal` print, parse and exit. Everything heavy is
imported inside the command that needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from collabdesign.errors import CollabdesignError, NothingFits

if TYPE_CHECKING:
    from collabdesign.deliver.certificate import Certificate
    from collabdesign.deliver.report.view import ReportView
    from collabdesign.design.requirements import Requirements
    from collabdesign.evaluate.data.images import TestData
    from collabdesign.explore.begin import Prepared
    from collabdesign.explore.record import Record
    from collabdesign.terminal import Display

BROKEN_PIPE = 141  # as a shell says of any program that a closed pipe ended
INTERRUPTED = 130
GOALS_NOT_MET = 4
NOTHING_FITS = 3
BAD_INPUT = 2

_FILE = click.argument("file", type=click.Path(path_type=Path))
_RUN = click.argument("run_dir", metavar="DIR", type=click.Path(path_type=Path))
_INTO = click.option(
    "--run-dir", type=click.Path(path_type=Path), metavar="DIR",
    help="Where the run lives (default: runs/NAME).",
)  # fmt: skip
_SET = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE",
    help="Override a key of the file, such as search.trials=80. May be given several times.",
)  # fmt: skip
_JSON = click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
_DEVICE = click.option("--device", metavar="NAME", help="cpu or cuda (default: the best there is).")
_THREADS = click.option(
    "--threads", type=click.IntRange(1), metavar="N",
    help="CPU threads of a training (default: 1 for small networks and where several workers "
    "train, else all cores).",
)  # fmt: skip


def check(
    file: Path, overrides: tuple[str, ...], device: str | None, threads: int | None, as_json: bool
) -> int:
    """Look at FILE's space, data and machine before any training.

    Exit code 3 where no network of the space fits the limits, 2 where the data cannot be read.
    """
    requirements = _load(file, overrides)
    _set_up(requirements, threads)
    from collabdesign import terminal
    from collabdesign.explore.check import check as look

    display = terminal.Display()
    with display.shown():
        found = look(requirements, device=device, on_progress=display.count)
    if as_json:
        _print_json(found)
    else:
        terminal.show_check(found, requirements, file)
    if not found.feasibility.possible:
        return NOTHING_FITS
    return BAD_INPUT if found.unreadable else 0


def calibrate(
    file: Path,
    run_dir: Path | None,
    networks: int,
    overrides: tuple[str, ...],
    device: str | None,
    threads: int | None,
    as_json: bool,
) -> int:
    """Train a few networks briefly and fully: can FILE's proxy be trusted?

    Writes calibration.json into the run folder, which a search there uses and its report shows.
    The same command goes on from what was trained.
    """
    requirements = _load(file, overrides)
    run_dir = run_dir or Path("runs") / requirements.name
    from collabdesign import terminal

    try:
        _set_up(requirements, threads)
        from collabdesign.explore.begin import prepare
        from collabdesign.explore.calibrate import calibrate as compare

        display = terminal.Display()
        with display.shown():
            prepared = prepare(
                requirements,
                run_dir,
                device=device,
                accept_changes=True,  # compare refuses those that matter here
                on_data=lambda done, total: display.count("reading pictures", done, total),
            )
            terminal.show_lengthened(requirements, len(prepared.data.train_labels))
            found = compare(
                requirements,
                run_dir,
                prepared,
                networks=networks,
                on_outlook=terminal.show_outlook,
                on_progress=display.calibrate,
            )
    except KeyboardInterrupt:
        click.echo(f"\nInterrupted. To continue: {_command()}", err=True)
        return INTERRUPTED
    if as_json:
        _print_json({**found.to_json(), "noise_points": found.noise_points})
    else:
        terminal.show_calibration(found, run_dir)
    return 0


def search(
    file: Path,
    run_dir: Path | None,
    overrides: tuple[str, ...],
    device: str | None,
    workers: int | None,
    threads: int | None,
    accept_changes: bool,
) -> int:
    """Search, train the family and write the report, as FILE asks.

    The same command on an existing run folder continues it. While another searches there, it
    joins in: its workers take their share. Whichever of the commands comes first to the family
    trains it, and the others end.

    With --workers 1 the same seed gives the same search; several workers are faster, and which
    candidates they find depends on who is done first.
    """
    command = _command()
    try:
        return _search(file, run_dir, overrides, device, workers, threads, accept_changes, command)
    except KeyboardInterrupt:
        click.echo(f"\nInterrupted. To continue: {command}", err=True)
        return INTERRUPTED


def _search(
    file: Path,
    run_dir: Path | None,
    overrides: tuple[str, ...],
    device: str | None,
    workers: int | None,
    threads: int | None,
    accept_changes: bool,
    command: str,
) -> int:
    requirements = _load(file, overrides)
    run_dir = run_dir or Path("runs") / requirements.name
    left = requirements.search.trials - _announce(requirements, run_dir)
    _set_up(requirements, threads)
    from collabdesign import terminal
    from collabdesign.deliver.family import RULE
    from collabdesign.evaluate.data.images import load_test
    from collabdesign.explore.begin import prepare
    from collabdesign.explore.environment import workers_for
    from collabdesign.explore.lock import InUse, held
    from collabdesign.explore.record import DATABASE, read_record
    from collabdesign.explore.search import search as explore

    display = terminal.Display()
    stopped: NothingFits | None = None
    with display.shown():
        prepared = prepare(
            requirements,
            run_dir,
            device=device,
            accept_changes=accept_changes,
            on_data=lambda done, total: display.count("reading pictures", done, total),
        )
        terminal.show_lengthened(requirements, len(prepared.data.train_labels))
        terminal.show_calibrated(run_dir, requirements, prepared.data.fingerprint)
        # Read now, so that a picture that cannot be read ends the search before it begins; the
        # search itself is not given it.
        test = load_test(
            requirements.data,
            prepared.device,
            on_progress=lambda done, total: display.count("reading test pictures", done, total),
        )
        count = workers or workers_for(prepared.device, threads or 1)
        try:
            with _logged(run_dir):
                explore(
                    requirements,
                    run_dir,
                    workers=max(1, min(left, count)),
                    worker_threads=threads or 1,
                    accept_changes=accept_changes,
                    notes={"command": command, "family_rule": RULE},
                    prepared=prepared,
                    on_progress=display.search,
                )
        except NothingFits as error:
            stopped = error
            if not (run_dir / DATABASE).is_file() or not read_record(run_dir).trained:
                raise
        try:
            with held(run_dir), _logged(run_dir):
                ended = _deliver(requirements, run_dir, prepared, test, display)
        except InUse:
            terminal.out.print(
                f"The search is done, and another command trains the family; `collabdesign status "
                f"{run_dir}` tells when it is there",
                markup=False,
            )
            return 0
    return _conclude(*ended, stopped)


def _announce(requirements: Requirements, run_dir: Path) -> int:
    """Say what is about to be done; how many trials are done already."""
    from collabdesign import terminal
    from collabdesign.explore.lock import at_work
    from collabdesign.explore.record import DATABASE, read_record

    done = len(read_record(run_dir).finished) if (run_dir / DATABASE).is_file() else 0
    trials = requirements.search.trials
    text = f"continuing after {done} of {trials} trials" if done else f"{trials} trials"
    if done > trials:
        text = f"{done} trials are done already, {trials} were asked: none is added"
    if others := len(at_work(run_dir, "worker")):
        text = f"joining {others} at work after {done} of {trials} trials"
    terminal.err.print(f"{requirements.name}: {text}, in {run_dir}", markup=False)
    return done


def _deliver(
    requirements: Requirements, run_dir: Path, prepared: Prepared, test: TestData, display: Display
) -> tuple[Record, tuple[Certificate, ...], ReportView, Path]:
    """Train the family of a search and write the report, whose path is the last."""
    from collabdesign.deliver.compare import write_references
    from collabdesign.deliver.family import build_family
    from collabdesign.deliver.report.gather import gather, scale_of_record
    from collabdesign.deliver.report.page import write_report
    from collabdesign.explore.record import read_record

    record = read_record(run_dir)
    certificates = build_family(
        requirements,
        run_dir,
        record,
        scale_of_record(record, requirements),
        prepared.data,
        test,
        prepared.device,
        on_progress=display.family,
    )
    write_references(run_dir, requirements)
    view = gather(run_dir)
    return record, certificates, view, write_report(run_dir, view)


def _conclude(
    record: Record,
    certificates: Sequence[Certificate],
    view: ReportView,
    report: Path,
    stopped: NothingFits | None,
) -> int:
    from collabdesign import terminal

    terminal.show_counts(record)
    if not certificates:
        terminal.out.print("[red]Every training failed[/]; the report says why")
    terminal.show_family(certificates, record)
    terminal.show_finalists(view.finalists)
    terminal.show_misses(certificates)
    terminal.show_findings(view)
    terminal.out.print(f"report: {report}", markup=False)
    terminal.out.print(f"family: {report.with_name('family')}", markup=False)
    if stopped is not None:
        terminal.err.print(f"collabdesign: {stopped}", markup=False)
        return stopped.exit_code
    met = any(each.meets_all for each in certificates)
    return 0 if met else GOALS_NOT_MET


def status(run_dir: Path, as_json: bool) -> int:
    """Tell where the search in DIR stands, running or not."""
    from collabdesign import terminal
    from collabdesign.explore.lock import at_work, is_running
    from collabdesign.explore.record import (
        best_accuracy,
        read_record,
        requirements_of,
        trained_within,
    )

    record = read_record(run_dir)
    requirements = requirements_of(record)
    running = is_running(run_dir)
    workers = len(at_work(run_dir, "worker"))
    done = len(record.finished) >= requirements.search.trials or record.ran_out
    family = sorted(each.name for each in (run_dir / "family").glob("attonet-*"))
    if running:
        state = "training the family" if done and not workers else "searching"
    elif done and not record.trained:
        state = "finished; every training failed"
    elif done:
        state = "finished" if family else "searched; the family is not trained yet"
    else:
        state = "interrupted; the same search command continues it"
    best = best_accuracy(trained_within(record, requirements))
    if as_json:
        _print_json(
            {
                "name": requirements.name,
                "state": state,
                "running": running,
                "workers": workers,
                "trials": requirements.search.trials,
                "trained": len(record.trained),
                "stopped": len(record.stopped),
                "failed": len(record.failed),
                "proxy_epochs_saved": record.epochs_saved,
                "rejected": record.rejected,
                "repeated": record.repeated,
                "best_proxy_accuracy": best,
                "family": family,
            }
        )
    else:
        terminal.show_status(record, requirements, best, state, workers)
    return 0


def report(run_dir: Path) -> int:
    """Write DIR/report.html anew from what the run holds."""
    from collabdesign.deliver.report.gather import gather
    from collabdesign.deliver.report.page import write_report
    from collabdesign.explore.lock import is_running

    click.echo(write_report(run_dir, gather(run_dir, running=is_running(run_dir))))
    return 0


def show(run_dir: Path, candidate: int, as_json: bool) -> int:
    """Describe one CANDIDATE of the run in DIR, by its number."""
    from collabdesign import terminal
    from collabdesign.deliver.report.words import describe, percent, short_quantity
    from collabdesign.errors import InputError
    from collabdesign.explore.record import read_record

    record = read_record(run_dir)
    found = next((each for each in record.candidates if each.number == candidate), None)
    if found is None:
        numbers = ", ".join(str(each.number) for each in record.candidates) or "none"
        raise InputError(f"the candidate must be one of {numbers}, got {candidate}")
    if as_json:
        _print_json({"number": found.number, **found.to_json()})
        return 0
    rows = {
        "architecture": found.architecture.id,
        "proposed by": found.proposed_by,
        "outcome": found.outcome + (f" ({found.reason})" if found.reason else ""),
    }
    if found.accuracy is not None:
        rows["proxy_accuracy"] = percent(found.accuracy)
    for name in ("macs", "params", "weight_bytes", "peak_activation_bytes"):
        rows[name] = short_quantity(name, getattr(found.cost, name))
    terminal.show_rows(f"candidate {found.number}", rows)
    for line in describe(found.architecture):
        terminal.out.print(f"  {line}", markup=False)
    return 0


def init(folder: Path, into: Path, name: str | None, force: bool) -> int:
    """Write requirements and a prototype that fit a FOLDER of pictures.

    The folder holds one folder of pictures for each class, or train and test folders of such.
    """
    from collabdesign import terminal
    from collabdesign.deliver.init import init as write

    display = terminal.Display()
    with display.shown():
        result = write(
            folder,
            into,
            name=name,
            force=force,
            on_progress=lambda done, total: display.count("opening pictures", done, total),
        )
    terminal.show_init(result)
    return 0


def schema(prototype: bool) -> int:
    """Print the JSON Schema of requirements files, for editors."""
    from collabdesign.design.files.schema import prototype_schema, requirements_schema

    click.echo(json.dumps(prototype_schema() if prototype else requirements_schema(), indent=2))
    return 0


# name -> (function, its arguments and options)
COMMANDS: dict[str, tuple[Callable[..., int], list[Callable[..., Any]]]] = {
    "init": (
        init,
        [
            click.option("--data", "folder", required=True, type=click.Path(path_type=Path),
                         metavar="FOLDER", help="Your pictures, one folder a class."),
            click.option("--into", type=click.Path(path_type=Path), default=Path(),
                         metavar="DIR", help="Where to write (default: here)."),
            click.option("--name", help="Of the run (default: the folder's)."),
            click.option("--force", is_flag=True, help="Write over earlier files."),
        ],
    ),
    "check": (check, [_FILE, _SET, _DEVICE, _THREADS, _JSON]),
    "calibrate": (
        calibrate,
        [
            _FILE,
            _INTO,
            click.option("--networks", type=click.IntRange(4), default=12, metavar="K",
                         help="How many to train both ways (default: 12; 10 to 20 tell most)."),
            _SET,
            _DEVICE,
            _THREADS,
            _JSON,
        ],
    ),
    "search": (
        search,
        [
            _FILE,
            _INTO,
            _SET,
            _DEVICE,
            click.option("--workers", type=click.IntRange(1), metavar="N",
                         help="Processes that train (default: what the machine supports)."),
            _THREADS,
            click.option("--accept-changes", is_flag=True,
                         help="Continue a run although its requirements or data changed."),
        ],
    ),
    "status": (status, [_RUN, _JSON]),
    "report": (report, [_RUN]),
    "show": (show, [_RUN, click.argument("candidate", type=int), _JSON]),
    "schema": (
        schema,
        [click.option("--prototype", is_flag=True, help="Of prototype files instead.")],
    ),
}  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="collabdesign")
def cli() -> None:
    """Design compact vision networks together with a machine.

    You write the budgets, the goals and a prototype; the search designs what you left open,
    trains what fits, and hands over a family of networks.
    """


def _register(
    name: str, function: Callable[..., int], decorators: list[Callable[..., Any]]
) -> None:
    wrapped: Any = function
    for decorator in reversed(decorators):
        wrapped = decorator(wrapped)
    cli.command(name)(wrapped)


for _name, (_function, _decorators) in COMMANDS.items():
    _register(_name, _function, _decorators)


def main() -> None:
    """The entry point: errors that a person can meet end in a message and an exit code."""
    # A thread that waits for work by spinning takes the core from the one that does it; on a
    # busy machine that makes small networks train ten times slower. Read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        code = cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except CollabdesignError as error:
        click.echo(f"collabdesign: {error}", err=True)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # Who reads has seen enough, which click and rich answer with a SystemExit: nothing is
        # left to say, also not by Python at its exit.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        code = BROKEN_PIPE
    except OSError as error:
        click.echo(
            f"collabdesign: the system refused: {error}; once that is mended, the same command "
            "goes on",
            err=True,
        )
        code = BAD_INPUT
    sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but not in the middle of an import.

    A package that is half imported answers it with an error of its own, or swallows it; so it
    is raised when the import is done, which takes a few seconds at most.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            signal.signal(signal.SIGALRM, _interrupt)
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _load(file: Path, overrides: tuple[str, ...]) -> Requirements:
    from collabdesign.design.files.reading import load_requirements

    return load_requirements(file, overrides)


def _print_json(data: Any) -> None:
    from collabdesign.files import as_json

    click.echo(as_json(data))


def _command() -> str:
    """What the person typed, to type again."""
    import shlex

    return "collabdesign " + " ".join(shlex.quote(word) for word in sys.argv[1:])


def _set_up(requirements: Requirements, threads: int | None) -> None:
    """Set what belongs to the whole process before anything is trained."""
    import torch

    from collabdesign.evaluate.training import keep_freed_memory
    from collabdesign.explore.environment import threads_for

    keep_freed_memory()
    torch.set_num_threads(threads or threads_for(requirements.limits.macs))


@contextmanager
def _logged(run_dir: Path) -> Iterator[None]:
    """Append what the library logs to the run's ``search.log``, once the run folder is there; show
    what it warns of as well."""
    kept = logging.FileHandler(run_dir / "search.log", encoding="utf-8", delay=True)
    kept.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    shown = logging.StreamHandler()
    shown.setFormatter(logging.Formatter("collabdesign: %(message)s"))
    shown.setLevel(logging.WARNING)
    logger = logging.getLogger("collabdesign")
    logger.setLevel(logging.INFO)
    for handler in (kept, shown):
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in (kept, shown):
            logger.removeHandler(handler)
            handler.close()
