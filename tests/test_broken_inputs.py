"""What a person gets wrong, through the command line: told at once, and nothing is written.

Each case ends with exit code 2 (or 3, where nothing fits) within seconds, names the file, line
and column where there is one, says what to do, shows no traceback, and leaves every file as it
was.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
import torch
from pictures import draw_pictures
from requirements_files import (
    PROTOTYPE,
    REQUIREMENTS,
    WRONG,
    WRONG_PROTOTYPES,
    Wrong,
    write_example,
)
from tiny_search import call, edited, search_words, snapshot, write_tiny

from collabdesign.cli.main import main

SECONDS = 20  # within seconds, also where the machine has other things to do
COMMANDS = ("check", "search")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Requirements, a prototype and three classes of pictures."""
    write_example(tmp_path)
    draw_pictures(tmp_path / "shapes", 6)
    text = REQUIREMENTS.replace("images/train, test: images/test", "shapes, test: 0.2")
    (tmp_path / "shapes.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """The entry point sets these for its own process."""
    threads, interrupt = torch.get_num_threads(), signal.getsignal(signal.SIGINT)
    yield
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, interrupt)


Refused = Callable[..., str]


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Refused:
    """Run a command that must be refused; what it says."""

    def run(*words: str | Path, code: int = 2) -> str:
        before = snapshot(tmp_path)
        monkeypatch.setattr(sys, "argv", ["collabdesign", *map(str, words)])
        started = time.monotonic()
        with pytest.raises(SystemExit) as ended:
            main()
        assert time.monotonic() - started < SECONDS
        said = capfd.readouterr()
        assert ended.value.code == code, said
        assert snapshot(tmp_path) == before
        words_said = said.out + said.err
        assert "Traceback" not in words_said
        # Nothing of how it is made: neither pydantic's words nor Python's.
        assert not re.search(r"Input should|pydantic|object at 0x|<class|Error\(", words_said)
        return words_said

    return run


# -- what stands in the files -----------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong.old[:12]}->{wrong.new[-30:]}")
def test_wrong_requirements(folder: Path, refused: Refused, wrong: Wrong, command: str) -> None:
    text = REQUIREMENTS.replace(wrong.old, wrong.new, 1)
    (folder / "wrong.yaml").write_text(text.replace("^", ""))
    said = refused(command, "wrong.yaml")
    assert wrong.message in said and wrong.hint in said
    assert_place(said, "wrong.yaml", text)


@pytest.mark.parametrize("wrong", WRONG_PROTOTYPES, ids=lambda wrong: wrong.new[-30:])
def test_wrong_prototypes(folder: Path, refused: Refused, wrong: Wrong) -> None:
    text = PROTOTYPE.replace(wrong.old, wrong.new, 1)
    (folder / "proto.yaml").write_text(text.replace("^", ""))
    said = refused("check", "mine.yaml")
    assert wrong.message in said and wrong.hint in said
    assert_place(said, "proto.yaml", text)


def assert_place(said: str, file: str, marked: str) -> None:
    """The problem stands at the ``^``."""
    if "^" in marked:
        before = marked[: marked.index("^")]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        assert f"{file}:{line}:{column}: " in said


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)

# What stands in the file instead of requirements or a prototype -> what is said of it.
NO_YAML: dict[str, tuple[str | bytes, str]] = {
    "a bomb": (BOMB, ":5:8: the file must hold at most 10,000 values"),
    "a tag that runs code": ("a: !!python/object/apply:os.system ['touch pwned']\n", "the tag"),
    "a tag that makes an object": ("a: !!python/name:os.system\n", "the tag"),
    "no YAML": ("name: [mine\nprototype: x\n", ":2:"),
    "a tab": ("name: mine\ndata:\n\tsource: digits\n", ":3:1"),
    "a key twice": ("name: mine\nname: yours\n", ":2:1"),
    "a list": ("- name: mine\n", ":1:1"),
    "a word": ("mine\n", ":1:1"),
    "nothing": ("", "empty"),
    "two documents": ("name: mine\n---\nname: yours\n", ":2:"),
    "not text": (b"\x80\x02}q\x00X\x01\x00\x00\x00a", "UTF-8"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "UTF-8"),
    "zeros": (b"\0" * 100, ""),
    "endless depth": ("a: " + "[" * 5000 + "]" * 5000, ""),
    "too much": ("# \n" * 400_000, ""),
}


@pytest.mark.parametrize("what", NO_YAML)
@pytest.mark.parametrize("file", ["mine.yaml", "proto.yaml"])
def test_files_that_are_no_plain_yaml(folder: Path, refused: Refused, what: str, file: str) -> None:
    content, says = NO_YAML[what]
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    said = refused("check", "mine.yaml")
    assert file in said and says in said
    assert not (folder / "pwned").exists()


def test_no_file(folder: Path, refused: Refused) -> None:
    said = refused("search", "mine.yml")
    assert "mine.yml" in said and "mine.yaml" in said  # what there is instead
    assert "folder" in refused("check", folder)
    assert "Missing argument 'FILE'" in refused("check")
    os.symlink("loop.yaml", folder / "loop.yaml")
    assert "loop.yaml" in refused("check", "loop.yaml")


def test_an_endless_file(folder: Path, refused: Refused) -> None:
    assert "/dev/zero" in refused("check", "/dev/zero")


def test_a_prototype_that_reaches_no_resolution(folder: Path, refused: Refused) -> None:
    stage = "  - {modules: 1, stride: 2, channels: 16, module: plain}\n"
    (folder / "proto.yaml").write_text(PROTOTYPE.replace(stage, stage * 3))
    said = refused("check", "mine.yaml", "--set", "data.resolution=4")
    assert "to 0x0" in said and "proto.yaml:5:" in said


def test_groups_that_cannot_divide(folder: Path, refused: Refused) -> None:
    """They fall to the largest divisor where a range makes them not fit; 7 of fixed 16 cannot."""
    (folder / "proto.yaml").write_text(PROTOTYPE.replace("conv3}", "conv3/g7}"))
    assert "proto.yaml:5:29: modules.plain.layers: the groups" in refused("check", "mine.yaml")


OVERRIDES = {
    "search.trials=0": "search.trials must be a whole number from 1",
    "search.trials=many": "search.trials must be a whole number from 1",
    "serach.trials=8": "has no key 'serach'",
    "trials": "--set must have key=value",
    "limits.macs=-1": "positive number of multiply-adds",
    "limits.macs=[": "must be YAML",
    "limits.flops=1M": "1 MAC is 2 FLOPs",
    "name=../../etc": "name must begin with a letter or digit",
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_wrong_overrides(folder: Path, refused: Refused, override: str) -> None:
    said = refused("search", "mine.yaml", "--set", override)
    assert f"--set {override}" in said and OVERRIDES[override] in said


def test_everything_wrong_is_told_at_once(folder: Path, refused: Refused) -> None:
    text = REQUIREMENTS.replace("10M", "0").replace("images/train", "gone").replace("0.8", "80%")
    (folder / "mine.yaml").write_text(text)
    said = refused("search", "mine.yaml", "--set", "search.seed=-1")
    for place in ("mine.yaml:3:31", "mine.yaml:4:16", "mine.yaml:5:19", "--set search.seed=-1"):
        assert place in said


# -- the pictures -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Spoilt:
    """A folder of pictures with something wrong.

    Attributes:
        spoil: Does it, in the folder of the classes.
        says: What the answer has in it.
    """

    spoil: Callable[[Path], object]
    says: tuple[str, ...]


def _remove_pictures(folder: Path, keep: int = 0) -> None:
    for path in sorted(folder.iterdir())[keep:]:
        path.unlink()


def _keep_classes(shapes: Path, keep: int) -> None:
    for path in sorted(shapes.iterdir())[keep:]:
        _remove_pictures(path)
        path.rmdir()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


SPOILT = {
    "an empty class": Spoilt(
        lambda shapes: _remove_pictures(shapes / "disc"),
        ("a class folder needs at least one image", "disc", "put pictures into it or remove it"),
    ),
    "text named .jpg": Spoilt(
        lambda shapes: (shapes / "disc" / "a.jpg").write_text("I am text"),
        ("disc/a.jpg", "not a picture"),
    ),
    "an empty picture": Spoilt(
        lambda shapes: (shapes / "disc" / "a.jpg").touch(), ("disc/a.jpg", "the file is empty")
    ),
    "a cut picture": Spoilt(lambda shapes: _cut(shapes / "disc" / "000.png"), ("disc/000.png",)),
    "one class": Spoilt(
        lambda shapes: _keep_classes(shapes, 1), ("at least two class folders", "only disc")
    ),
    "no class": Spoilt(
        lambda shapes: _keep_classes(shapes, 0), ("at least two class folders", "none")
    ),
    "one picture a class": Spoilt(
        lambda shapes: _remove_pictures(shapes / "disc", keep=1),
        ("at least two images of each class", "disc (1)"),
    ),
    "classes a level too deep": Spoilt(
        lambda shapes: (
            _remove_pictures(shapes / "disc"),
            draw_pictures(shapes / "disc" / "inner", 1),
        ),
        ("disc", "it holds folders (inner)"),
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("what", SPOILT)
def test_spoilt_pictures(folder: Path, refused: Refused, what: str, command: str) -> None:
    SPOILT[what].spoil(folder / "shapes")
    run_dir = () if command == "check" else ("--run-dir", folder / "run")
    said = refused(command, "shapes.yaml", *run_dir)
    for words in SPOILT[what].says:
        assert words in said


def test_data_that_does_not_go_round(folder: Path, refused: Refused) -> None:
    for command in COMMANDS:
        said = refused(command, "shapes.yaml", "--set", "data.train_images=1000")
        assert "data.train_images must be at most the 14 images" in said  # 18 less a fifth
        said = refused(command, "shapes.yaml", "--set", "data.select=0.1")
        assert "data.select must draw between 3 and" in said
        said = refused(command, "shapes.yaml", "--set", "data.test=shapes/disc")
        assert "data.test must have at least two class folders" in said


def test_a_named_set_that_is_not_there(folder: Path, refused: Refused) -> None:
    named = "data: {source: torchvision, dataset: CIFAR10}"
    text = re.sub("data: .*", named, REQUIREMENTS)
    (folder / "named.yaml").write_text(text)
    for command in COMMANDS:
        said = refused(command, "named.yaml")
        assert str(folder / "data") in said and "download: true" in said


# -- budgets that nothing keeps ---------------------------------------------------------------


def test_nothing_fits(folder: Path, refused: Refused) -> None:
    said = refused("search", "shapes.yaml", "--set", "limits.macs=1000", code=3)
    assert "some network of the space must fit the limits" in said
    assert "limits.macs" in said


# -- the run folder ---------------------------------------------------------------------------


@pytest.fixture
def digits(folder: Path) -> Path:
    write_tiny(folder)
    return folder


def _optuna_study(run_dir: Path) -> None:
    """Somebody else's."""
    optuna.create_study(storage=f"sqlite:///{run_dir / 'study.db'}", study_name="theirs")


FOREIGN: dict[str, Callable[[Path], object]] = {
    "garbage": lambda run: (run / "study.db").write_bytes(bytes(range(256)) * 40),
    "text": lambda run: (run / "study.db").write_text("candidate,accuracy\n"),
    "empty": lambda run: (run / "study.db").touch(),
    "half a database": lambda run: (
        _optuna_study(run),
        os.truncate(run / "study.db", 10_000),
    ),
    "another program's study": _optuna_study,
    "a folder": lambda run: (run / "study.db").mkdir(),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_study_that_is_none(digits: Path, refused: Refused, what: str) -> None:
    run_dir = digits / "run"
    run_dir.mkdir()
    FOREIGN[what](run_dir)
    for words in (search_words(digits), ["status", run_dir], ["report", run_dir]):
        said = refused(*words)
        assert "study.db" in said
        assert "--run-dir" in said or "must be readable" in said
    assert "study.db" in refused("show", run_dir, "0")


def test_run_folders_that_cannot_be_written(digits: Path, refused: Refused) -> None:
    (digits / "a-file").touch()
    for place, says in {
        digits / "a-file": "must be a folder",
        digits / "a-file" / "run": "must lie in a folder",
        digits / "a-file" / "run" / "deeper": "must lie in a folder",
        Path("/proc/run"): "must be writable",
        Path("/dev/null"): "must be a folder",
    }.items():
        said = refused("search", "tiny.yaml", "--run-dir", place)
        assert f"the run folder {says}" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="the system refuses root nothing")
def test_a_run_folder_without_permission(digits: Path, refused: Refused) -> None:
    (digits / "run").mkdir(mode=0o500)
    assert "the run folder must be writable" in refused(*search_words(digits))


def test_a_run_of_another_search(finished_copy: Path, refused: Refused) -> None:
    said = refused(*search_words(finished_copy, "--set", "limits.macs=40k"))
    assert "limits.macs: 30k -> 40k" in said and "--accept-changes" in said
    said = refused(*search_words(finished_copy, "--set", "prototype.stem.kernel=5"))
    assert "prototype.stem.kernel: 3 -> 5" in said
    said = refused(*search_words(finished_copy, "--set", "data.train_images=400"))
    assert "data.train_images: 500 -> 400" in said
    changed = ("--set", "objectives=[accuracy, params]", "--accept-changes")
    assert "a run keeps its objectives accuracy, macs, params" in refused(
        *search_words(finished_copy, *changed)
    )


STUDY_EDITS = {
    "a newer version": (
        "UPDATE study_user_attributes SET value_json = '2' WHERE key = 'version'",
        "another version of collabdesign",
    ),
    "requirements of another version": (
        "UPDATE study_user_attributes SET value_json = '{\"name\": 3}' WHERE key = 'requirements'",
        "must hold requirements of this version of collabdesign",
    ),
    "a candidate that is none": (
        "UPDATE trial_user_attributes SET value_json = '{\"name\": 3}'",
        "must be the study of a collabdesign search",
    ),
    "a candidate cut off": (
        "UPDATE trial_user_attributes SET value_json = '{\"name\": '",
        "must be the study of a collabdesign search",
    ),
}


@pytest.mark.parametrize("what", STUDY_EDITS)
def test_a_study_that_was_tampered_with(finished_copy: Path, refused: Refused, what: str) -> None:
    query, says = STUDY_EDITS[what]
    run_dir = finished_copy / "run"
    with edited(run_dir) as study:
        study.execute(query)
    for words in (search_words(finished_copy), ["status", run_dir], ["report", run_dir]):
        assert says in refused(*words)


def test_no_message_tells_the_password_of_a_database(finished_copy: Path, refused: Refused) -> None:
    address = "postgresql://me:secret@127.0.0.1:9/team"
    said = refused(*search_words(finished_copy, "--set", f"storage={address}"))
    assert "a run keeps its storage None, got postgresql://me:***@127.0.0.1:9/team" in said


@pytest.mark.parametrize(
    "file",
    [
        "references.json",
        "compare.json",
        "environment.json",
        "family/attonet-a/architecture.json",
        "family/attonet-a/certificate.json",
    ],
)
def test_a_run_with_broken_files(finished_copy: Path, refused: Refused, file: str) -> None:
    (finished_copy / "run" / file).write_text("{")
    assert file in refused("report", finished_copy / "run")


def test_a_report_that_cannot_be_written(finished_copy: Path, refused: Refused) -> None:
    (finished_copy / "run" / "front.csv").unlink()
    (finished_copy / "run" / "front.csv").mkdir()
    assert "the system refused: " in refused("report", finished_copy / "run")


# -- the words of the command -----------------------------------------------------------------


def test_words_that_are_none(digits: Path, refused: Refused) -> None:
    assert "check" in refused("chek", "tiny.yaml")
    assert "No such option" in refused("search", "tiny.yaml", "--worker", "2")
    assert "0 is not in the range" in refused("check", "tiny.yaml", "--threads", "0")
    assert "the device must be cpu or cuda, got 'tpu'" in refused(
        "search", "tiny.yaml", "--device", "tpu"
    )
    assert "got 'cuda:99'" in refused("check", "tiny.yaml", "--device", "cuda:99")


def test_runs_that_are_none(finished: Path, folder: Path, refused: Refused) -> None:
    for words in (["status", "gone"], ["report", folder], ["show", folder / "mine.yaml", "0"]):
        assert "a run folder holds a study.db" in refused(*words)
    assert "12, 13, got 14" in refused("show", finished / "run", "14")
    assert "'best' is not a valid integer" in refused("show", finished / "run", "best")


def test_init_on_what_is_no_data(folder: Path, refused: Refused) -> None:
    assert "must exist, got gone" in refused("init", "--data", "gone")
    assert "must be a folder" in refused("init", "--data", "mine.yaml")
    assert "two class folders" in refused("init", "--data", "shapes/disc")
    (folder / "requirements.yaml").write_text("mine")
    said = refused("init", "--data", "shapes")
    assert "requirements.yaml" in said and "--force" in said


# -- as a person meets it ---------------------------------------------------------------------


def test_in_a_new_process(folder: Path) -> None:
    (folder / "shapes" / "disc" / "a.jpg").write_text("I am text")
    (folder / "bomb.yaml").write_text(BOMB)
    before = snapshot(folder)
    for words, says in {
        ("search", "shapes.yaml"): "disc/a.jpg",
        ("check", "bomb.yaml"): "bomb.yaml:",
        ("status", "gone"): "study.db",
    }.items():
        done = call(*words, cwd=folder, timeout=60)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
        assert says in done.stderr
    assert snapshot(folder) == before


def test_json_answers_stay_json(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "shapes" / "disc" / "a.jpg").write_text("I am text")
    sys.argv = ["collabdesign", "check", "shapes.yaml", "--json"]
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    data = json.loads(capfd.readouterr().out)["data"]
    assert [Path(path).name for path, _ in data[0]["unreadable"]] == ["a.jpg"]
