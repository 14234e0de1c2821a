"""A study in a team's PostgreSQL: one search and a resume, on a server of the test's own."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from tiny_search import TRIALS, outcomes, run, search_words, write_tiny

from collabdesign.explore.study import read_record

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [
    Path(found).parent for found in [shutil.which("initdb")] if found
]

pytestmark = pytest.mark.skipif(not BINARIES, reason="PostgreSQL's server is not installed")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an empty database on a server that ends with the module."""
    # Its own user, since the server refuses to run as root; a folder that this user may enter.
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    with socket.socket() as free, tempfile.TemporaryDirectory(dir="/tmp") as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        if user:
            os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
        data, options = f"{folder}/data", f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}"

        def call(name: str, *words: str) -> None:
            words = (str(BINARIES[-1] / name), *words)
            subprocess.run([*user, *words], check=True, cwd="/", stdout=subprocess.DEVNULL)

        call("initdb", "-D", data, "-A", "trust", "-U", "tester")
        free.close()
        call("pg_ctl", "-D", data, "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            yield f"postgresql://tester@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-D", data, "-m", "immediate", "stop")


def test_a_search_and_its_resume(server: str, finished: Path, tmp_path: Path) -> None:
    write_tiny(tmp_path, ("name: tiny", f"name: tiny\nstorage: {server}"))
    run_dir = tmp_path / "run"
    few = ("--set", "search.trials=5", "--set", "family.size=1")
    code, said = run(search_words(tmp_path, *few), tmp_path)
    assert (code, "Traceback" in said) == (0, False), said
    assert not (run_dir / "study.db").exists()
    assert len(read_record(run_dir).trained) == 5
    code, said = run(search_words(tmp_path), tmp_path)
    assert (code, f"continuing after 5 of {TRIALS} trials" in said) == (0, True), said
    # What a file holds, a database does.
    assert len(read_record(run_dir).trained) == TRIALS
    ours = {each.architecture.id: each.accuracy for each in read_record(run_dir).trained}
    theirs = outcomes(finished / "run")
    assert ours == {name: accuracy for name, (_, _, _, accuracy, _, _) in theirs.items()}
    # As a team's dashboard reads it.
    names = optuna.get_all_study_names(storage=server)
    assert len(names) == 1 and names[0].startswith("tiny-")
    assert len(optuna.load_study(study_name=names[0], storage=server).trials) == TRIALS
    for words in (["status", "run"], ["report", "run"]):
        code, said = run(words, tmp_path)
        assert code == 0, said


def test_two_runs_share_a_database(server: str, tmp_path: Path) -> None:
    before = set(optuna.get_all_study_names(storage=server))
    few = ("--set", "search.trials=1", "--set", "family.training.epochs=4")
    for name in ("one", "two"):
        write_tiny(tmp_path / name, ("name: tiny", f"name: tiny\nstorage: {server}"))
        code, said = run(search_words(tmp_path / name, *few), tmp_path / name)
        assert code in (0, 4), said
        assert len(read_record(tmp_path / name / "run").finished) == 1
    assert len(set(optuna.get_all_study_names(storage=server)) - before) == 2


def test_a_server_that_does_not_answer_is_named(server: str, tmp_path: Path) -> None:
    address = f"postgresql://tester:secret@127.0.0.1:{server.rpartition(':')[2]}".replace(
        "/postgres", "/nowhere"
    )
    write_tiny(tmp_path, ("name: tiny", f"name: tiny\nstorage: {address}"))
    code, said = run(search_words(tmp_path), tmp_path)
    assert (code, "Traceback" in said) == (2, False), said
    assert "the study's database" in said and "nowhere" in said
    assert "secret" not in said


def test_no_message_tells_the_password(server: str, tmp_path: Path) -> None:
    address = server.replace("tester@", "tester:secret@")
    write_tiny(tmp_path, ("name: tiny", f"name: tiny\nstorage: {address}"))
    few = ("--set", "search.trials=1", "--set", "family.training.epochs=4")
    assert run(search_words(tmp_path, *few), tmp_path)[0] in (0, 4)
    other = {"storage": address, "study": "nobody's"}
    (tmp_path / "run" / "study.json").write_text(json.dumps(other))
    code, said = run(["report", "run"], tmp_path)
    assert code == 2 and "must be the study of a collabdesign search" in said, said
    assert "tester:***@" in said and "secret" not in said
