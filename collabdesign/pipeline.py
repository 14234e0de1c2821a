"""The product, from requirements to networks: search, family and report, and each stage alone.

Nothing is printed: what happens is told to ``on_event``, as frozen data. From a notebook::

    import collabdesign

    run = collabdesign.run("requirements.yaml")
    print(run.report, [member.name for member in run.family])
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import optuna
import torch

from collabdesign.deliver.baselines import CompareProgress
from collabdesign.deliver.certificate import Certificate
from collabdesign.deliver.choice import RULE
from collabdesign.deliver.compare import SEEDS
from collabdesign.deliver.compare import compare as train_and_compare
from collabdesign.deliver.comparison import Comparison
from collabdesign.deliver.family import build_family, forms_of
from collabdesign.deliver.references import write_references
from collabdesign.deliver.report.gather import gather
from collabdesign.deliver.report.page import write_report
from collabdesign.deliver.report.view import ReportView
from collabdesign.design.files.reading import load_requirements
from collabdesign.design.requirements import Requirements
from collabdesign.errors import NothingFits
from collabdesign.evaluate.data.images import TestData, load_test
from collabdesign.explore.aim import Aim
from collabdesign.explore.begin import Prepared, begin, prepare, require_same_images
from collabdesign.explore.calibrate import NETWORKS, CalibrateProgress, Outlook
from collabdesign.explore.calibrate import calibrate as train_both_ways
from collabdesign.explore.calibration import Calibration
from collabdesign.explore.driver import Driver
from collabdesign.explore.environment import devices_for, environment, threads_for, workers_for
from collabdesign.explore.executors.executor import Executor
from collabdesign.explore.executors.inline import InlineExecutor
from collabdesign.explore.executors.processes import ProcessExecutor
from collabdesign.explore.faults import death_of
from collabdesign.explore.full_training import FamilyProgress
from collabdesign.explore.lock import CALIBRATING, SEARCHING, InUse, held, holder
from collabdesign.explore.progress import PROGRESS, Measuring, Notice, Progress, Reading
from collabdesign.explore.record import Record, requirements_of
from collabdesign.explore.study import has_study, read_record
from collabdesign.explore.study_writer import StudyWriter
from collabdesign.files import write_json

_TOLD = Progress | FamilyProgress | CompareProgress
_TOLD_SECONDS = 1.0


@dataclass(frozen=True)
class Began:
    """What is about to be done, before the first training.

    Attributes:
        requirements: As they were understood.
        run_dir: Where the run lives.
        finished: Trials that an earlier search in the folder finished.
        prepared: The space, the pictures and the device.
    """

    requirements: Requirements
    run_dir: Path
    finished: int
    prepared: Prepared


RunEvent = (
    Reading
    | Measuring
    | Notice
    | Began
    | Progress
    | Aim
    | FamilyProgress
    | Outlook
    | CalibrateProgress
    | CompareProgress
)
OnEvent = Callable[[RunEvent], None]


@dataclass(frozen=True)
class Machine:
    """Where trainings run.

    Attributes:
        device: ``cpu`` or ``cuda``; the best there is where None.
        workers: Trainings at a time; what the machine supports where None. One is in this process,
            and its search can be repeated exactly.
        threads: CPU threads of a training; 1 for small networks and where there are several
            workers, else all cores, where None.
        cluster: Address of a Ray cluster, or ``auto``; this machine where None.
    """

    device: str | None = None
    workers: int | None = None
    threads: int | None = None
    cluster: str | None = None


@dataclass(frozen=True)
class Run:
    """What a run handed over.

    Attributes:
        run_dir: Where it lives.
        record: The search.
        family: The members' certificates, the most accurate first; empty where every full
            training failed.
        report: The page to read.
        view: What the page shows.
        ended: Why the search ended before its last trial, None where it did not.
    """

    run_dir: Path
    record: Record
    family: tuple[Certificate, ...]
    report: Path
    view: ReportView
    ended: NothingFits | None = None


def run(
    requirements: Requirements | Path | str,
    run_dir: Path | str | None = None,
    *,
    machine: Machine = Machine(),
    accept_changes: bool = False,
    command: str = "",
    on_event: OnEvent | None = None,
) -> Run:
    """Search, train the family and write the report; goes on from what the run folder holds.

    Args:
        requirements: Loaded, or the path of a file.
        run_dir: Made if it is not there; ``runs/NAME`` where None.
        machine: Where trainings run.
        accept_changes: Continue although other keys than ``search.trials`` and ``family``, or the
            pictures, changed since the run began.
        command: What continues the run, for the report.
        on_event: Called with what happens.

    Raises:
        InputError: What a person wrote cannot be used.
        InUse: Another process searches in the run folder.
        NothingFits: No network fits the limits, or none was trained before none new was found.
        NotMeasured: What has to be measured of a network cannot be; trainings under way are given
            back.
        TrainersDied: What trains was killed, over and over.
        KeyboardInterrupt: Passed on; trainings under way are given back.
    """
    with _opened(requirements, run_dir, machine, accept_changes, on_event) as here:
        forms_of(here.requirements)  # refused now, not after the search
        # Read now, so that a picture that cannot be read ends the search before it begins; the
        # search itself is not given it.
        test = here.test()
        ended = None
        try:
            record = _search(here, test, accept_changes, command)
        except NothingFits as error:
            ended, record = error, read_record(here.run_dir)
            if not record.trained:
                raise
        members = _family(here, record, test)
        view = gather(here.run_dir, running=False)
        return Run(here.run_dir, record, members, write_report(here.run_dir, view), view, ended)


def search(
    requirements: Requirements | Path | str,
    run_dir: Path | str | None = None,
    *,
    machine: Machine = Machine(),
    accept_changes: bool = False,
    on_event: OnEvent | None = None,
) -> Record:
    """Search alone, until ``search.trials`` candidates are trained, stopped or failed.

    Arguments and errors are those of :func:`run`; also NothingFits where no new network was found,
    and the record up to there stands.
    """
    with _opened(requirements, run_dir, machine, accept_changes, on_event) as here:
        return _search(here, None, accept_changes, "")


def family(
    run_dir: Path | str, *, machine: Machine = Machine(), on_event: OnEvent | None = None
) -> tuple[Certificate, ...]:
    """Train the family of a search, judge it once on test and write its folders.

    Arguments and errors are those of :func:`run`.
    """
    requirements = requirements_of(read_record(Path(run_dir)))
    with _opened(requirements, run_dir, machine, False, on_event) as here:
        test, record = here.test(), read_record(here.run_dir)
        require_same_images(here.run_dir, record, here.prepared.data, test)
        return _family(here, record, test)


def report(run_dir: Path | str) -> Path:
    """Write ``report.html`` and ``front.csv`` anew from what a run folder holds.

    Raises:
        InputError: The folder holds no search.
    """
    return write_report(Path(run_dir), gather(Path(run_dir)))


def compare(
    run_dir: Path | str,
    *,
    networks: Sequence[str] = (),
    seeds: int = SEEDS,
    random_run: Path | str | None = None,
    machine: Machine = Machine(),
    on_event: OnEvent | None = None,
) -> Comparison:
    """Train well-known networks as the family of a run was trained, and write what they come to.

    Args:
        run_dir: Of a search with its family; gets ``compare.json`` and the report anew.
        networks: Names of well-known ones, and ``prototype``; all of them where empty.
        seeds: Trainings of each network that count.
        random_run: The run folder of a random search at equal budget, to compare with as well.
        machine: Where trainings run.
        on_event: Called with what happens.

    Raises:
        InputError: As of :func:`collabdesign.deliver.compare.compare`.
        InUse: Another process works in the run folder.
        TrainersDied: What trains was killed, over and over.
    """
    requirements = requirements_of(read_record(Path(run_dir)))
    with _opened(requirements, run_dir, machine, False, on_event) as here:
        test, record = here.test(), read_record(here.run_dir)
        require_same_images(here.run_dir, record, here.prepared.data, test)
        found = train_and_compare(
            here.requirements,
            here.run_dir,
            record,
            here.prepared,
            test,
            here.executor,
            networks=networks,
            seeds=seeds,
            random_run=None if random_run is None else Path(random_run),
            on_event=here.tell,
        )
        write_report(here.run_dir, gather(here.run_dir, running=False))
        return found


def calibrate(
    requirements: Requirements | Path | str,
    run_dir: Path | str | None = None,
    *,
    networks: int = NETWORKS,
    machine: Machine = Machine(),
    on_event: OnEvent | None = None,
) -> Calibration:
    """Train a few networks briefly and fully, and say how well the proxy ranks them.

    Args:
        requirements: As of :func:`run`, like the other arguments.
        run_dir: Gets ``calibration.json``, from which a search there knows.
        networks: How many to train, at least 4.
        machine: Where trainings run.
        on_event: Called with what happens.

    Raises:
        InputError: As of :func:`collabdesign.explore.calibrate.calibrate`.
        InUse: Another process calibrates in the run folder.
        NothingFits: Fewer than 4 networks fit the limits.
        GoalsNotMet: Fewer than 4 networks could be trained both ways.
    """
    # Of changes, those that matter to a calibration are refused by it.
    with _opened(requirements, run_dir, machine, True, on_event, CALIBRATING) as here:
        return train_both_ways(
            here.requirements,
            here.run_dir,
            here.prepared,
            here.executor,
            networks=networks,
            on_event=here.tell,
        )


# -- what the stages share --------------------------------------------------------------------


@dataclass(frozen=True)
class _Here:
    """A run folder that this process alone works in, and what it works with.

    Attributes:
        died_of: The fault that ended an earlier process, where that is known.
    """

    requirements: Requirements
    run_dir: Path
    prepared: Prepared
    executor: Executor
    tell: OnEvent
    died_of: str

    def test(self) -> TestData:
        return load_test(
            self.requirements.data,
            self.prepared.device,
            on_progress=lambda done, total: self.tell(Reading("test pictures", done, total)),
        )


@contextmanager
def _opened(
    requirements: Requirements | Path | str,
    run_dir: Path | str | None,
    machine: Machine,
    accept_changes: bool,
    on_event: OnEvent | None,
    lock: str = SEARCHING,
) -> Iterator[_Here]:
    if not isinstance(requirements, Requirements):
        requirements = load_requirements(requirements)
    run_dir = Path("runs") / requirements.name if run_dir is None else Path(run_dir)
    if (who := holder(run_dir, lock)) is not None:
        raise InUse(run_dir, lock, who)
    tell = _teller(on_event, run_dir / PROGRESS)
    prepared = prepare(
        requirements,
        run_dir,
        device=machine.device,
        accept_changes=accept_changes,
        on_data=lambda done, total: tell(Reading("pictures", done, total)),
        on_measured=lambda done, total: tell(Measuring(done, total)),
    )
    with ExitStack() as after:
        after.enter_context(held(run_dir, lock))
        after.enter_context(_logged(run_dir))
        after.callback(torch.set_num_threads, torch.get_num_threads())
        if lock == SEARCHING:  # else the file is of a search beside this calibration
            after.callback((run_dir / PROGRESS).unlink, missing_ok=True)
        finished = len(read_record(run_dir).finished) if has_study(run_dir) else 0
        tell(Began(requirements, run_dir, finished, prepared))
        faults = run_dir / f"{lock}.faults"
        died = death_of(faults)
        executor = _executor(requirements, run_dir, prepared, machine, faults, died)
        after.callback(executor.close)
        yield _Here(requirements, run_dir, prepared, executor, tell, died[1])


def _executor(
    requirements: Requirements,
    run_dir: Path,
    prepared: Prepared,
    machine: Machine,
    faults: Path,
    died: tuple[str, str],
) -> Executor:
    """Where trainings run; nothing is started before the first training."""
    data, device, threads = prepared.data, prepared.device, machine.threads or 1
    if machine.cluster is not None:
        from collabdesign.explore.executors.cluster import ClusterExecutor

        return ClusterExecutor(data, machine.cluster, machine.device, threads, machine.workers)
    if (count := machine.workers or workers_for(device, threads)) > 1:
        return ProcessExecutor(data, devices_for(device, count), threads, run_dir)
    torch.set_num_threads(machine.threads or threads_for(requirements.limits.macs))
    return InlineExecutor(data, device, faults, died)


def _search(here: _Here, test: TestData | None, accept_changes: bool, command: str) -> Record:
    requirements, run_dir, prepared = here.requirements, here.run_dir, here.prepared
    with closing(
        StudyWriter(run_dir, requirements.objectives, requirements.storage, requirements.name)
    ) as study:
        study.take_back(here.died_of)
        changes = begin(
            run_dir,
            study,
            requirements,
            prepared,
            test=test,
            accept_changes=accept_changes,
            notes={"family_rule": RULE, **({"command": command} if command else {})},
            environment={**environment(prepared.device), "trained in": here.executor.where},
        )
        if changes:
            here.tell(Notice("the data changed: " + "; ".join(changes)))
        Driver(
            study,
            requirements,
            prepared.space,
            here.executor,
            run_dir,
            here.tell,
            prepared.pricing,
        ).run()
        return study.read()


def _family(here: _Here, record: Record, test: TestData) -> tuple[Certificate, ...]:
    members = build_family(
        here.requirements, here.run_dir, record, here.prepared, test, here.executor, here.tell
    )
    write_references(here.run_dir, here.requirements)
    return members


def _teller(on_event: OnEvent | None, path: Path) -> OnEvent:
    """Passes events on, and writes now and then where the run stands for those who watch it."""
    written = 0.0

    def tell(event: RunEvent) -> None:
        nonlocal written
        now = time.monotonic()
        if isinstance(event, _TOLD) and now - written >= _TOLD_SECONDS:
            written = now
            with suppress(OSError):  # who watches sees less
                write_json(path, {"stage": type(event).__name__, **asdict(event)})
        if on_event is not None:
            on_event(event)

    return tell


@contextmanager
def _logged(run_dir: Path) -> Iterator[None]:
    """Append what the library logs to the run's ``search.log``; Optuna keeps quiet."""
    logger = logging.getLogger("collabdesign")
    kept = logging.FileHandler(
        run_dir / "search.log", encoding="utf-8", delay=True, errors="backslashreplace"
    )
    kept.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    with ExitStack() as after:
        after.callback(optuna.logging.set_verbosity, optuna.logging.get_verbosity())
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        after.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.INFO)
        after.callback(kept.close)
        after.callback(logger.removeHandler, kept)
        logger.addHandler(kept)
        yield
