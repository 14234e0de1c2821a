"""The study: written by one process, read by any, whole after every kill, wherever it lies."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from tiny_search import candidate, edited, rows, run, search_words, snapshot, trained, write_tiny

from collabdesign.design.files.reading import load_requirements
from collabdesign.design.requirements import Requirements
from collabdesign.design.space import DesignSpace
from collabdesign.errors import InputError
from collabdesign.explore import study_writer
from collabdesign.explore.proposals import distributions_of
from collabdesign.explore.record import Candidate, Record, requirements_of
from collabdesign.explore.study import ELSEWHERE, has_study, read_record
from collabdesign.explore.study_writer import StudyWriter, on_network_disk


@pytest.fixture
def requirements(tmp_path: Path) -> Requirements:
    return load_requirements(write_tiny(tmp_path))


@pytest.fixture
def study(tmp_path: Path, requirements: Requirements) -> Iterator[StudyWriter]:
    with closing(StudyWriter(tmp_path, requirements.objectives)) as opened:
        yield opened


def begun(
    study: StudyWriter, requirements: Requirements, index: int, over: float = -0.25
) -> Candidate:
    """A candidate that is in training."""
    new = candidate(requirements, index)
    distributions = distributions_of(DesignSpace(requirements), new.params)
    return study.begin(new, distributions, {"macs": over})


# -- what is written, and read ----------------------------------------------------------------


def test_a_candidates_life(tmp_path: Path, requirements: Requirements, study: StudyWriter) -> None:
    first = begun(study, requirements, 0, -0.5)
    second = begun(study, requirements, 1)
    third = begun(study, requirements, 2)
    assert [each.number for each in (first, second, third)] == [0, 1, 2]
    assert [each.outcome for each in study.read().candidates] == ["running"] * 3
    study.give_back(first)
    study.finish(replace(trained(requirements, 1, 0.5), number=1))
    study.finish(replace(third, outcome="failed", reason="diverged: so"))
    record = read_record(tmp_path)
    assert record.killed == 1
    assert [(each.number, each.outcome) for each in record.candidates] == [
        (1, "trained"),
        (2, "failed"),
    ]
    assert record.finished == record.candidates
    assert [each.accuracy for each in record.trained] == [0.5]
    # As Optuna has it, with all its tools.
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    trials = optuna.load_study(study_name="collabdesign", storage=storage).trials
    assert [each.state.name for each in trials] == ["FAIL", "COMPLETE", "PRUNED"]
    assert trials[1].values == [0.5, second.cost.macs, second.cost.params]
    assert trials[1].params == dict(second.params)
    assert trials[0].constraints == {"macs": -0.5}


def test_what_was_given_back_is_known_also_to_the_next_process(
    tmp_path: Path, requirements: Requirements
) -> None:
    with closing(StudyWriter(tmp_path, requirements.objectives)) as study:
        first, second = (begun(study, requirements, index) for index in range(2))
        study.give_back(first)
        study.give_back(second, "Segmentation fault")
    with closing(StudyWriter(tmp_path, requirements.objectives)) as study:
        found = study.given_back(0)
        assert found is not None and found.architecture == first.architecture
        assert study.given_back(2) is None
        # Killed from outside it is done again for ever; by a fault of its own twice is enough.
        for index, fault in ((0, ""), (0, ""), (1, "Bus error")):
            study.give_back(begun(study, requirements, index), fault)
        assert begun(study, requirements, 2).number == 5
    record = read_record(tmp_path)
    assert record.killed == 4
    assert [(each.index, each.outcome) for each in record.candidates] == [
        (1, "failed"),
        (2, "running"),
    ]
    assert "Bus error" in record.candidates[0].reason


def test_what_a_dead_process_left_running_is_given_back(
    tmp_path: Path, requirements: Requirements, study: StudyWriter
) -> None:
    dead = begun(study, requirements, 0)
    done = begun(study, requirements, 1)
    with edited(tmp_path) as database:  # a kill between the two writes that finish a candidate
        result = replace(trained(requirements, 1, 0.5), number=done.number)
        database.execute(
            "UPDATE trial_user_attributes SET value_json = ? WHERE trial_id = 2",
            (json.dumps(result.to_json()),),
        )
    study.close()
    with closing(StudyWriter(tmp_path, requirements.objectives)) as study:
        study.take_back("Illegal instruction")
        assert rows(tmp_path, "SELECT state FROM trials") == [("FAIL",), ("COMPLETE",)]
        assert [each.accuracy for each in read_record(tmp_path).trained] == [0.5]
        given_back = study.given_back(dead.index)
        assert given_back is not None and given_back.reason == "fault: Illegal instruction"


def test_a_finished_study_is_one_file(finished: Path, finished_copy: Path) -> None:
    """Nothing is written to read it, so that a run on a disk without room can be read too."""
    run_dir = finished_copy / "run"
    before = snapshot(run_dir)
    assert [path.name for path in run_dir.glob("study.db*")] == ["study.db"]
    read_record(run_dir)
    assert snapshot(run_dir) == before
    assert rows(run_dir, "PRAGMA journal_mode") == [("delete",)]


def test_read_while_it_is_written(
    tmp_path: Path, requirements: Requirements, study: StudyWriter
) -> None:
    """Each look sees a whole record, and never less than the one before."""
    study.set({"requirements": requirements.to_dict()})
    seen: list[Record] = []
    stop = threading.Event()
    problems: list[Exception] = []

    def look() -> None:
        try:
            while not stop.is_set():
                seen.append(read_record(tmp_path))
        except Exception as error:
            problems.append(error)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for index in range(25):
            number = begun(study, requirements, index).number
            study.finish(replace(trained(requirements, index, 0.5), number=number))
    finally:
        stop.set()
        watcher.join()
    assert not problems
    counts = [(len(each.candidates), len(each.finished)) for each in seen]
    assert counts == sorted(counts)
    assert len(set(counts)) > 5
    assert len(read_record(tmp_path).trained) == 25


def test_a_run_that_has_only_begun(tmp_path: Path, study: StudyWriter) -> None:
    """The study is there, and what is asked not yet."""
    with pytest.raises(InputError, match="has not begun yet; run the search command"):
        requirements_of(read_record(tmp_path))


def test_a_study_cannot_be_of_other_objectives_by_accident(
    tmp_path: Path, requirements: Requirements, study: StudyWriter
) -> None:
    del study
    assert rows(tmp_path, "SELECT direction FROM study_directions ORDER BY objective") == [
        ("MAXIMIZE",),
        ("MINIMIZE",),
        ("MINIMIZE",),
    ]


def test_what_a_killed_process_left_of_a_study_in_the_making_goes(
    tmp_path: Path, requirements: Requirements
) -> None:
    for name in ("study.db.123.new", "study.db.123.new-journal"):
        (tmp_path / name).write_text("half a study")
    assert not has_study(tmp_path)
    StudyWriter(tmp_path, requirements.objectives).close()
    assert [path.name for path in tmp_path.glob("study.db*")] == ["study.db"]


# -- of another Optuna ------------------------------------------------------------------------


def test_a_study_of_a_newer_optuna_is_refused_by_its_name(finished_copy: Path) -> None:
    """Optuna knows it by the revision of its tables alone."""
    run_dir = finished_copy / "run"
    with edited(run_dir) as database:
        database.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
        database.execute("UPDATE version_info SET schema_version = 99, library_version = '99.0'")
    before = snapshot(run_dir)
    code, said = run(search_words(finished_copy, "--set", "search.trials=20"), finished_copy)
    assert code == 2, said
    assert f"must have the tables of Optuna {optuna.__version__}" in said
    assert "set up by optuna 99.0" in said
    assert "make room" not in said and "Traceback" not in said
    assert snapshot(run_dir)["study.db"] == before["study.db"]


# -- in a database ----------------------------------------------------------------------------


@pytest.fixture
def team(tmp_path: Path) -> str:
    """The address of a database outside of the run folder."""
    return f"sqlite:///{tmp_path / 'team.db'}"


def test_a_study_in_a_database(tmp_path: Path, requirements: Requirements, team: str) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    for name in ("run", "other"):
        (tmp_path / name).mkdir(exist_ok=True)
        with closing(StudyWriter(tmp_path / name, requirements.objectives, team, "tiny")) as study:
            assert begun(study, requirements, 0).number == 0
            study.finish(replace(trained(requirements, 0, 0.5), number=0))
            study.give_back(begun(study, requirements, 1))
    assert [path.name for path in run_dir.iterdir()] == [ELSEWHERE]
    assert has_study(run_dir)
    # It is gone on with, and both searches of this name have their own.
    with closing(StudyWriter(run_dir, requirements.objectives, team, "tiny")) as study:
        assert begun(study, requirements, 1).number == 2
        assert study.given_back(1) is not None
    record, other = read_record(run_dir), read_record(tmp_path / "other")
    assert [len(each.candidates) for each in (record, other)] == [2, 1]
    assert [each.killed for each in (record, other)] == [1, 1]
    names = optuna.get_all_study_names(team)
    assert len(names) == 2 and all(name.startswith("tiny-") for name in names)


def test_a_run_keeps_its_database(tmp_path: Path, requirements: Requirements, team: str) -> None:
    few = ("search.trials=2", "family.size=1", "family.training.epochs=4", "family.finalists=1")
    words = search_words(tmp_path, *(word for each in few for word in ("--set", each)))
    at = ["--set", f"storage={team}"]
    code, said = run([*words, *at], tmp_path)
    assert code in (0, 4), said
    assert not (tmp_path / "run" / "study.db").exists()
    assert len(read_record(tmp_path / "run").trained) == 2
    code, said = run(["status", "run"], tmp_path)
    assert code == 0 and "2 of 2 trials" in said
    for other in ([], ["--set", f"storage={team}.other"]):
        before = snapshot(tmp_path)
        code, said = run([*words, *other, "--accept-changes"], tmp_path)
        assert code == 2 and f"a run keeps its storage {team}" in said
        after = snapshot(tmp_path)
        for folder in (before, after):
            folder.pop("said.txt", None)
        assert after == before
    code, said = run([*words, *at, "--set", "search.trials=3"], tmp_path)
    assert code in (0, 4), said
    assert len(read_record(tmp_path / "run").trained) == 3


def test_the_storage_is_read_from_the_requirements(tmp_path: Path) -> None:
    file = write_tiny(tmp_path)
    assert load_requirements(file).storage is None
    for address in ("postgresql://ann@db.example/nets", "postgresql+psycopg://db:5433/nets"):
        read = load_requirements(file, [f"storage={address}"])
        assert read.storage == address
        assert read.to_dict()["storage"] == address


@pytest.mark.parametrize(
    "written", ["study.db", "postgresql:db", "postgresql://", "://db/nets", "7", "[a, b]"]
)
def test_a_storage_that_is_no_address_is_refused(tmp_path: Path, written: str) -> None:
    file = write_tiny(tmp_path)
    with pytest.raises(InputError, match="storage must be the address of a database such as"):
        load_requirements(file, [f"storage={written}"])


@pytest.mark.parametrize(
    ("storage", "says"),
    [
        ("sqlite:////nowhere/at/all.db", "must answer, got"),
        ("nonsense://db/nets", "must answer, got"),
    ],
)
def test_a_database_that_does_not_answer(
    tmp_path: Path, requirements: Requirements, storage: str, says: str
) -> None:
    with pytest.raises(InputError, match=says) as refused:
        StudyWriter(tmp_path, requirements.objectives, storage, "tiny")
    assert storage in str(refused.value) and "make room" not in str(refused.value)
    assert not has_study(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"storage": "sqlite:///x.db"}'])
def test_a_file_that_does_not_say_where_the_study_lies(tmp_path: Path, text: str) -> None:
    (tmp_path / ELSEWHERE).write_text(text)
    with pytest.raises(InputError, match="must say where the study lies"):
        read_record(tmp_path)


# -- on a network disk ------------------------------------------------------------------------

MOUNTS = """\
/dev/sda1 / ext4 rw,relatime 0 0
tmpfs {here} tmpfs rw 0 0
server:/export {here}/home nfs4 rw,vers=4.2 0 0
/dev/sdb1 {here}/home/local ext4 rw 0 0
server:/other {here}/ho nfs rw 0 0
"""


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of which parts lie on a network disk, as the system tells it."""
    here = (tmp_path / "disks").resolve()
    for folder in ("home/run", "home/local/run", "homes"):
        (here / folder).mkdir(parents=True)
    (tmp_path / "mounts").write_text(MOUNTS.format(here=here))
    monkeypatch.setattr(study_writer, "_MOUNTS", tmp_path / "mounts")
    return here


def test_the_disk_that_a_folder_lies_on(mounts: Path) -> None:
    assert on_network_disk(mounts / "home" / "run")
    assert on_network_disk(mounts / "home")
    assert not on_network_disk(mounts / "home" / "local" / "run")
    assert not on_network_disk(mounts / "homes")  # no part of `ho` nor of `home`
    assert not on_network_disk(mounts)


def test_a_system_that_tells_no_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_writer, "_MOUNTS", tmp_path / "none")
    assert not on_network_disk(tmp_path)


@pytest.mark.parametrize(("folder", "mode"), [("home/run", "delete"), ("home/local/run", "wal")])
def test_on_a_network_disk_nothing_is_shared_in_memory(
    mounts: Path, requirements: Requirements, folder: str, mode: str
) -> None:
    """SQLite's write-ahead log is memory that processes share; no network disk has that."""
    run_dir = mounts / folder
    with closing(StudyWriter(run_dir, requirements.objectives)) as study:
        begun(study, requirements, 0)
        assert rows(run_dir, "PRAGMA journal_mode") == [(mode,)]
        assert bool(list(run_dir.glob("study.db-shm"))) == (mode == "wal")
