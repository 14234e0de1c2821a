"""The commands as a person types them: what they say, how fast, and what they leave."""

from __future__ import annotations

import json
import math
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from pictures import SHAPES, draw_pictures
from requirements_files import SHIPPED
from tiny_search import (
    TRIALS,
    begin,
    call,
    candidates,
    certificates,
    command,
    edited,
    finish,
    rows,
    run,
    search_words,
    snapshot,
    wait_until,
    write_tiny,
)

from collabdesign.cli import report
from collabdesign.cli.main import main

HEAVY = ("torch", "torchvision", "optuna", "sklearn", "plotly", "ptflops")
COMMANDS = (
    "init",
    "check",
    "calibrate",
    "search",
    "compare",
    "status",
    "report",
    "show",
    "schema",
    "detect",
)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny(tmp_path)


def loaded_by(words: Sequence[str], cwd: Path) -> set[str]:
    """Which of the heavy packages, and of those that ``--help`` can do without, a command loads."""
    code = (
        "import sys, collabdesign.cli.main as cli\n"
        f"sys.argv = {['collabdesign', *words]!r}\n"
        "try: cli.main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split()) & {*HEAVY, "pydantic", "numpy", "PIL", "rich"}


# -- at once ----------------------------------------------------------------------------------


def test_help_answers_at_once(tmp_path: Path) -> None:
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        done = call("--help", cwd=tmp_path)
        seconds.append(time.perf_counter() - started)
    assert done.returncode == 0
    assert all(re.search(rf"^  {name} ", done.stdout, re.MULTILINE) for name in COMMANDS)
    assert min(seconds) < 0.5
    assert not loaded_by(["--help"], tmp_path)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(tmp_path: Path, name: str) -> None:
    code, said = run([name, "--help"], tmp_path)
    assert code == 0
    assert said.startswith(f"Usage: collabdesign {name} ")
    # Every option says what it does.
    for line in said.splitlines():
        if re.match(r"  (-\w, )?--\w", line):
            assert len(line.split()) > 2, line
    assert not loaded_by([name, "--help"], tmp_path)


def test_the_version(tmp_path: Path) -> None:
    code, said = run(["--version"], tmp_path)
    assert code == 0
    assert re.search(r"collabdesign.*\d+\.\d+", said)


def test_answers_from_a_run_need_nothing_heavy(finished: Path, tmp_path: Path) -> None:
    run_dir = str(finished / "run")
    for words in (["status", run_dir], ["show", run_dir, "0"], ["schema"]):
        assert not loaded_by(words, tmp_path) & set(HEAVY), words
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        assert call("status", run_dir, cwd=tmp_path).returncode == 0
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1.5  # about a second, on a machine that has other things to do


def test_a_report_needs_no_torch(finished_copy: Path) -> None:
    loaded = loaded_by(["report", "run"], finished_copy)
    assert not loaded & {"torch", "torchvision", "optuna", "sklearn", "ptflops"}


# -- check ------------------------------------------------------------------------------------


def cpu_seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_check_on_digits(tmp_path: Path) -> None:
    """Ten seconds of the processor where an import of torch takes two, beside it in this test: a
    slower machine takes longer for both."""
    ratios: list[float] = []
    while not ratios or (ratios[-1] > 5 and len(ratios) < 3):
        before = cpu_seconds_of_children()
        done = call("check", SHIPPED / "digits.yaml", "--threads", "1", cwd=tmp_path)
        between = cpu_seconds_of_children()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        ratios.append((between - before) / (cpu_seconds_of_children() - between))
    assert done.returncode == 0, done.stderr
    assert min(ratios) < 5
    for words in (
        "smallest found",
        "median",
        "largest found",
        "prototype as drawn",
        "proposals that fit",
        "95 % interval",
        "macs binds",
        "stage 1, module 1",
        "stage 2, module 1",
        "Data, train: 1,438 pictures",
        "Data, test: 359 pictures",
        "1,150 to learn from, 288 held out to choose by (one picture is 0.35 points), 359 to test",
        "10 classes",
        "8x8",
        "images/s",
        "30 trials",
        "Ready to search.",
    ):
        assert words in done.stdout, words
    assert not list(tmp_path.iterdir())


def test_check_as_json(tiny: Path) -> None:
    done = call("check", tiny, "--json", "--threads", "1", cwd=tiny.parent)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    space = found["feasibility"]
    assert space["smallest"]["macs"] < space["median"]["macs"] < space["largest"]["macs"]
    assert space["fits"]["all"]["of"] == 2000
    assert [part["name"] for part in space["own"]] == ["stem", "stage 1, module 1", "head"]
    train, test = found["data"]
    assert (train["images"], test["images"]) == (500, 359)
    assert found["parts"] == [400, 100, 359]
    assert found["time"]["proxy_seconds"] > 0


def test_check_says_what_would_fit_and_it_does(tiny: Path) -> None:
    """Each advice, followed as it is written, ends in exit code 0."""
    impossible = ["check", "tiny.yaml", "--threads", "1", "--set", "limits.macs=900"]
    code, said = run(impossible, tiny.parent)
    assert code == 3
    pattern = r"^ *(raise|or in the prototype, let) (\S+) (?:to|fall to) (\S+?):? "
    advice = re.findall(pattern, said, re.MULTILINE)
    assert [(who, key) for who, key, _ in advice] == [
        ("raise", "limits.macs"),
        ("or in the prototype, let", "stages[0].channels"),
    ], said
    (_, key, value), (_, _, channels) = advice
    code, said = run([*impossible, "--set", f"{key}={value}"], tiny.parent)
    assert (code, "Ready to search." in said) == (0, True)
    code, said = run(
        [*impossible, "--set", f"prototype.stages.0.channels=[8, {channels}]"], tiny.parent
    )
    assert (code, "Ready to search." in said) == (0, True)


def test_check_without_limits(tiny: Path) -> None:
    code, said = run(["check", "tiny.yaml", "--threads", "1", "--set", "limits="], tiny.parent)
    assert code == 0
    assert "100.0 % of 2,000" in said


# -- a run, told ------------------------------------------------------------------------------


def percent(share: float) -> str:
    """Rounded down, so that a goal is never met in print alone."""
    return f"{math.floor(1000 * share) / 10:.1f} %"


def test_a_finished_search_says_what_came_out(finished: Path) -> None:
    said = (finished / "said.txt").read_text().replace("\N{NO-BREAK SPACE}", " ")
    record = candidates(finished / "run")
    assert f"{len(record)} networks trained, 0 failed" in said
    for name, certificate in certificates(finished / "run").items():
        row = next(line for line in said.splitlines() if line.startswith(name))
        assert f"{percent(certificate['test_accuracy'])}" in row
    assert f"report: {finished / 'run' / 'report.html'}" in said


def test_fewer_trials_than_there_are(finished_copy: Path) -> None:
    code, said = run(search_words(finished_copy, "--set", "search.trials=2"), finished_copy)
    assert code == 0, said
    assert f"{TRIALS} trials are done already, 2 were asked: none is added" in said
    assert len(candidates(finished_copy / "run")) == TRIALS


def test_goals_that_are_not_met(finished_copy: Path) -> None:
    words = search_words(finished_copy, "--set", "goals.accuracy=0.999", "--accept-changes")
    code, said = run(words, finished_copy)
    assert code == 4
    best = max(certificates(finished_copy / "run").values(), key=lambda each: each["test_accuracy"])
    assert "goals.accuracy 99.9 % is not met" in said
    assert f"the nearest is {best['name']} with {percent(best['test_accuracy'])}" in said


def test_stopped_candidates_are_counted(finished_copy: Path) -> None:
    """In a record as it was before predictions, with one of its proxies stopped after a pass."""
    run_dir = finished_copy / "run"
    with edited(run_dir) as connection:
        query = "SELECT trial_user_attribute_id, value_json FROM trial_user_attributes"
        for row, text in connection.execute(query).fetchall():
            data = json.loads(text)
            del data["predicted"]
            if data["index"] == 3:
                data |= {"outcome": "stopped", "accuracy": None, "reason": "behind the others"}
                data["curve"] = data["curve"][:1]
            connection.execute(
                "UPDATE trial_user_attributes SET value_json = ? WHERE trial_user_attribute_id = ?",
                (json.dumps(data), row),
            )
    code, said = run(["status", "run"], finished_copy)
    assert code == 0
    assert f"{TRIALS} trials ({TRIALS - 1} trained, 1 stopped early, 0 failed)" in said
    # Two passes of three, of all proxies.
    assert f"saved {math.floor(1000 * 2 / (3 * TRIALS)) / 10} % of the proxies' epochs" in said
    code, said = run(["status", "run", "--json"], finished_copy)
    answer = json.loads(said)
    assert (answer["trained"], answer["stopped"], answer["failed"]) == (TRIALS - 1, 1, 0)
    assert answer["proxy_epochs_saved"] == pytest.approx(2 / (3 * TRIALS))
    assert run(["report", "run"], finished_copy)[0] == 0
    page = (run_dir / "report.html").read_text()
    assert f"Of {TRIALS} trials: 1 stopped early." in page
    assert "behind the others" in page


def test_status_of_a_finished_run(finished: Path) -> None:
    code, said = run(["status", "run"], finished)
    assert code == 0
    assert said.startswith("tiny: finished\n")
    assert f"{TRIALS} of {TRIALS} trials ({TRIALS} trained, 0 failed)" in said
    found = json.loads(call("status", "run", "--json", cwd=finished).stdout)
    accuracies = [each.accuracy or 0 for each in candidates(finished / "run").values()]
    assert found["best_proxy_accuracy"] == max(accuracies)
    assert found["family"] == sorted(certificates(finished / "run"))
    assert (found["state"], found["running"]) == ("finished", False)


def test_status_of_a_running_and_of_an_interrupted_one(tiny: Path) -> None:
    run_dir = tiny.parent / "run"
    process = begin(search_words(tiny.parent, "--set", "search.trials=60"), tiny.parent)
    finished = "SELECT * FROM trials WHERE state = 'COMPLETE'"
    assert wait_until(lambda: len(rows(run_dir, finished)) >= 2, process)
    found = json.loads(call("status", "run", "--json", cwd=tiny.parent).stdout)
    assert (found["state"], found["running"]) == ("searching", True)
    assert 2 <= found["trained"] < found["trials"] == 60
    # A report of what there is so far, while the search goes on.
    assert call("report", "run", cwd=tiny.parent).returncode == 0
    assert (run_dir / "report.html").is_file()
    assert process.exitcode is None
    process.kill()
    assert finish(process) < 0
    found = json.loads(call("status", "run", "--json", cwd=tiny.parent).stdout)
    assert not found["running"]
    assert found["state"].startswith("interrupted; the same search command continues it")


def test_show(finished: Path) -> None:
    for each in candidates(finished / "run").values():
        code, said = run(["show", "run", str(each.number)], finished)
        assert code == 0
        assert f"architecture: {each.architecture.id}" in said
        assert f"proposed by: {each.proposed_by}" in said
        assert "stem, 4 px" in said or "stem, 8 px" in said
    found = json.loads(call("show", "run", "0", "--json", cwd=finished).stdout)
    assert (found["number"], found["proposed_by"]) == (0, "prototype")


def test_report_is_rebuilt(finished_copy: Path) -> None:
    run_dir = finished_copy / "run"
    before = snapshot(run_dir)
    for name in ("report.html", "front.csv"):
        (run_dir / name).unlink()
    code, said = run(["report", "run"], finished_copy)
    assert (code, said) == (0, "run/report.html\n")
    after = snapshot(run_dir)
    assert after.keys() == before.keys()
    assert after["front.csv"][1] == before["front.csv"][1]
    table = (run_dir / "front.csv").read_text().splitlines()
    assert len(table) > 1 and table[0].startswith("candidate,architecture")


def test_schema_is_the_shipped_one(tmp_path: Path) -> None:
    code, said = run(["schema"], tmp_path)
    assert code == 0
    assert json.loads(said) == json.loads((SHIPPED / "schema.json").read_text())
    _, prototype = run(["schema", "--prototype"], tmp_path)
    assert "stem" in json.loads(prototype)["properties"]


# -- from a folder of pictures to a network ---------------------------------------------------


def test_from_a_folder_of_pictures(tmp_path: Path) -> None:
    """As the tutorial says it, in an empty directory."""
    draw_pictures(tmp_path / "shapes", 40, strays=True)
    code, said = run(["init", "--data", "shapes"], tmp_path)
    assert code == 0, said
    assert "120 colour pictures of 3 classes" in said
    proposed = re.findall(r"^  collabdesign (\w+) (\S+)$", said, re.M)
    assert [name for name, _ in proposed] == ["check", "search"]
    file = proposed[0][1]
    code, said = run(["check", file, "--threads", "1"], tmp_path)
    assert code == 0, said
    assert "120 pictures" in said
    for stray in ("README.md", ".DS_Store", "Thumbs.db"):
        assert stray in said
    quick = (
        "search.trials=3",
        "search.proxy.epochs=2",
        "search.proxy.min_steps=20",
        "family.size=2",
        "family.training.epochs=10",
        "family.training.min_steps=0",
        "goals=",
    )
    words = [word for change in quick for word in ("--set", change)]
    code, said = run(["search", file, *words, "--threads", "1", "--device", "cpu"], tmp_path)
    assert code == 0, said
    longer = re.search(r"search\.proxy\.epochs: (\d+) instead of 2, so that (\d+) images", said)
    assert longer and int(longer[1]) == math.ceil(20 / (int(longer[2]) // 16))  # smallest batches
    assert "family.training.epochs:" not in said
    run_dir = tmp_path / "runs" / "shapes"
    assert (run_dir / "report.html").is_file()
    found = certificates(run_dir)
    assert found and max(each["test_accuracy"] for each in found.values()) > 0.6  # of 3 classes
    # The network in one's own hands, on one's own picture.
    member = run_dir / "family" / "attonet-a"
    picture = tmp_path / "shapes" / "stripes" / "000.png"
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, member / "model.py", picture],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert set(SHAPES) <= set(done.stdout.split())


def test_a_run_has_its_place(tiny: Path) -> None:
    """``runs/NAME`` in the directory where one stands."""
    changes = ("search.trials=1", "family.size=1", "family.training.epochs=1", "name=mine")
    words = [word for change in changes for word in ("--set", change)]
    code, said = run(["search", "tiny.yaml", *words, "--threads", "1"], tiny.parent)
    assert code in (0, 4), said
    assert (tiny.parent / "runs" / "mine" / "study.db").is_file()
    assert "report: runs/mine/report.html" in said


# -- pipes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["schema"], ["--help"], ["status", "run"], ["show", "run", "0"]])
def test_a_reader_that_has_seen_enough(finished: Path, words: list[str]) -> None:
    """As in ``collabdesign schema | head``: silence, and the exit code of a closed pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            command(*words), cwd=finished, stdout=writing, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_more_than_a_reader_wants(tmp_path: Path) -> None:
    """``collabdesign schema | head -1``, of a schema that no pipe holds."""
    code = (
        "import sys\n"
        "from collabdesign.cli import schema as file\n"
        "from collabdesign.cli.main import main\n"
        "def schema(prototype):\n"
        "    for line in range(100_000): file.say_line(str(line))\n"
        "file.schema = schema\n"
        "sys.argv = ['collabdesign', 'schema']\n"
        "main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert (process.wait(30), process.stderr.read()) == (141, b"")


@pytest.mark.parametrize("code", [0, 1, 7])
def test_an_exit_of_ours_is_no_closed_pipe(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def ends(run_dir: Path) -> int:
        sys.exit(code)

    monkeypatch.setattr(report, "report", ends)
    monkeypatch.setattr(sys, "argv", ["collabdesign", "report", "run"])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code


def test_plain_text_where_it_is_no_terminal(finished: Path) -> None:
    done = call("status", "run", cwd=finished)
    assert "\x1b" not in done.stdout + done.stderr
