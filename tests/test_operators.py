"""The tables of operators: what every row promises, whichever rows there are."""

from __future__ import annotations

import itertools
import pathlib
import re

import pytest
from spaces import small, space_of

import collabdesign
from collabdesign.design.layer_words import describe_layer, parse_token
from collabdesign.design.operators import ACTIVATIONS, ATTENTIONS, JOINS, OPERATORS, SETTINGS
from collabdesign.evaluate import operators as modules

ROOT = pathlib.Path(collabdesign.__file__).parent
WORDS = {kind: (name, word) for name, row in OPERATORS.items() for kind, word in row.words.items()}


def spellings(kind: str) -> list[str]:
    """A word with each of its settings at each of some values, and without."""
    _, word = WORDS[kind]
    name = f"{kind}{word.kernels[0]}" if word.has_kernel else kind
    written = [
        ["", *(f"/{SETTINGS[key].letter}{value}" for value in SETTINGS[key].values or (1, 2))]
        for key in word.settings
    ]
    return [name + "".join(chosen) for chosen in itertools.product(*written)]


@pytest.mark.parametrize("kind", WORDS)
def test_a_word_is_read_becomes_a_layer_and_is_told_as_it_was_written(kind: str) -> None:
    for text in spellings(kind):
        token = parse_token(text)
        layer = token.layer(1, 8, 8)
        told = describe_layer(layer, 8).removesuffix("(8)")
        assert parse_token(told) == token or told == text.replace("/g1", "")
        assert parse_token(told).layer(1, 8, 8) == layer


def test_words_are_distinct_and_name_no_function_of_the_torch_table() -> None:
    assert len(WORDS) == sum(len(row.words) for row in OPERATORS.values())
    assert not WORDS.keys() & vars(modules).keys(), "both stand in one model.py"


@pytest.mark.parametrize("kind", WORDS)
def test_what_a_word_becomes_can_do_what_it_cannot(kind: str) -> None:
    name, word = WORDS[kind]
    row = OPERATORS[name]
    if row.keeps_channels or not row.takes_stride:
        other, becomes = WORDS[word.becomes]
        assert becomes.chooses_channels
        assert OPERATORS[other].takes_stride


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [8, 12])
@pytest.mark.parametrize("kind", WORDS)
def test_a_branch_of_one_word_is_built_whatever_its_module_must_be(
    kind: str, channels: int, stride: int
) -> None:
    stage = {"modules": 2, "channels": channels, "stride": stride, "module": "m"}
    layers = spellings(kind)
    space = space_of(small({"depth": [1, 2, 3], "layers": layers}, stages=[stage]), 16)
    for depth in (1, 2, 3):
        params = space.complete({"stage1.module1.branch1.depth": depth})
        architecture = space.decode(params)
        assert architecture.modules[0].stride == stride
        assert space.decode(space.encode(architecture)) == architecture


def test_no_other_file_knows_a_row_by_its_name() -> None:
    names = {*WORDS, *OPERATORS, *JOINS, *ATTENTIONS, *ACTIVATIONS} - {"none"}
    quoted = re.compile(rf"[\"']({'|'.join(names)})[0-9]*[\"']")
    rooms = ("design", "evaluate", "explore", "deliver")
    for path in (p for room in rooms for p in (ROOT / room).rglob("*.py")):
        if path.name == "operators.py":
            continue
        code = "\n".join(
            line for line in path.read_text().splitlines() if "_fixed(" not in line
        )  # defaults of a prototype are values as a person writes them
        assert not quoted.findall(code), path
