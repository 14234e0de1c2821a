"""What terminals and pipes make of a command: encodings, widths, colours, readers that leave."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from rich.markup import escape
from terminal import at_terminal
from tiny_search import candidates, certificates, command, search_words, write_tiny

from collabdesign.cli import streams
from collabdesign.cli.live import Foot
from collabdesign.cli.sheet import Sheet
from collabdesign.files import write_json

ENCODINGS = ("ascii", "latin-1", "cp1252")
NAMES = ("café", "日本語", "a → b", "plain")
MEMBER = "run/family/attonet-a"

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def said(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command(*words), cwd=cwd, env={**os.environ, **environment}, capture_output=True
    )


# -- encodings --------------------------------------------------------------------------------


@given(st.text(st.characters(), max_size=30), st.sampled_from([*ENCODINGS, "utf-8"]))
def test_a_stream_takes_any_text_and_changes_only_what_it_must(text: str, encoding: str) -> None:
    streams.prepare(lasting=False)

    def through(text: str) -> str:
        raw = io.BytesIO()
        with io.TextIOWrapper(raw, encoding, errors="collabdesign", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            return raw.getvalue().decode(encoding)

    assert through(text) == "".join(map(through, text))
    for one in text:
        found = through(one)
        if one.encode(encoding, "ignore"):
            assert found == one
        else:
            assert found.isascii() and found
            # By its code point, where it is nothing that we write ourselves.
            assert "\\" not in found or found.encode().decode("unicode_escape") == one


def test_what_we_write_ourselves_is_typed() -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, "ascii", errors="collabdesign") as stream:
        stream.write("90 ± 1 → 80\N{NO-BREAK SPACE}% · 3\u00d73 \u2013 …, caf\u00e9 \u65e5")
        stream.flush()
        assert raw.getvalue() == rb"90 +- 1 -> 80 % - 3x3 - ..., caf\xe9 \u65e5"


@given(st.dictionaries(st.text(st.characters(), max_size=9), st.text(st.characters())))
def test_files_take_names_that_are_no_text(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, str]
) -> None:
    """As of a folder that was named in another encoding: half of a pair, alone."""
    path = tmp_path_factory.mktemp("json") / "data.json"
    write_json(path, data)
    assert json.loads(path.read_text("utf-8")) == data


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dozen a class, of which one folder's name is no text."""
    root = tmp_path_factory.mktemp("names") / "pictures"
    rng = np.random.default_rng(0)
    for number, name in enumerate([*map(os.fsencode, NAMES), b"caf\xe9 2"]):
        folder = Path(os.fsdecode(os.fsencode(root) + b"/" + name))
        folder.mkdir(parents=True)
        for index in range(24):
            pixels = rng.integers(40 * number, 40 * number + 60, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


def test_a_search_and_its_network_on_a_stream_of_ascii(pictures: Path, tmp_path: Path) -> None:
    """From pictures to a network, each command to its end, by names that the stream lacks."""
    environment = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "TERM": "dumb"}
    quick = (
        *("search.trials=2", "search.proxy.epochs=1", "search.proxy.min_steps=0", "goals="),
        *("family.size=1", "family.training.epochs=1", "family.training.min_steps=0"),
        "family.export=[]",
    )
    change = [word for each in quick for word in ("--set", each)]
    picture = pictures / "日本語" / "0.png"
    member = "runs/pictures/family/attonet-a"
    for words in (
        ["init", "--data", str(pictures)],
        ["search", "requirements.yaml", "--workers", "1", "--device", "cpu", *change],
        ["predict", member, str(picture)],
        ["show", "runs/pictures", "0"],
        ["status", "runs/pictures"],
        ["report", "runs/pictures"],
    ):
        done = said(*words, cwd=tmp_path, **environment)
        assert done.returncode == 0, done.stderr
        assert (done.stdout + done.stderr).isascii()
    found = json.loads((tmp_path / member / "certificate.json").read_text("utf-8"))
    assert set(found["class_names"]) == {*NAMES, "caf\udce9 2"}
    answer = said("predict", member, str(picture), "--json", cwd=tmp_path, **environment)
    (seen,) = json.loads(answer.stdout)
    assert {name for name, _ in seen["classes"]} == {*NAMES, "caf\udce9 2"}
    assert seen["picture"] == str(picture)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_error_names_what_came(tmp_path: Path, encoding: str) -> None:
    done = said("status", "日本語", cwd=tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 2
    assert rb"\u65e5\u672c\u8a9e" in done.stderr
    done = said("日本語", cwd=tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 2
    assert rb"\u65e5\u672c\u8a9e" in done.stderr


def test_file_names_that_the_system_cannot_write(tmp_path: Path) -> None:
    """Where a person turned Python's UTF-8 off."""
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nprototype: p.yaml\ndata: {source: folder, train: café, resolution: 32}\n",
        encoding="utf-8",
    )
    off = {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    done = said("check", "mine.yaml", cwd=tmp_path, **off)
    assert done.returncode == 2
    assert b"set PYTHONUTF8=1" in done.stderr and b"Traceback" not in done.stderr


# -- readers that leave -----------------------------------------------------------------------


def with_nobody_reading(words: Sequence[str], cwd: Path, *, both: bool) -> tuple[int, str]:
    """Exit code, and what standard error got where that is still read."""
    reading, writing = os.pipe()
    os.close(reading)
    errors = writing if both else subprocess.PIPE
    try:
        done = subprocess.run(command(*words), cwd=cwd, stdout=writing, stderr=errors, text=True)
    finally:
        os.close(writing)
    return done.returncode, done.stderr or ""


@pytest.mark.parametrize(
    ("words", "both"),
    [
        (["status", "run", "--json"], True),
        (["report", "run"], False),
        (["report", "run"], True),
        (["verify", MEMBER, "--without-data"], False),
        (["check", "tiny.yaml", "--threads", "1"], True),
    ],
)
def test_every_other_command_ends_quietly(
    finished_copy: Path, words: list[str], both: bool
) -> None:
    code, errors = with_nobody_reading(words, finished_copy, both=both)
    assert code == 141
    assert "Traceback" not in errors and "Exception ignored" not in errors
    if words[0] == "report":
        assert (finished_copy / "run" / "report.html").is_file()


def test_a_search_that_nobody_reads_any_more_is_finished(tmp_path: Path) -> None:
    """It would be lost for want of somebody to tell of it; the run folder has all that it says."""
    write_tiny(tmp_path)
    words = search_words(tmp_path, "--set", "search.trials=3", "--set", "goals=")
    assert with_nobody_reading(words, tmp_path, both=True) == (0, "")
    assert len(candidates(tmp_path / "run")) == 3
    assert certificates(tmp_path / "run")
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_full_disk_is_told(finished: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command("schema"), cwd=finished, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr.startswith("collabdesign: the system refused: ")
    assert "Exception ignored" not in done.stderr


# -- widths -----------------------------------------------------------------------------------

WORDS = st.text("abc 1,.%äß日", min_size=1, max_size=24).map(lambda text: " ".join(text.split()))
CELLS = WORDS.filter(bool)


def drawn(what: Any, columns: int) -> list[str]:
    file = io.StringIO()
    file.isatty = lambda: True  # type: ignore[method-assign]
    console = Console(file=file, width=columns, force_terminal=True, color_system=None)
    console.print(what, soft_wrap=True)
    return [line.rstrip() for line in file.getvalue().splitlines()]


@given(st.data(), st.integers(20, 140), st.integers(2, 7), st.integers(1, 5))
def test_a_table_is_whole_at_any_width(
    data: st.DataObject, width: int, across: int, n: int
) -> None:
    titles = data.draw(st.lists(CELLS, min_size=across, max_size=across))
    rows = data.draw(
        st.lists(st.lists(CELLS, min_size=across, max_size=across), min_size=n, max_size=n)
    )
    sheet = Sheet(*titles)
    for row in rows:
        sheet.add_row(*map(escape, row))
    lines = drawn(sheet, width)
    text = "\n".join(lines)
    assert all(cell in text for row in rows for cell in row)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    is_list = lines[0] == f"{titles[0]} {rows[0][0]}"
    if not is_list:
        assert all(Console().render_str(line).cell_len <= width + 2 for line in lines)


def test_a_table_a_folded_one_and_a_list() -> None:
    sheet = Sheet("network", "points (95 % interval)", "seeds")
    sheet.add_row("ResNet-8", "-1.4", "1")
    assert drawn(sheet, 60) == [
        "network   points (95 % interval)  seeds",
        "ResNet-8                    -1.4      1",
    ]
    assert [line.split() for line in drawn(sheet, 30)][-2:] == [
        ["network", "interval)", "seeds"],
        ["ResNet-8", "-1.4", "1"],
    ]
    assert drawn(sheet, 20) == [
        "network ResNet-8",
        "  points (95 % interval): -1.4",
        "  seeds: 1",
    ]


@given(st.lists(CELLS, min_size=1, max_size=9), st.integers(12, 120), st.integers(0, 9))
def test_what_goes_on_is_whole_at_any_width(parts: list[str], width: int, done: int) -> None:
    text = " · ".join(parts)
    lines = drawn(Foot({"search": (done, 9, text)}), width)
    whole = "".join(lines).replace(" ", "")
    assert "search" in lines[0]
    assert text.replace(" ", "") in whole.replace("━", "").replace("╸", "").replace("╺", "")
    assert all(Console().render_str(line).cell_len <= width for line in lines)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["status", "run"], ["tiny: finished", "best proxy_accuracy"]),
        (["show", "run", "0"], ["proposed by: prototype"]),
        (["check", "tiny.yaml", "--threads", "1"], ["proposals that fit", "  peak activation: "]),
        (["verify", MEMBER, "--without-data"], ["same         check value"]),
        (["nonsense"], ["No such command"]),
    ],
    ids=lambda value: value[0],
)
def test_at_forty_columns(finished: Path, words: list[str], told: list[str]) -> None:
    seen = at_terminal(*words, cwd=finished, columns=40, NO_COLOR="1")
    text = _CONTROL.sub("", seen.text)
    assert all(each in text for each in told), text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert not re.search(r"\w\.\.\.$", text, re.MULTILINE)


# -- colours ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "colours"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": ""}, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True),
    ],
)
def test_colours_where_they_are_wanted(
    finished: Path, environment: dict[str, str], colours: bool
) -> None:
    seen = at_terminal("status", "run", cwd=finished, **environment)
    assert (seen.code, bool(_COLOUR.search(seen.text))) == (0, colours)


def test_a_terminal_that_moves_no_cursor_is_told_line_by_line(finished: Path) -> None:
    seen = at_terminal("check", "tiny.yaml", "--threads", "1", cwd=finished, TERM="dumb")
    assert seen.code == 0
    assert "\x1b" not in seen.text
    assert "opening pictures: 859 of 859\n" in seen.text


def test_forced_colours_in_a_pipe_are_colours_alone(finished: Path) -> None:
    done = said("verify", MEMBER, "--without-data", cwd=finished, FORCE_COLOR="1", TERM="xterm")
    text = (done.stdout + done.stderr).decode()
    assert _COLOUR.search(text)
    assert not _CONTROL.search(_COLOUR.sub("", text))
