"""The search loop: what it trains, counts and refuses, and how it goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pictures import SIDE, draw_pictures
from PIL import Image
from tiny_search import (
    TRIALS,
    begin,
    call,
    candidates,
    certificates,
    command,
    finish,
    outcomes,
    rows,
    run,
    search_words,
    snapshot,
    trained_ids,
    wait_until,
    write_tiny,
)

from collabdesign.design.files.reading import load_requirements
from collabdesign.design.requirements import Requirements
from collabdesign.design.space import DesignSpace
from collabdesign.errors import InputError, NothingFits
from collabdesign.explore.driver import PATIENCE
from collabdesign.explore.lock import InUse, held, holder
from collabdesign.explore.progress import Progress, Reading
from collabdesign.explore.record import REJECTIONS_KEPT, Record
from collabdesign.explore.study import read_record
from collabdesign.pipeline import Machine, OnEvent, RunEvent, search

SHORT = ("search.proxy.epochs=1", "data.train_images=200")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny(tmp_path)


ONE = Machine(device="cpu", workers=1, threads=1)


def searched(
    tiny: Path, *overrides: str, accept_changes: bool = False, on_event: OnEvent | None = None
) -> Record:
    return search(
        load_requirements(tiny, overrides),
        tiny.parent / "run",
        machine=ONE,
        accept_changes=accept_changes,
        on_event=on_event,
    )


# -- what is trained --------------------------------------------------------------------------


def test_one_seed_gives_one_search(finished: Path, tiny: Path) -> None:
    searched(tiny)
    ours, theirs = outcomes(tiny.parent / "run"), outcomes(finished / "run")
    assert ours == theirs
    assert list(ours) == list(theirs)  # in the same order
    assert len({accuracy for _, _, _, accuracy, _, _ in ours.values()}) > 2


def test_another_seed_gives_another_search(finished: Path, tiny: Path) -> None:
    searched(tiny, "search.seed=1", "search.trials=4")
    ours, theirs = outcomes(tiny.parent / "run"), outcomes(finished / "run")
    assert len(ours) == 4
    own = next(name for name, (_, who, *_) in ours.items() if who == "prototype")
    # Both begin with the prototype's default network, but from other weights.
    assert ours[own][4] != theirs[own][4]
    assert set(ours) - {own} != set(list(theirs)[1:4])


@pytest.mark.parametrize("sampler", ["generative", "nsga2", "tpe", "random"])
def test_no_limit_is_ever_broken(tiny: Path, sampler: str) -> None:
    limits = ("limits.macs=12k", "limits.params=2500", "limits.peak_activation_bytes=1.5KiB")
    record = searched(tiny, *SHORT, *limits, f"search.sampler={sampler}", "search.trials=14")
    assert len(record.trained) == 14
    for each in record.candidates:
        assert each.cost.macs <= 12_000
        assert each.cost.params <= 2_500
        assert each.cost.peak_activation_bytes <= 1_536
    assert len({each.architecture.id for each in record.candidates}) == 14
    # Rejected proposals are counters with a few samples, never trials.
    assert len(rows(tiny.parent / "run", "SELECT * FROM trials")) == 14
    if sampler == "generative":  # It knows the limits.
        assert record.rejected == 0
        return
    assert record.rejected > 0
    assert set(record.rejected_by) <= {"macs", "params", "peak_activation_bytes"}
    assert max(record.rejected_by.values()) <= record.rejected <= sum(record.rejected_by.values())
    kept = [each for candidate in record.candidates for each in candidate.rejections]
    assert 0 < len(kept) <= record.rejected
    assert all(len(each.rejections) <= REJECTIONS_KEPT for each in record.candidates)
    for rejection in kept:
        over = [name for name, value in rejection.violations.items() if value > 0]
        assert over == [
            name
            for name, limit in (("macs", 12e3), ("params", 2.5e3), ("peak_activation_bytes", 1536))
            if getattr(rejection.cost, name) > limit
        ]
        assert over


def test_the_first_candidate_is_the_prototypes_default(finished: Path) -> None:
    requirements = load_requirements(finished / "tiny.yaml")
    space = DesignSpace(requirements)
    own = space.decode(space.own())
    first, *others = read_record(finished / "run").candidates
    assert (first.number, first.proposed_by, first.architecture) == (0, "prototype", own)
    assert {each.proposed_by for each in others} == {"machine"}
    # Its own values, as the file has them: 8 channels, one module of 16, no features.
    assert (own.stem.channels, own.stem.stride) == (8, 2)
    assert [module.channels for module in own.modules] == [16]


def test_the_default_is_shrunk_to_the_limits(tiny: Path) -> None:
    record = searched(tiny, *SHORT, "limits.macs=5k", "search.trials=1")
    first = record.candidates[0]
    assert first.proposed_by == "prototype"
    assert first.cost.macs <= 5_000
    space = DesignSpace(load_requirements(tiny))
    assert first.architecture != space.decode(space.own())


def test_curves_and_accuracies_belong_together(finished: Path) -> None:
    for each in read_record(finished / "run").trained:
        assert [point.epoch for point in each.curve] == [1, 2, 3]
        assert each.accuracy == each.curve[-1].accuracy
        assert each.seconds > 0


def test_progress_adds_up(tiny: Path) -> None:
    events: list[RunEvent] = []
    # Passes enough that something is learnt: at chance there is no volume to add up.
    record = searched(
        tiny,
        "data.train_images=200",
        "search.proxy.epochs=6",
        "search.trials=4",
        on_event=events.append,
    )
    seen = [each for each in events if isinstance(each, Progress)]
    loaded = [each for each in events if isinstance(each, Reading)]
    # With the digits' test part, 359 of 1,797: one refusal names all that cannot be read.
    assert loaded[-1] == Reading("pictures", 559, 559)
    first, last = seen[0], seen[-1]
    assert (first.trained, first.best, first.hypervolume, first.seconds_left) == (0, None, 0, None)
    assert (last.trained, last.failed, last.trials) == (4, 0, 4)
    assert (last.rejected, last.repeated) == (record.rejected, record.repeated)
    assert last.best == max(each.accuracy or 0 for each in record.trained)
    assert 0 < last.hypervolume < 1
    assert last.seconds_left == pytest.approx(0, abs=1e-6)
    volumes = [each.hypervolume for each in seen]
    assert volumes == sorted(volumes)  # more candidates dominate no less


# -- what goes wrong --------------------------------------------------------------------------

# Weight decay at this rate multiplies every weight by 1 - 100 at each step.
DIVERGES = ("search.proxy.learning_rate=100", "search.proxy.weight_decay=1")


def test_a_network_that_diverges_is_a_failed_candidate(tiny: Path) -> None:
    words = [word for change in (*DIVERGES, "search.trials=3") for word in ("--set", change)]
    code, said = run(search_words(tiny.parent, *words), tiny.parent)
    assert code == 4
    assert "0 networks trained, 3 failed" in said
    assert "Every training failed" in said
    assert "Traceback" not in said
    run_dir = tiny.parent / "run"
    record = read_record(run_dir)
    assert [each.outcome for each in record.finished] == ["failed"] * 3
    for each in record.finished:
        assert each.reason.startswith("diverged: the loss must stay a finite number")
        assert each.accuracy is None
    assert rows(run_dir, "SELECT DISTINCT state FROM trials") == [("PRUNED",)]
    assert (run_dir / "report.html").is_file()
    assert not certificates(run_dir)
    _, said = run(["status", "run"], tiny.parent)
    assert "tiny: finished; every training failed" in said
    assert "3 of 3 trials (0 trained, 3 failed)" in said


def test_a_small_space_is_searched_through(tiny: Path) -> None:
    """2 x 2 networks, one of them over the limit: three are trained, and then nothing is new."""
    freedoms = (
        "prototype.stem={stride: 2, channels: [8, 24]}",
        "prototype.head.features=[0, 32]",
        "prototype.modules.residual={layers: [conv3], depth: 1}",
        "prototype.stages=[{modules: 1, stride: 2, channels: 16, module: residual}]",
        "limits.params=5000",
    )
    space = DesignSpace(load_requirements(tiny, freedoms))
    assert space.size() == 4
    with pytest.raises(NothingFits) as ended:
        searched(tiny, *SHORT, *freedoms)
    assert f"{PATIENCE} proposals in a row" in str(ended.value)
    assert f"after 3 of {TRIALS} trials" in str(ended.value)
    record = read_record(tiny.parent / "run")
    assert len(record.trained) == 3
    # The last 500 proposals: each is known, and answered from the store, or over the limit.
    tail = record.attributes["tail"]
    assert tail["rejected"] + tail["repeated"] == PATIENCE
    assert tail["repeated"] > 0
    assert record.repeated >= tail["repeated"]
    assert len(rows(tiny.parent / "run", "SELECT * FROM trials")) == 3


def test_a_search_that_ran_out_hands_over_what_it_found(tiny: Path) -> None:
    own = [("{low: 4, high: 12, step: 4}", "4"), ("{low: 8, high: 24, step: 8}", "16")]
    write_tiny(tiny.parent, *own)
    small = "prototype.modules.residual={layers: [conv3], depth: 1, activation: [relu, hardswish]}"
    fixed = ("prototype.stem.stride=2", "prototype.stages.0.modules=1")
    words = search_words(tiny.parent, *(f"--set={change}" for change in (small, *fixed)))
    code, said = run(words, tiny.parent)
    assert code == 3
    assert "lower search.trials" in said
    assert len(read_record(tiny.parent / "run").trained) == 2 * 2  # head and activation
    assert certificates(tiny.parent / "run")
    assert (tiny.parent / "run" / "report.html").is_file()
    _, said = run(["status", "run"], tiny.parent)
    assert "tiny: finished" in said and "interrupted" not in said


def test_nothing_is_written_where_nothing_fits(tiny: Path) -> None:
    with pytest.raises(NothingFits, match=r"raise limits\.macs to"):
        searched(tiny, "limits.macs=500")
    assert not (tiny.parent / "run").exists()


# -- going on ---------------------------------------------------------------------------------


def test_more_trials_go_on_without_training_again(finished: Path, finished_copy: Path) -> None:
    run_dir = finished_copy / "run"
    before, logged = candidates(run_dir), trained_ids(run_dir)
    record = searched(finished_copy / "tiny.yaml", f"search.trials={TRIALS + 3}")
    after = candidates(run_dir)
    assert len(record.trained) == len(after) == TRIALS + 3
    assert {name: after[name] for name in before} == before
    assert list(after)[:TRIALS] == list(before)
    assert trained_ids(run_dir)[:TRIALS] == logged
    assert sorted(trained_ids(run_dir)) == sorted(after)
    # Fewer than there are already: nothing to do, and nothing is lost.
    assert len(searched(finished_copy / "tiny.yaml", "search.trials=2").trained) == TRIALS + 3


def test_extended_is_the_same_as_asked_for_at_once(finished_copy: Path, tiny: Path) -> None:
    searched(finished_copy / "tiny.yaml", f"search.trials={TRIALS + 2}")
    searched(tiny, f"search.trials={TRIALS + 2}")
    assert outcomes(finished_copy / "run") == outcomes(tiny.parent / "run")


def test_changed_requirements_are_refused_with_a_diff(finished_copy: Path) -> None:
    tiny, run_dir = finished_copy / "tiny.yaml", finished_copy / "run"
    before = snapshot(run_dir)
    changes = ("limits.macs=40k", "search.proxy.epochs=4", "goals.accuracy=0.5")
    with pytest.raises(InputError) as refused:
        searched(tiny, *changes)
    for line in ("limits.macs: 30k -> 40k", "search.proxy.epochs: 3 -> 4", "goals.accuracy: 0.2"):
        assert line in str(refused.value)
    assert snapshot(run_dir) == before
    # Free: search.trials and all of family.
    searched(tiny, "family.size=2", "family.training.epochs=5")
    searched(
        tiny,
        *changes,
        accept_changes=True,
    )
    assert read_record(run_dir).attributes["requirements"]["limits"]["macs"] == "40k"
    # What it was accepted with is what it goes on with from now.
    with pytest.raises(InputError, match=r"limits\.macs: 40k -> 30k"):
        searched(tiny)


def test_changed_data_is_refused(finished_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same requirements on other images: one pixel of one digit is enough."""
    from sklearn import datasets

    digits = datasets.load_digits()
    assert digits.images[-1, 3, 3] != 0
    tiny = finished_copy / "tiny.yaml"
    for image in digits.images:
        image[0, 0] = 16 - image[0, 0]
    monkeypatch.setattr(datasets, "load_digits", lambda: digits)
    with pytest.raises(InputError, match="the data changed"):
        searched(tiny)
    assert len(searched(tiny, accept_changes=True).trained) == TRIALS
    searched(tiny)  # from now on these are its images


