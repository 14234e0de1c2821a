"""YAML text: what is read and where it stands, and what is refused, on both of yaml's parsers."""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from collabdesign.design.files import document
from collabdesign.design.files.document import MAX_DEPTH, read_document, read_text, write_text
from collabdesign.errors import InputError, Problem


@pytest.fixture(params=["libyaml", "python"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """libyaml is not built into every PyYAML."""
    name = "CSafeLoader" if request.param == "libyaml" else "SafeLoader"
    if not hasattr(yaml, name):
        pytest.skip(f"this PyYAML has no {name}")
    monkeypatch.setattr(document, "_LOADER", getattr(yaml, name))


def problems_of(text: str) -> tuple[Problem, ...]:
    with pytest.raises(InputError) as caught:
        read_text(text, "a.yaml")
    return caught.value.problems


def test_data_and_places() -> None:
    text = "name: x  # a comment\nlimits:\n  macs: 10M\nlist: [1, {a: 2.5}]\n"
    read = read_text(text, "a.yaml")
    assert read.data == {"name": "x", "limits": {"macs": "10M"}, "list": [1, {"a": 2.5}]}
    assert read.positions == {
        (): (1, 1),
        ("name",): (1, 7),
        ("limits",): (3, 3),
        ("limits", "macs"): (3, 9),
        ("list",): (4, 7),
        ("list", 0): (4, 8),
        ("list", 1): (4, 11),
        ("list", 1, "a"): (4, 15),
    }
    assert read.keys == {
        ("name",): (1, 1),
        ("limits",): (2, 1),
        ("limits", "macs"): (3, 3),
        ("list",): (4, 1),
        ("list", 1, "a"): (4, 12),
    }


def test_a_problem_stands_at_the_value_the_key_or_what_holds_it() -> None:
    read = read_text("limits:\n  macs: 10M\n", "a.yaml")

    def place(*location: str, at_key: bool = False) -> tuple[int, int]:
        problem = read.problem(location, "wrong", at_key=at_key)
        return problem.line, problem.column

    assert place("limits", "macs") == (2, 9)
    assert place("limits", "macs", at_key=True) == (2, 3)
    assert place("limits", at_key=True) == (1, 1)
    assert place("limits", "params") == (1, 1)
    assert place("limits", "macs", "deeper") == (2, 3)
    assert place("nowhere") == (1, 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5), ("-5", -5), ("010", 10), ("5e-4", 0.0005), ("1e6", 1e6), (".5", 0.5),
        ("1.", 1.0), ("-.inf", float("-inf")), ("true", True), ("False", False), ("~", None),
        ("null", None), ("", None), ("yes", "yes"), ("no", "no"), ("on", "on"), ("0x10", "0x10"),
        ("2024-01-01", "2024-01-01"), ("1:30", "1:30"), ("1_000", "1_000"), ("'5'", "5"),
        ('"true"', "true"), ("!!str 5", "5"), ("! 5", "5"), ("!!int 5", 5), ("!!float 1.5", 1.5),
        ("9" * 5000, "9" * 5000), ("1e9999", float("inf")), ("|\n  a\n  b\n", "a\nb\n"),
    ],
)  # fmt: skip
def test_plain_words_are_read_as_editors_show_them(text: str, value: object) -> None:
    data = read_text(text).data
    assert (data, type(data)) == (value, type(value))


def test_not_a_number() -> None:
    assert str(read_text("[.nan, .NaN]").data) == "[nan, nan]"


