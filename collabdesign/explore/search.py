"""A search: one process, or several workers, on the study of a run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from collabdesign.design.files.reading import load_requirements
from collabdesign.design.requirements import Requirements
from collabdesign.evaluate.plan import plan_training
from collabdesign.explore.begin import Prepared, begin, joined, make_folder, prepare
from collabdesign.explore.environment import environment
from collabdesign.explore.feasible import scale_of
from collabdesign.explore.lock import at_work
from collabdesign.explore.loop import Loop
from collabdesign.explore.progress import OnProgress, Progressing, Step
from collabdesign.explore.record import Record
from collabdesign.explore.workers import Workers


def search(
    requirements: Requirements | Path | str,
    run_dir: Path | str,
    *,
    device: str | None = None,
    workers: int = 1,
    worker_threads: int = 1,
    accept_changes: bool = False,
    notes: Mapping[str, str] | None = None,
    prepared: Prepared | None = None,
    on_progress: OnProgress | None = None,
    on_data: Callable[[int, int], None] | None = None,
) -> Record:
    """Search until ``search.trials`` candidates are trained, stopped or failed.

    An earlier search in the folder is continued.

    Args:
        requirements: Loaded, or the path of a file.
        run_dir: Made if it is not there. Holds the study; see the README for its files.
        device: ``cpu`` or ``cuda``; the best there is unless named.
        workers: Processes that train. One is this process, and its search is reproducible;
            more are started besides it, so a script calls this under
            ``if __name__ == "__main__"``. Also where others are at work on the same run.
        worker_threads: CPU threads of each worker, where there are several.
        accept_changes: Continue although other keys than ``search.trials`` and ``family``
            changed since the run began.
        notes: Written into the study for the report: ``command``, ``family_rule``.
        prepared: From :func:`prepare`, where the caller needs it too.
        on_progress: Called after each proposal, epoch and candidate.
        on_data: Called with (images read, all images) while the data is loaded.

    Returns:
        The record at the end.

    Raises:
        InputError: What a person wrote cannot be used.
        NothingFits: No network fits, or no new one was found 500 proposals in a row; the
            record up to there stands.
        WorkersDied: Workers were killed one after the other.
        KeyboardInterrupt: Passed on; the candidates in training are given back.
    """
    if not isinstance(requirements, Requirements):
        requirements = load_requirements(requirements)
    run_dir = Path(run_dir)
    if prepared is None:
        prepared = prepare(
            requirements, run_dir, device=device, accept_changes=accept_changes, on_data=on_data
        )
    ready, asked = prepared, requirements
    make_folder(run_dir)
    hardware = environment(ready.device)
    if workers > 1:
        hardware |= {"workers": str(workers), "threads": str(worker_threads)}
    with joined(
        run_dir,
        ready.space,
        asked.objectives,
        "command" if workers > 1 else "worker",
        lambda store: begin(run_dir, store, asked, ready, accept_changes, notes or {}, hardware),
    ) as (store, name):
        progressing = Progressing(
            asked,
            plan_training(len(ready.data.train_labels), asked.search.proxy).epochs,
            scale_of(ready.space, asked),
            store.read(),
        )
        show = on_progress or (lambda progress: None)
        if workers > 1:
            Workers(
                run_dir,
                store,
                asked,
                ready.data,
                ready.device,
                workers,
                worker_threads,
                progressing,
                show,
            ).run()
        else:

            def on_step(record: Record, step: Step) -> None:
                progressing.update(record)
                show(progressing.at([step], len(at_work(run_dir, "worker"))))

            Loop(run_dir, store, asked, ready.space, ready.data, ready.device, name, on_step).run()
        return store.read()