def test_a_moved_folder_is_the_same_data_and_a_changed_picture_is_not(tiny: Path) -> None:
    """The fingerprint decides, not the path; what changed is named."""
    draw_pictures(tiny.parent / "here", 12)
    source = f"data={{source: folder, train: {tiny.parent / 'here'}, resolution: 8}}"
    few = ("search.trials=1", "search.proxy.epochs=1", "limits=", source)
    searched(tiny, *few)
    (tiny.parent / "here").rename(tiny.parent / "there")
    moved = (*few[:-1], source.replace("/here", "/there"))
    assert len(searched(tiny, *moved).trained) == 1
    picture = sorted((tiny.parent / "there").glob("*/*"))[-1]
    Image.new("RGB", (SIDE, SIDE)).save(picture)
    with pytest.raises(InputError, match="the data changed") as refused:
        searched(tiny, *moved)
    assert picture.name in str(refused.value)
    assert "choose another --run-dir, or say --accept-changes" in str(refused.value)


def test_a_library_call_takes_a_path(tiny: Path) -> None:
    (tiny.parent / "short.yaml").write_text(
        tiny.read_text().replace(f"trials: {TRIALS}", "trials: 1")
    )
    record = search(str(tiny.parent / "short.yaml"), str(tiny.parent / "run"), machine=ONE)
    assert len(record.trained) == 1
    assert isinstance(load_requirements(tiny.parent / "run" / "requirements.yaml"), Requirements)