def test_an_alias_repeats_its_anchor() -> None:
    read = read_text("a: &x {b: [1]}\nc: *x\n", "a.yaml")
    assert read.data == {"a": {"b": [1]}, "c": {"b": [1]}}
    problem = read.problem(("c", "b", 0), "wrong")
    assert (problem.line, problem.column) == (2, 1)


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a: [1\n", 2, 1, "must be YAML"),
        ("a: 1\n\tb: 2\n", 2, 1, "must be YAML"),
        ("a: b: c\n", 1, 5, "must be YAML, got: mapping values are not allowed"),
        ("a: 'x\n", 2, 1, "must be YAML"),
        ("a: *x\n", 1, 4, "an alias must follow its anchor, got *x without one"),
        ("a: &x [*x]\n", 1, 8, "an alias must not stand inside its anchor, got *x"),
        ("a: 1\nb: 2\na: 3\n", 3, 1, "a key must stand once, got 'a' a second time"),
        ("1: x\n", 1, 1, "a key must be text, got 1"),
        ("true: x\n", 1, 1, "a key must be text, got true"),
        ("? [a]\n: x\n", 1, 3, "a key must be text, got a list"),
        ("{{ name }}: x\n", 1, 2, "a key must be text, got a mapping"),
        ("b: &x {c: 1}\na: {<<: *x}\n", 2, 5, "a key must be text, got a merge (<<)"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, 4, "tag !!python/object/apply:os.sys"),
        ("a: !mine 5\n", 1, 4, "got the tag !mine"),
        ("a: !!set {b}\n", 1, 4, "got the tag !!set"),
        ("a: !!int x\n", 1, 4, "a tag must name its value's kind, got !!int"),
        ("a: 1\n---\nb: 2\n", 2, 1, "must hold one document, got a second one"),
        ("a: x\x07\n", 1, 5, "must be text, got the character '\\x07'"),
        ("[" * (MAX_DEPTH + 2), 1, MAX_DEPTH + 2, "at most 40 deep, got more"),
        ("[" * 100_000, 1, MAX_DEPTH + 2, "at most 40 deep, got more"),
        ("{a: " * 5000, 1, None, "at most 40 deep, got more"),
        ("[" + "1," * 10_000 + "]", 1, 20_000, "at most 10,000 values, aliases written out"),
    ],
)
def test_refused_text(text: str, line: int, column: int | None, words: str) -> None:
    problem = problems_of(text)[0]
    assert problem.file == "a.yaml"
    assert words in problem.message
    assert (problem.line, problem.column) == (line, column or problem.column)


def test_hints_say_what_to_do() -> None:
    assert problems_of("a: 1\na: 2\n")[0].hint == "it stands in line 1 already"
    assert problems_of("a:\n\tb: 2\n")[0].hint == "indent with spaces, not with tabs"
    assert problems_of("a: !!python/name:os.x ''\n")[0].hint.startswith("tags that run code are")
    assert problems_of("5: x\n")[0].hint == "write it in quotes"
    assert "needs quotes" in problems_of("a: b: c\n")[0].hint


def test_all_that_can_be_told_together_is() -> None:
    found = problems_of("a: 1\na: 2\n3: x\nb: !mine 1\nc: [\n")
    assert [problem.line for problem in found] == [2, 3, 4, 6]


def test_a_billion_laughs_are_refused_before_they_are_laughed() -> None:
    lines = ['a0: &a0 ["lol", "lol", "lol", "lol", "lol", "lol", "lol", "lol", "lol"]']
    for level in range(1, 20):
        aliases = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} [{aliases}]")
    tracemalloc.start()
    start = time.perf_counter()
    found = problems_of("\n".join(lines))
    seconds = time.perf_counter() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 10 values, then 91, 820, 7381: the first alias of the next line goes over 10,000.
    assert (found[0].line, found[0].column) == (5, 10)
    assert "aliases written out" in found[0].message
    assert seconds < 1
    assert peak < 5_000_000


def test_a_bomb_of_keys_is_refused_too() -> None:
    lines = ["a0: &a0 {x: 1, y: 2}"]
    for level in range(1, 40):
        below = f"*a{level - 1}"
        lines.append(f"a{level}: &a{level} {{x: {below}, y: {below}}}")
    assert "aliases written out" in problems_of("\n".join(lines))[0].message


