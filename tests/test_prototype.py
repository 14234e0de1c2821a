"""Prototypes: values, choices and ranges as a person writes them, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from spaces import SHIPPED, small, written

from collabdesign.design.files.units import shown
from collabdesign.design.freedoms import hidden_channels
from collabdesign.design.layer_words import parse_token
from collabdesign.design.prototype import Prototype
from collabdesign.errors import InputError

MODULE: dict[str, Any] = {"depth": 1, "layers": "conv3"}


def read(data: Any) -> Prototype:
    return Prototype.model_validate(data)


def with_channels(channels: Any) -> Prototype:
    return read(small(MODULE, stem={"channels": channels}))


def with_module(**changes: Any) -> Prototype:
    return read(small({**MODULE, **changes}))


def complaint(data: Any) -> tuple[tuple[int | str, ...], str]:
    """Where the only problem stands, and what it says."""
    with pytest.raises(ValidationError) as caught:
        read(data)
    (error,) = caught.value.errors()
    rule, _, _hint = error["msg"].removeprefix("Value error, ").partition("\n    ")
    return error["loc"], rule


# -- values ---------------------------------------------------------------------------------------


def test_a_value_is_fixed() -> None:
    freedom = with_channels(12).stem.channels
    assert (freedom.values, freedom.own, freedom.is_range) == ((12,), 12, False)


def test_choices_begin_with_the_humans_own() -> None:
    freedom = with_channels([16, 8, 24]).stem.channels
    assert (freedom.values, freedom.own, freedom.is_range) == ((16, 8, 24), 16, False)


@pytest.mark.parametrize(
    ("low", "high", "step", "values", "own"),
    [
        (8, 24, 8, (8, 16, 24), 16),
        (8, 20, 4, (8, 12, 16, 20), 12),  # the lower of two middles
        (8, 16, 8, (8, 16), 8),
        (4, 10, 2, (4, 6, 8, 10), 6),
    ],
)
def test_the_own_value_of_a_range_is_its_middle(
    low: int, high: int, step: int, values: tuple[int, ...], own: int
) -> None:
    freedom = with_channels({"low": low, "high": high, "step": step}).stem.channels
    assert (freedom.values, freedom.own, freedom.is_range) == (values, own, True)


def test_a_range_of_one_value_is_fixed() -> None:
    freedom = with_channels({"low": 8, "high": 8, "step": 4}).stem.channels
    assert (freedom.values, freedom.own, freedom.is_range) == ((8,), 8, False)


def test_widths_are_numbers() -> None:
    widths = with_module(widths=[2, 0.25]).modules["m"].widths
    assert widths.values == (2.0, 0.25)
    assert all(type(value) is float for value in widths.values)


def test_one_list_of_layers_is_for_every_position() -> None:
    module = with_module(depth=[3, 1], layers=["pw", "dw3"]).modules["m"]
    assert [module.tokens(position).values for position in range(3)] == [("pw", "dw3")] * 3


def test_lists_of_layers_go_position_by_position_and_the_last_goes_on() -> None:
    module = with_module(depth=4, layers=[["pw", "dw3"], "conv3", ["dw5"]]).modules["m"]
    assert [module.tokens(position).values for position in range(4)] == [
        ("pw", "dw3"),
        ("conv3",),
        ("dw5",),
        ("dw5",),
    ]


@pytest.mark.parametrize(
    ("text", "kind", "kernel", "groups", "chooses"),
    [
        ("pw", "pw", 1, 1, True),
        ("pw/g4", "pw", 1, 4, True),
        ("dw3", "dw", 3, 1, False),
        ("dw11", "dw", 11, 1, False),
        ("conv5", "conv", 5, 1, True),
        ("conv3/g32", "conv", 3, 32, True),
        ("pool3", "pool", 3, 1, False),
    ],
)
def test_words_for_layers(text: str, kind: str, kernel: int, groups: int, chooses: bool) -> None:
    token = parse_token(text)
    assert (token.kind, token.kernel, token.groups) == (kind, kernel, groups)
    assert token.chooses_channels is chooses


def test_defaults() -> None:
    prototype = with_module()
    module = prototype.modules["m"]
    assert (prototype.stem.kernel.own, prototype.stem.stride.own) == (3, 1)
    assert prototype.stages[0].stride.own == 1
    assert prototype.head.features.own == 0
    assert (module.shortcut.own, module.branches.own, module.join.own) == ("identity", 1, "add")
    assert (module.widths.own, module.attention.own) == (1.0, "none")
    assert (module.activation.own, module.output.own) == ("relu", "activated")
    assert module.share == "module"


@pytest.mark.parametrize(
    ("width", "channels", "hidden"),
    [(1, 8, 8), (0.25, 8, 2), (0.25, 10, 3), (0.5, 5, 3), (4, 24, 96), (0.01, 8, 1), (0.3, 8, 2)],
)
def test_hidden_channels_round_half_up(width: float, channels: int, hidden: int) -> None:
    assert hidden_channels(width, channels) == hidden  # 2.5 is 3, 2.4 is 2


# -- refusals -------------------------------------------------------------------------------------

CHANNELS = "must be a whole number from 4 to 4096, got "


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (3, CHANNELS + "3"),
        (0, CHANNELS + "0"),
        (-8, CHANNELS + "-8"),
        (5000, CHANNELS + "5000"),
        (8.0, CHANNELS + "8.0"),
        (math.nan, CHANNELS + "nan"),
        (math.inf, CHANNELS + "inf"),
        (True, CHANNELS + "true"),
        ("8", CHANNELS + "'8'"),
        ("16k", CHANNELS + "'16k'"),
        (None, CHANNELS + "nothing"),
        ([8, "16"], CHANNELS + "'16'"),
        ([8, [16]], CHANNELS + "[16]"),
        ([], "a list of choices must name at least one, got an empty list"),
        ([8, 16, 8], "choices must differ, got [8, 16, 8]"),
        ({}, "a range has the keys low, high and step, got []"),
        ({"low": 8, "high": 16}, "a range has the keys low, high and step, got ['high', 'low']"),
        (
            {"low": 8, "high": 16, "step": 8, "own": 8},
            "a range has the keys low, high and step, got ['high', 'low', 'own', 'step']",
        ),
        (
            {"low": 24, "high": 8, "step": 8},
            "a range must have low at most high, got low 24 and high 8",
        ),
        (
            {"low": 8, "high": 30, "step": 8},
            "the step of a range must lead from low to high, got 8 to 30 in steps of 8 "
            "(high 24 would do)",
        ),
        ({"low": 8, "high": 16, "step": 0}, "the step of a range must be at least 1, got 0"),
        ({"low": 8, "high": 16, "step": -8}, "the step of a range must be at least 1, got -8"),
        ({"low": 8, "high": 16, "step": 0.5}, "the step of a range must be at least 1, got 0.5"),
        ({"low": 2, "high": 16, "step": 2}, CHANNELS + "2"),
        ({"low": 8.0, "high": 16, "step": 8}, CHANNELS + "8.0"),
        ({"low": 4, "high": 4096, "step": 1}, "a range has at most 512 values, got 4093"),
    ],
)
def test_refused_channels(channels: Any, message: str) -> None:
    assert complaint(small(MODULE, stem={"channels": channels})) == (("stem", "channels"), message)


ACTIVATIONS = "must be one of relu, hardswish, silu, gelu, got "


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("depth", 0, "must be a whole number from 1 to 4, got 0"),
        ("depth", [3, 5], "must be a whole number from 1 to 4, got 5"),
        ("branches", 4, "must be a whole number from 1 to 3, got 4"),
        ("shortcut", "sum", "must be one of none, identity, projection, got 'sum'"),
        ("shortcut", None, "must be one of none, identity, projection, got nothing"),
        ("shortcut", False, "must be one of none, identity, projection, got false"),
        ("join", ["add", "cat"], "must be one of add, concat, got 'cat'"),
        (
            "join",
            {"low": 1, "high": 2, "step": 1},
            "must be a value or a list of choices, got {'low': 1, 'high': 2, 'step': 1}",
        ),
        ("attention", True, "must be one of none, squeeze_excite, got true"),
        ("activation", "swish", ACTIVATIONS + "'swish'"),
        ("activation", ["relu", "relu"], "choices must differ, got ['relu', 'relu']"),
        ("output", "none", "must be one of activated, linear, got 'none'"),
        ("widths", 0, "must be a number above 0, at most 16, got 0"),
        ("widths", [1, -0.5], "must be a number above 0, at most 16, got -0.5"),
        ("widths", 17, "must be a number above 0, at most 16, got 17"),
        ("widths", math.nan, "must be a number above 0, at most 16, got nan"),
        ("widths", math.inf, "must be a number above 0, at most 16, got inf"),
        ("widths", "1", "must be a number above 0, at most 16, got '1'"),
        ("widths", True, "must be a number above 0, at most 16, got true"),
        ("widths", [1, 1.0], "choices must differ, got [1, 1.0]"),
        ("layers", [], "a list of choices must name at least one, got an empty list"),
        ("layers", [["pw"], []], "a list of choices must name at least one, got an empty list"),
        ("layers", [["pw"]] * 5, "a branch has at most 4 layers, got 5 lists"),
        ("layers", 3, "a layer must be a word such as pw or dw3, got 3"),
        ("layers", ["pw", None], "a layer must be a word such as pw or dw3, got nothing"),
        (
            "layers",
            {"pw": 1},
            "must be a value or a list of choices, got {'pw': 1}",
        ),
        ("layers", ["pw", "pw"], "choices must differ, got ['pw', 'pw']"),
        (
            "layers",
            "attention",
            "a layer must be pw, dw3, conv3, conv3/g4, pool3 or the like, got 'attention'",
        ),
        (
            "layers",
            ["conv3 "],
            "a layer must be pw, dw3, conv3, conv3/g4, pool3 or the like, got 'conv3 '",
        ),
        ("layers", "pw3", "pw has no kernel to choose, got 'pw3'"),
        (
            "layers",
            "conv1",
            "the kernel of conv must be 3, 5, 7, 9 or 11, got 'conv1'",
        ),
        ("layers", "conv4", "the kernel of conv must be 3, 5, 7, 9 or 11, got 'conv4'"),
        ("layers", "conv", "the kernel of conv must be 3, 5, 7, 9 or 11, got 'conv'"),
        ("layers", "dw13", "the kernel of dw must be 3, 5, 7, 9 or 11, got 'dw13'"),
        ("layers", "dw3/g2", "dw has no groups to choose, got 'dw3/g2'"),
        ("layers", "pool3/g2", "pool has no groups to choose, got 'pool3/g2'"),
        ("layers", "conv3/g0", "groups must be at least 1, got 'conv3/g0'"),
        ("share", "network", "Input should be 'module' or 'stage'"),
        ("flops", 1, "Extra inputs are not permitted"),
    ],
)
def test_refused_in_a_module(key: str, value: Any, message: str) -> None:
    assert complaint(small({**MODULE, key: value})) == (("modules", "m", key), message)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("conv1", "a layer with kernel 1 is pw"),
        ("pol3", "did you mean pool?"),
        ("conv3/g2/g4", "conv may be followed by /g4"),
        ("conv3/x2", "conv may be followed by /g4"),
        ("pool3/x2", "nothing may follow pool"),
        ("x", "the words are pw, dw, conv, pool"),
    ],
)
def test_a_hint_says_what_was_meant(word: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_token(word)
    (problem,) = caught.value.problems
    assert problem.hint.startswith(hint)


@pytest.mark.parametrize(
    ("features", "value"),
    [(1, 1), ([0, 3], 3), (-4, -4), ({"low": 0, "high": 64, "step": 2}, 2), (5000, 5000)],
)
def test_refused_features(features: Any, value: int) -> None:
    # A range from 0 must not lead through what is too few.
    assert complaint(small(MODULE, head={"features": features})) == (
        ("head", "features"),
        f"must be 0 (no feature layer) or a whole number from 4 to 4096, got {value}",
    )


@pytest.mark.parametrize("kernel", [2, 0, 13, "3", 3.0, True])
def test_refused_stem_kernel(kernel: Any) -> None:
    assert complaint(small(MODULE, stem={"channels": 8, "kernel": kernel})) == (
        ("stem", "kernel"),
        f"must be 1, 3, 5, 7, 9 or 11, got {shown(kernel)}",
    )


@pytest.mark.parametrize("stride", [0, 3, "2", 2.0, True])
def test_refused_stride(stride: Any) -> None:
    stage = {"modules": 1, "channels": 8, "module": "m"}
    assert complaint(small(MODULE, stages=[stage, {**stage, "stride": stride}])) == (
        ("stages", 1, "stride"),
        f"must be a whole number from 1 to 2, got {shown(stride)}",
    )


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({}, ("stem",)),
        (small(MODULE, stages=[{"modules": 1, "channels": 8, "module": "m"}] * 17), ("stages",)),
        (small(MODULE, stages=[{}]), ("stages", 0, "modules")),
        (small(MODULE, modules={}), ("modules",)),
        (small({"depth": 1}), ("modules", "m", "layers")),
        (small(MODULE, body=1), ("body",)),
        (small(MODULE, stem=8), ("stem",)),
        (small(MODULE, modules=[MODULE]), ("modules",)),
    ],
)
def test_refused_as_a_whole(data: Any, place: tuple[int | str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        read(data)
    assert place in [error["loc"] for error in caught.value.errors()]


# -- what no single value shows ------------------------------------------------------------------


def test_no_problems() -> None:
    assert with_module().problems(8) == []


def test_strides_that_reduce_to_nothing() -> None:
    stage = {"modules": 1, "channels": 8, "module": "m", "stride": 2}
    prototype = read(
        small(
            MODULE,
            stem={"channels": 8, "stride": 2},
            stages=[stage, {**stage, "stride": [1, 2]}, stage, stage],
        )
    )
    assert prototype.problems(32) == []  # 2 * 2 * 2 * 2 * 2 = 32
    assert prototype.problems(31) == [
        (
            ("stages", 3, "stride"),
            "the strides up to here reduce the 31x31 input by 32, to 0x0; at most 31 is possible",
        )
    ]
    assert [place for place, _ in prototype.problems(7)] == [("stages", 1, "stride")]
    assert [place for place, _ in prototype.problems(1)] == [("stem", "stride")]


def test_a_module_that_does_not_exist_and_one_that_is_not_used() -> None:
    prototype = read(
        {
            "stem": {"channels": 8},
            "stages": [
                {"modules": 1, "channels": 8, "module": "a"},
                {"modules": 1, "channels": 8, "module": "c"},
            ],
            "modules": {"a": MODULE, "b": MODULE},
        }
    )
    assert prototype.problems(8) == [
        (("stages", 1, "module"), "must name a module (a, b), got 'c'"),
        (("modules", "b"), "every module must be used by a stage, 'b' is not"),
    ]


def test_groups_that_never_divide() -> None:
    stage = {"modules": 1, "channels": [10, 14], "module": "m"}
    module = {"depth": 1, "layers": [["pw", "conv3/g4"], ["conv3/g2"]], "widths": [1, 0.5, 1.5]}
    (problem,) = read(small(module, stages=[stage])).problems(8)
    assert problem == (
        ("modules", "m", "layers"),
        # 10 and 14 by 0.5, 1 and 1.5
        "the groups of a layer must divide a channel count that its stages can have, but none of "
        "5, 7, 10, 14, 15, 21 is a multiple of 4, got 'conv3/g4'",
    )
    stage = {"modules": 1, "channels": [10, 16], "module": "m"}
    assert read(small(module, stages=[stage])).problems(8) == []


# -- both ways ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_prototype_is_written_as_it_was_read(name: str) -> None:
    prototype = read(written(name))
    dumped = prototype.model_dump(mode="json")
    assert read(json.loads(json.dumps(dumped))) == prototype
    assert read(yaml.safe_load(yaml.safe_dump(dumped))) == prototype
    for key, value in written(name)["stem"].items():
        assert dumped["stem"][key] == value
    for stage, read_back in zip(written(name)["stages"], dumped["stages"], strict=True):
        assert read_back == {"stride": 1, **stage}
    for kind, module in written(name)["modules"].items():
        for key, value in module.items():
            assert dumped["modules"][kind][key] == value


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("resolution", [32, 96])
def test_a_shipped_prototype_holds_together(name: str, resolution: int) -> None:
    assert read(written(name)).problems(resolution) == []


@pytest.mark.parametrize("layers", ["pw", ["pw", "dw3"], [["pw"], ["dw3", "pw"]], [["pw", "dw3"]]])
def test_layers_are_written_so_that_they_read_back(layers: Any) -> None:
    prototype = with_module(depth=2, layers=layers)
    assert read(prototype.model_dump(mode="json")) == prototype


@pytest.mark.parametrize(
    "value", [8, [16, 8], {"low": 8, "high": 24, "step": 8}, {"low": 8, "high": 12, "step": 4}]
)
def test_a_freedom_is_written_as_a_person_writes_it(value: Any) -> None:
    assert with_channels(value).stem.channels.written() == value


def test_a_prototype_cannot_be_edited() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        with_module().stem = None  # type: ignore[assignment]