# -- who is at work ----------------------------------------------------------------------------


def test_a_second_process_is_told_who_searches_and_how_to_watch(tiny: Path) -> None:
    run_dir = tiny.parent / "run"
    process = begin(search_words(tiny.parent), tiny.parent)
    assert wait_until(lambda: bool(rows(run_dir, "SELECT * FROM trials")), process)
    who = holder(run_dir)
    assert who is not None and who.pid == process.pid
    assert who.command.startswith("collabdesign search ")
    # Whatever it asks.
    changes: tuple[tuple[str, ...], ...] = (
        (),
        (f"search.trials={TRIALS + 1}",),
        ("limits.macs=1k",),
    )
    for each in changes:
        with pytest.raises(InUse) as refused:
            searched(tiny, *each, accept_changes=True)
        for text in (f"process {process.pid} on ", who.since, who.command, str(run_dir)):
            assert text in str(refused.value)
        assert f"collabdesign status --follow {run_dir}" in str(refused.value)
    assert finish(process) == 0
    assert holder(run_dir) is None
    assert len(candidates(run_dir)) == TRIALS


def test_looking_does_not_stop_a_search_from_starting(tmp_path: Path) -> None:
    """``status`` looks at the lock by taking it for a moment."""
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            holder(tmp_path)

    watchers = [threading.Thread(target=look) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(300):
            with held(tmp_path):
                pass
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()


# -- Ctrl-C -----------------------------------------------------------------------------------

Moment = Callable[[Path], bool]


def _trials(run_dir: Path, state: str) -> int:
    return len(rows(run_dir, f"SELECT * FROM trials WHERE state = '{state}'"))


INTERRUPTED_AT: dict[str, Moment] = {
    "reading pictures": lambda run_dir: "reading pictures" in _said(run_dir),
    "training": lambda run_dir: _trials(run_dir, "RUNNING") > 0,
    "proposing": lambda run_dir: (
        _trials(run_dir, "COMPLETE") == 3 and _trials(run_dir, "RUNNING") == 0
    ),
    "the family": lambda run_dir: len(list(run_dir.glob("family/training/*.pt"))) == 2,
}


def _said(run_dir: Path) -> str:
    said = run_dir.parent / "said.txt"
    return said.read_text() if said.exists() else ""


@pytest.mark.parametrize("moment", INTERRUPTED_AT)
def test_ctrl_c_ends_cleanly_and_the_search_goes_on(
    finished: Path, tiny: Path, moment: str
) -> None:
    run_dir = tiny.parent / "run"
    words = search_words(tiny.parent)
    process = begin(words, tiny.parent)
    assert wait_until(lambda: INTERRUPTED_AT[moment](run_dir), process)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    assert finish(process) == 130
    said = _said(run_dir)
    assert said.endswith(f"\nInterrupted. To continue: collabdesign {' '.join(words)}\n")
    assert "Traceback" not in said
    assert holder(run_dir) is None
    before = candidates(run_dir)
    code, said = run(words, tiny.parent)
    assert code == 0, said
    assert {name: candidates(run_dir)[name] for name in before} == before
    assert outcomes(run_dir) == outcomes(finished / "run")
    assert len(trained_ids(run_dir)) == TRIALS
    assert _trials(run_dir, "RUNNING") == 0


# A package that takes its time, and is interrupted in the middle of its import.
SLOW = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.2)\ndone = 1\n"
IMPORTS_IT = """\
import signal, time
from collabdesign.cli import main
signal.signal(signal.SIGINT, main._interrupt)
try:
    import slow
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted after the import", slow.done)
"""