class TestFiles:
    def refused(self, path: Path | str) -> Problem:
        with pytest.raises(InputError) as caught:
            read_document(path)
        (problem,) = caught.value.problems
        return problem

    def test_read(self, tmp_path: Path) -> None:
        path = tmp_path / "a.yaml"
        path.write_bytes("\ufeffname: Grün\r\n".encode())
        read = read_document(path)
        assert (read.data, read.file) == ({"name": "Grün"}, str(path))
        assert read.positions[("name",)] == (1, 7)

    def test_missing(self, tmp_path: Path) -> None:
        (tmp_path / "digits.yaml").write_text("name: x\n")
        problem = self.refused(tmp_path / "digit.yaml")
        assert problem.message == "the file must exist, got none"
        assert problem.hint == f"in {tmp_path} there are: digits.yaml"
        assert problem.file == str(tmp_path / "digit.yaml")
        assert "no folder" in self.refused(tmp_path / "no" / "a.yaml").hint

    def test_folder(self, tmp_path: Path) -> None:
        problem = self.refused(tmp_path)
        assert problem.message == "must be a file, got a folder"
        assert (
            problem.hint
            == f"in {tmp_path} there is no YAML file; collabdesign init --data FOLDER writes one"
        )

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_unreadable(self, tmp_path: Path) -> None:
        path = tmp_path / "a.yaml"
        path.write_text("name: x\n")
        path.chmod(0)
        assert "must be readable, got: Permission denied" in self.refused(path).message

    def test_names_that_no_file_can_have(self, tmp_path: Path) -> None:
        assert "must be readable" in self.refused("a\0b").message
        assert "must be readable" in self.refused(tmp_path / ("x" * 5000)).message
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        assert "must be readable" in self.refused(tmp_path / "loop").message

    def test_too_large(self, tmp_path: Path) -> None:
        path = tmp_path / "a.yaml"
        path.write_bytes(b"#" * 1_000_001)
        assert "at most 1 MB, got more" in self.refused(path).message

    def test_endless(self) -> None:
        if not Path("/dev/zero").exists():
            pytest.skip("this system has no /dev/zero")
        assert "at most 1 MB" in self.refused("/dev/zero").message

    @pytest.mark.parametrize(
        ("raw", "line", "column"),
        [(b"name: x\nb: \xff\n", 2, 4), ("name: x\n".encode("utf-16"), 1, 1)],
    )
    def test_not_text(self, tmp_path: Path, raw: bytes, line: int, column: int) -> None:
        path = tmp_path / "a.yaml"
        path.write_bytes(raw)
        problem = self.refused(path)
        assert "the file must be UTF-8 text, got the byte 0xff" in problem.message
        assert (problem.line, problem.column) == (line, column)

    @pytest.mark.parametrize(
        ("text", "got", "line"),
        [
            ("", "an empty file", 1),
            ("# nothing\n", "an empty file", 1),
            ("---\n", "an empty file", 2),
            ("\n- a\n", "a list", 2),
            ("hello\n", "a single value", 1),
        ],
    )
    def test_not_a_mapping(self, tmp_path: Path, text: str, got: str, line: int) -> None:
        path = tmp_path / "a.yaml"
        path.write_text(text)
        problem = self.refused(path)
        assert problem.message == f"the file must be a mapping, got {got}"
        assert problem.line == line


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["yes", "no", "null", "~", "1e5", "08", "0o7", "1_0", ".5", "=", "<<", "*a", "- x", "a: b"]
)
_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(_TEXTS.filter(lambda key: key != "<<"), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(_PLAIN)
def test_what_is_written_reads_back(data: Any) -> None:
    again = read_text(write_text(data)).data
    assert again == data
    assert repr(again) == repr(data)


@given(st.text() | st.text(alphabet="ab:-[]{}&*!'\"|>%@#?, \n\t1", max_size=40))
def test_no_text_ends_in_anything_but_data_or_problems(text: str) -> None:
    try:
        read_text(text, "a.yaml")
    except InputError as error:
        assert all(problem.line >= 1 and problem.column >= 1 for problem in error.problems)