def test_ctrl_c_waits_for_the_end_of_an_import(tmp_path: Path) -> None:
    """Packages that are half imported answer with errors of their own, or swallow it."""
    (tmp_path / "slow.py").write_text(SLOW)
    words = [sys.executable, "-c", IMPORTS_IT]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=50)
    assert done.stdout == "interrupted after the import 1\n", done.stderr


def test_ctrl_c_while_a_new_process_starts(tiny: Path) -> None:
    draw = random.Random(0)
    for _ in range(2):
        words = command(*search_words(tiny.parent))
        with subprocess.Popen(
            words, cwd=tiny.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            time.sleep(draw.uniform(0.7, 2))
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=60)
        assert (process.returncode, "Traceback" in said) == (130, False), said
        assert "Interrupted. To continue: collabdesign search" in said


def test_ctrl_c_in_the_library_gives_the_candidate_back(tiny: Path) -> None:
    def stop(at: RunEvent) -> None:
        if isinstance(at, Progress) and at.trained == 1 and at.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        searched(tiny, *SHORT, on_event=stop)
    record = read_record(tiny.parent / "run")
    assert (len(record.trained), len(record.candidates), record.killed) == (1, 1, 1)
    searched(tiny, *SHORT, "search.trials=2")
    record = read_record(tiny.parent / "run")
    assert [each.number for each in record.trained] == [0, 2]
    assert [each.index for each in record.trained] == [0, 1]


@pytest.mark.parametrize(
    "change",
    [
        "prototype.head.features=[64, 0]",  # other choices
        "prototype.stem.channels=[4, 8]",  # choices where a range was
        "prototype.modules.residual.branches=[1, 2, 3]",  # another parameter
        "limits.macs=10k",
    ],
)
def test_accepted_changes_go_on_in_the_new_space(finished_copy: Path, change: str) -> None:
    tiny, trials = finished_copy / "tiny.yaml", f"search.trials={TRIALS + 2}"
    record = searched(tiny, change, trials, accept_changes=True)
    assert len(record.trained) == TRIALS + 2
    requirements = load_requirements(tiny, [change])
    space = DesignSpace(requirements)
    for each in record.trained[TRIALS:]:
        assert space.decode(each.params) == each.architecture
        assert max(requirements.violations(each.cost).values()) <= 0


def test_the_best_is_the_best_within_todays_limits(finished_copy: Path) -> None:
    trained = read_record(finished_copy / "run").trained
    best = max(trained, key=lambda each: (each.accuracy or 0, -each.cost.macs))
    cheaper = [each.accuracy or 0 for each in trained if each.cost.macs < best.cost.macs]
    assert cheaper
    events: list[RunEvent] = []
    limit = f"limits.macs={best.cost.macs - 1}"
    searched(finished_copy / "tiny.yaml", limit, accept_changes=True, on_event=events.append)
    assert [each for each in events if isinstance(each, Progress)][-1].best == max(cheaper)
    said = json.loads(call("status", "run", "--json", cwd=finished_copy).stdout)
    assert said["best_proxy_accuracy"] == max(cheaper)
