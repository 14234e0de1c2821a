"""Design spaces: parameters to architecture and back, and the ways through a space."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces import (
    SHIPPED,
    conv,
    module,
    network,
    parameter_sets,
    pool,
    small,
    space_of,
    written,
)

from collabdesign.design.architecture import Architecture, Layer, Module, Stem
from collabdesign.design.cost import cost_of
from collabdesign.design.prototype import Freedom, ModuleFreedoms, Prototype
from collabdesign.design.slots import Parameter
from collabdesign.design.space import DesignSpace, Params
from collabdesign.errors import InputError, OutsideSpace

RESOLUTIONS = {"tiny": 8, "residual": 32, "mixed": 32, "mobile": 96}
SPACES = {name: space_of(written(name), RESOLUTIONS[name]) for name in SHIPPED}
# Tiny, but with every kind of freedom: enumerated below.
CORNERS: dict[str, dict[str, Any]] = {
    "layers": small({"depth": [2, 1, 3], "layers": ["pw", "dw3", "conv3/g4"], "widths": [1, 2]}),
    "positions": small({"depth": [3, 1], "layers": [["pw", "pool3"], ["dw3", "pool3"], ["pw"]]}),
    "branches": small(
        {
            "branches": [1, 2, 3],
            "depth": 1,
            "layers": ["pw", "dw3"],
            "join": ["add", "concat"],
            "widths": [1, 2, 3],
            "attention": ["none", "squeeze_excite"],
        }
    ),
    "words": small(
        {
            "depth": 1,
            "layers": ["pw", "conv3"],
            "shortcut": ["identity", "none"],
            "activation": ["relu", "silu"],
            "output": ["linear", "activated"],
        },
        head={"features": [0, 16, 32], "activation": ["relu", "gelu"]},
    ),
    "modules": small(
        {"depth": [1, 2], "layers": ["pw", "conv3"], "widths": [1, 0.5]},
        stem={"kernel": [3, 5], "stride": [1, 2], "channels": {"low": 8, "high": 16, "step": 4}},
        stages=[{"modules": [1, 2], "stride": [1, 2], "channels": [8, 16], "module": "m"}],
    ),
    "shared": small(
        {"depth": [1, 2], "layers": ["pw", "conv3"], "share": "stage"},
        stages=[
            {"modules": {"low": 1, "high": 3, "step": 1}, "channels": 8, "module": "m"},
            {"modules": 1, "stride": 2, "channels": [12, 8], "module": "m"},
        ],
    ),
}
ALL_SPACES = {**SPACES, **{name: space_of(data, 16) for name, data in CORNERS.items()}}


class Answers:
    """A trial that gives the answers it was made with, and then the first of all choices."""

    def __init__(self, answers: list[Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[Any, ...]] = []

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> Any:
        return self.suggest_categorical(name, tuple(range(low, high + 1, step)))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        assert len(choices) > 1, f"{name} has nothing to choose"
        self.asked.append(choices)
        if len(self.asked) > len(self.answers):
            self.answers.append(choices[0])
        return self.answers[len(self.asked) - 1]


def every_parameter_set(space: DesignSpace) -> Iterator[Params]:
    """By brute force: each way through the questions that a trial is asked."""
    beginnings: list[list[Any]] = [[]]
    while beginnings:
        given = beginnings.pop()
        fixed = len(given)
        trial = Answers(given)
        yield space.suggest(trial)
        for position in range(fixed, len(trial.asked)):
            for other in trial.asked[position][1:]:
                beginnings.append([*trial.answers[:position], other])


# -- decode and encode ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL_SPACES)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_parameter_set_decodes_and_encodes_back(name: str, data: st.DataObject) -> None:
    space = ALL_SPACES[name]
    params = data.draw(parameter_sets(space))
    architecture = space.decode(params)
    encoded = space.encode(architecture)
    assert space.decode(encoded) == architecture
    assert space.complete(encoded) == encoded, "complete, and nothing in it that is not active"


@pytest.mark.parametrize("name", SHIPPED)
def test_uniform_samples_encode_back(name: str) -> None:
    space, rng = SPACES[name], np.random.default_rng(0)
    for _ in range(150):
        architecture = space.decode(space.sample(rng))
        assert space.decode(space.encode(architecture)) == architecture


@pytest.mark.parametrize("name", CORNERS)
def test_all_of_a_small_space_encodes_back(name: str) -> None:
    space = ALL_SPACES[name]
    for params in itertools.islice(every_parameter_set(space), 2000):
        architecture = space.decode(params)
        assert space.decode(space.encode(architecture)) == architecture


@pytest.mark.parametrize("name", SHIPPED)
def test_the_own_values_are_the_first_and_the_middles(name: str) -> None:
    space = SPACES[name]
    for parameter, value in space.own().items():
        values = space.parameters[parameter].values
        if space.parameters[parameter].is_range:
            assert value == values[(len(values) - 1) // 2]
        else:
            assert value == values[0]


def test_the_own_network_of_tiny() -> None:
    first = module([conv(3, 16, 1, 16), conv(1, 16)], channels=16, shortcut="identity")
    stem = Stem(3, 1, 16)
    space = SPACES["tiny"]
    # The middles: 16 of 8 to 24, 16 of 8 to 32 (the lower of 16 and 24), 40 of 16 to 64.
    second = module(
        [conv(3, 16, 2, 16), conv(1, 40)], channels=40, stage=1, stride=2, shortcut="projection"
    )
    assert space.decode(space.own()) == network(first, second, stem=stem)


def test_a_parameter_set_has_a_golden_id() -> None:
    # Stored studies hold parameters: what they mean must not change.
    space = SPACES["mixed"]
    params = {**space.own(), "stage2.design.branches": 2, "stage2.design.output": "linear"}
    assert space.decode(space.complete(params)).id == "668dde8927e3"


def test_decode_refuses_what_it_does_not_know() -> None:
    space, own = SPACES["tiny"], SPACES["tiny"].own()
    with pytest.raises(OutsideSpace, match=r"^the space has no parameter 'stem\.kernel'$"):
        space.decode({**own, "stem.kernel": 3})  # fixed, so not a parameter
    with pytest.raises(OutsideSpace, match=r"^the parameter 'stage1\.modules' is missing$"):
        space.decode({name: value for name, value in own.items() if name != "stage1.modules"})
    with pytest.raises(OutsideSpace) as caught:
        space.decode({**own, "stage1.modules": 3})
    assert str(caught.value) == "stage1.modules must be one of [1, 2], got 3"
    with pytest.raises(OutsideSpace, match=r"must be one of .*, got nan"):
        space.decode({**own, "stage1.channels": float("nan")})
    with pytest.raises(OutsideSpace, match=r"^stage1\.modules must be one of \[1, 2\], got 3$"):
        space.complete({**own, "stage1.modules": 3})


def test_equal_numbers_of_another_type_are_the_same_parameter_set() -> None:
    space, own = SPACES["tiny"], SPACES["tiny"].own()
    floats = {name: float(v) if type(v) is int else v for name, v in own.items()}
    assert space.decode(floats) == space.decode(own)
    assert space.decode(floats).id == space.decode(own).id
    assert [type(value) for value in space.complete(floats).values()] == [
        type(value) for value in own.values()
    ]
    assert space.decode({**own, "stage1.modules": True}) == space.decode(own)


@pytest.mark.parametrize("name", SHIPPED)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_inactive_parameters_are_passed_over(name: str, data: st.DataObject) -> None:
    space = SPACES[name]
    params = data.draw(parameter_sets(space))
    others = space.sample(np.random.default_rng(data.draw(st.integers(0, 100))))
    both = {**others, **params}
    assert space.decode(both) == space.decode(params)
    assert space.complete(both) == params
    assert space.complete(params) == params
    assert [parameter.name for parameter in space.active(both)] == list(params)


def test_complete_gives_own_values_to_what_is_missing() -> None:
    space = SPACES["residual"]
    assert space.complete({}) == space.own()
    two = space.complete({"stage1.design.branches": 2})
    assert two["stage1.design.join"] == "add"
    assert two["stage1.design.branch2.depth"] == 3
    assert {k: v for k, v in two.items() if "branch2" not in k and "join" not in k} == {
        **space.own(),
        "stage1.design.branches": 2,
    }


def test_a_space_must_hold_together() -> None:
    with pytest.raises(InputError) as caught:
        space_of(written("mobile"), 31)
    assert str(caught.value) == (
        "prototype.stages.4.stride: the strides up to here reduce the 31x31 input by 32, to 0x0; "
        "at most 31 is possible"
    )


# -- repairs --------------------------------------------------------------------------------------


def built(layers: Any, channels: Any = 8, stride: int = 1, **kind: Any) -> Module:
    """The own module of a one-module space, behind a stem of 8 channels."""
    stage = {"modules": 1, "stride": stride, "channels": channels, "module": "m"}
    depth = len(layers) if isinstance(layers, list) else 1
    space = space_of(small({"depth": depth, "layers": layers, **kind}, stages=[stage]), 16)
    architecture = space.decode(space.own())
    assert space.decode(space.encode(architecture)) == architecture
    return architecture.modules[0]


def layers_of(*words: str, channels: int = 8, stride: int = 1, **kind: Any) -> tuple[Layer, ...]:
    (branch,) = built([[word] for word in words], channels, stride, **kind).branches
    return branch.layers


def test_an_identity_between_different_shapes_becomes_a_projection() -> None:
    assert built("conv3").shortcut == "identity"
    assert built("conv3", channels=16).shortcut == "projection"
    assert built("conv3", stride=2).shortcut == "projection"
    assert built("conv3", channels=16, shortcut="none").shortcut == "none"
    assert built("conv3", shortcut="projection").shortcut == "projection"


@pytest.mark.parametrize(
    ("groups", "channels", "repaired"),
    [
        (4, 8, 4),
        (4, 12, 4),  # divides 8 and 12
        (8, 12, 4),  # largest divisor of 4, the common divisor of 8 and 12
        (3, 16, 2),  # largest divisor of 8 that is at most 3
        (16, 16, 8),
    ],
)
def test_groups_fall_to_the_largest_divisor(groups: int, channels: int, repaired: int) -> None:
    # The second word lets groups pass that divide none of the channels here.
    words = [f"conv3/g{groups}", "pw"]
    stage = {"modules": 1, "channels": [channels, 48], "module": "m"}
    space = space_of(small({"depth": 1, "layers": words}, stages=[stage]))
    (branch,) = space.decode(space.own()).modules[0].branches
    assert branch.layers == (conv(3, channels, 1, repaired),)


def test_the_last_choosing_layer_takes_the_modules_channels() -> None:
    assert layers_of("pw", "conv3", "dw3", channels=16, widths=0.5) == (
        conv(1, 8),  # half of 16
        conv(3, 16),
        conv(3, 16, 1, 16),
    )
    assert layers_of("pw", "pool3", channels=16) == (conv(1, 16), pool(3, 16))


def test_a_last_depthwise_layer_becomes_grouped_where_nothing_chooses() -> None:
    assert layers_of("dw3") == (conv(3, 8, 1, 8),)
    assert layers_of("dw3", channels=12) == (conv(3, 12, 1, 4),)  # 4 divides 8 and 12
    assert layers_of("pool3", "dw5", channels=16) == (pool(3, 8), conv(5, 16, 1, 8))


def test_a_last_pool_becomes_pw_where_nothing_chooses() -> None:
    assert layers_of("pool3") == (pool(3, 8),)
    assert layers_of("pool3", channels=12) == (conv(1, 12),)
    assert layers_of("dw3", "pool3", channels=12) == (conv(3, 8, 1, 8), conv(1, 12))


def test_the_stride_goes_to_the_first_layer_with_a_kernel() -> None:
    assert layers_of("pw", "dw3", "conv3", stride=2) == (
        conv(1, 8),
        conv(3, 8, 2, 8),
        conv(3, 8),
    )
    assert layers_of("pw", "pool3", stride=2) == (conv(1, 8), pool(3, 8, 2))
    assert layers_of("pw", "pw", stride=2) == (conv(1, 8, 2), conv(1, 8))
    # The pool that would have taken it became pw.
    assert layers_of("pool3", channels=12, stride=2) == (conv(1, 12, 2),)


@pytest.mark.parametrize(
    ("channels", "widths", "split"),
    [
        (16, (1, 1), [8, 8]),
        (16, (3, 1), [12, 4]),
        (12, (1, 1), [8, 4]),  # 1.5 units of 4 each: the earlier gets the one that is left
        (20, (1, 2, 2), [4, 8, 8]),
        (24, (1, 1, 2), [8, 4, 12]),  # 1.5, 1.5 and 3 units
        (16, (1, 16, 16), [4, 8, 4]),  # 0.12, 1.94 and 1.94 units, at least one each
        (10, (1, 1), [5, 5]),  # not a multiple of 4: units of one channel
        (8, (1, 1, 1), [3, 3, 2]),  # 2 units of 4 are too few for three
        (4, (1, 16, 16), [1, 2, 1]),
        (5, (16, 1, 1), [3, 1, 1]),  # 4.44, 0.28 and 0.28
    ],
)
def test_concatenated_branches_share_the_channels(
    channels: int, widths: tuple[float, ...], split: list[int]
) -> None:
    stage = {"modules": 1, "channels": channels, "module": "m"}
    kind = {"branches": len(widths), "join": "concat", "depth": 1, "layers": "pw"}
    choices = sorted({*widths, 5.0})
    space = space_of(small({**kind, "widths": choices}, stages=[stage]))
    names = [f"stage1.module1.branch{i}.layer1.width" for i in range(1, len(widths) + 1)]
    architecture = space.decode(dict(zip(names, map(float, widths), strict=True)))
    assert [branch.channels for branch in architecture.modules[0].branches] == split
    assert sum(split) == channels
    assert space.decode(space.encode(architecture)) == architecture


def test_hidden_widths_are_times_the_stages_channels() -> None:
    assert layers_of("pw", "conv3", channels=24, widths=0.25) == (conv(1, 6), conv(3, 24))
    assert layers_of("pw", "conv3", channels=10, widths=0.25) == (conv(1, 3), conv(3, 10))


# -- what is a point of the space ----------------------------------------------------------------

KNOWN: dict[str, Callable[[int, int], Module]] = {
    "residual bottleneck": lambda inside, stride: residual(
        inside, stride, [conv(1, 16), conv(3, 16, stride), conv(1, 64)]
    ),
    "basic residual": lambda inside, stride: residual(
        inside, stride, [conv(3, 64, stride), conv(3, 64)]
    ),
    "inverted residual": lambda inside, stride: residual(
        inside,
        stride,
        [conv(1, 256), conv(3, 256, stride, 256), conv(1, 64)],
        output="linear",
    ),
    "inverted residual of MobileNet-V3": lambda inside, stride: residual(
        inside,
        stride,
        [conv(1, 256), conv(5, 256, stride, 256), conv(1, 64)],
        output="linear",
        activation="hardswish",
        attention="squeeze_excite",
    ),
    "ResNeXt": lambda inside, stride: residual(
        inside, stride, [conv(1, 32), conv(3, 32, stride, groups=4), conv(1, 64)]
    ),
    "inception": lambda inside, stride: joined(
        stride,
        [conv(1, 16, stride)],
        [conv(1, 64), conv(3, 32, stride)],
        [pool(3, inside, stride), conv(1, 16)],
    ),
    "inception, two 3x3 in a row": lambda inside, stride: joined(
        stride,
        [conv(1, 16, stride)],
        [conv(1, 32), conv(3, 32, stride), conv(3, 32)],
        [pool(3, inside, stride), conv(1, 16)],
    ),
    "depthwise separable": lambda inside, stride: module(
        [conv(3, inside, stride, inside), conv(1, 64)], channels=64, stride=stride, stage=1
    ),
}


def residual(inside: int, stride: int, layers: list[Layer], **changes: Any) -> Module:
    shortcut = "identity" if (inside, stride) == (64, 1) else "projection"
    return module(layers, channels=64, stride=stride, stage=1, shortcut=shortcut, **changes)


def joined(stride: int, *branches: list[Layer]) -> Module:
    return module(*branches, channels=64, stride=stride, stage=1, join="concat")


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", KNOWN)
def test_a_known_module_is_a_point_of_mixed(name: str, count: int) -> None:
    """The second stage is made of the module, 64 channels wide; the others are the human's own."""
    space = SPACES["mixed"]
    base = space.decode({**space.own(), "stage2.channels": 64})
    first = [m for m in base.modules if m.stage == 0]
    last = [m for m in base.modules if m.stage == 2]
    stage = [KNOWN[name](first[-1].channels, 2), *[KNOWN[name](64, 1)] * (count - 1)]
    architecture = replace(base, modules=(*first, *stage, *last))
    assert space.decode(space.encode(architecture)) == architecture


def test_known_modules_stand_beside_each_other() -> None:
    space = SPACES["mixed"]
    architecture = network(
        module(
            [conv(1, 8), conv(3, 8, 2), conv(1, 32)], channels=32, stride=2, shortcut="projection"
        ),
        KNOWN["inverted residual"](32, 2),
        KNOWN["inverted residual"](64, 1),
        module(
            [conv(1, 24, 2)],
            [conv(1, 24), conv(3, 48, 2)],
            [pool(3, 64, 2), conv(1, 24)],
            channels=96,
            stride=2,
            stage=2,
            join="concat",
        ),
        resolution=32,
        stem=Stem(3, 1, 16),
        features=128,
    )
    params = space.encode(architecture)
    assert space.decode(params) == architecture
    second = "stage2.design."
    assert {name: value for name, value in params.items() if name.startswith(second)} == {
        f"{second}shortcut": "identity",
        f"{second}branches": 1,
        f"{second}branch1.depth": 3,
        f"{second}branch1.layer1": "pw",
        f"{second}branch1.layer1.width": 4.0,
        f"{second}branch1.layer2": "dw3",
        f"{second}branch1.layer3": "pw",
        f"{second}attention": "none",
        f"{second}activation": "relu",
        f"{second}output": "linear",
    }


# -- what is not -----------------------------------------------------------------------------------


STEM = Stem(3, 1, 16)
FIRST = module([conv(3, 16)], channels=16, shortcut="identity")
WIDE = module([conv(3, 32, 2)], channels=32, stride=2, stage=1, shortcut="projection")
NEXT = module([conv(3, 32)], channels=32, stage=1, shortcut="identity")


def tiny_network(
    first: Module = FIRST, rest: Sequence[Module] = (WIDE,), stem: Stem = STEM, **changes: Any
) -> Architecture:
    """A point of tiny, but for the changes."""
    return network(first, *rest, stem=stem, **changes)


def test_the_network_that_the_refusals_start_from_is_inside() -> None:
    space = SPACES["tiny"]
    assert space.decode(space.encode(tiny_network())) == tiny_network()


OUTSIDE: dict[str, tuple[Architecture, str]] = {
    "grey": (tiny_network(input_channels=1), "the space has input channels 3, the architecture 1"),
    "resolution": (tiny_network(resolution=16), "the space has resolution 8, the architecture 16"),
    "classes": (tiny_network(classes=2), "the space has classes 10, the architecture 2"),
    "stem kernel": (tiny_network(stem=Stem(5, 1, 16)), "stem.kernel must be one of [3], got 5"),
    "stem stride": (tiny_network(stem=Stem(3, 2, 16)), "stem.stride must be one of [1], got 2"),
    "stem channels": (
        tiny_network(replace(FIRST, shortcut="projection"), stem=Stem(3, 1, 18)),
        "stem.channels must be one of [8, 12, 16, 20, 24], got 18",
    ),
    "stem activation": (
        tiny_network(stem=Stem(3, 1, 16, "gelu")),
        "stem.activation must be one of ['relu'], got 'gelu'",
    ),
    "features": (tiny_network(features=32), "head.features must be one of [0, 64], got 32"),
    "channels of a stage": (
        tiny_network(first=module([conv(3, 12)], channels=12)),
        "stage1.channels must be one of [8, 16, 24, 32], got 12",
    ),
    "stride of a stage": (
        tiny_network(first=module([conv(3, 16, 2)], channels=16, stride=2)),
        "stage1.stride must be one of [1], got 2",
    ),
    "a stage too few": (
        network(FIRST, stem=STEM),
        "the space has 2 stages, the architecture 1",
    ),
    "a stage too many": (
        tiny_network(
            rest=[WIDE, replace(NEXT, stage=2)]
        ),
        "the space has 2 stages, the architecture 3",
    ),
    "an empty stage": (
        network(WIDE, stem=STEM),
        "stage 1 has no module",
    ),
    "modules": (
        tiny_network(rest=[WIDE, NEXT, NEXT]),
        "stage2.modules must be one of [1, 2], got 3",
    ),
    "kernel": (
        tiny_network(first=module([conv(5, 16)], channels=16, shortcut="identity")),
        "stage1.module1: no choice of layers gives branch 1: conv5 16",
    ),
    "kernel of the second branch": (
        tiny_network(first=module([conv(1, 16)], [conv(1, 32), conv(7, 16, 1, 2)], channels=16)),
        "stage1.module1: no choice of layers gives branch 2: pw 32 > conv7 16 g2",
    ),
    "groups": (
        tiny_network(first=module([conv(3, 16, groups=2)], channels=16, shortcut="identity")),
        "stage1.module1: no choice of layers gives branch 1: conv3 16 g2",
    ),
    "hidden width": (
        tiny_network(first=module([conv(1, 24), conv(1, 16)], channels=16, shortcut="identity")),
        "stage1.module1: no choice of layers gives branch 1: pw 24 > pw 16",
    ),
    "depth": (
        tiny_network(first=module([conv(1, 16)] * 4, channels=16, shortcut="identity")),
        "stage1.module1: no choice of layers gives branch 1: pw 16 > pw 16 > pw 16 > pw 16",
    ),
    "branches": (
        tiny_network(first=module(*[[conv(1, 16)]] * 3, channels=16, shortcut="identity")),
        "stage1.module1.branches must be one of [1, 2], got 3",
    ),
    "shares": (
        tiny_network(first=module([conv(1, 3)], [conv(1, 13)], channels=16, join="concat")),
        "stage1.module1: no widths share 16 channels as [3, 13]",
    ),
    "shortcut": (
        tiny_network(first=module([conv(3, 16)], channels=16)),
        "stage1.module1: no parameter set of the space gives this module with its shortcut none "
        "and activation relu",
    ),
    "activation": (
        tiny_network(
            first=module([conv(3, 16)], channels=16, shortcut="identity", activation="silu")
        ),
        "stage1.module1: no parameter set of the space gives this module with its shortcut "
        "identity and activation silu",
    ),
    "output": (
        tiny_network(
            first=module([conv(3, 16)], channels=16, shortcut="identity", output="linear")
        ),
        "stage1.module1.output must be one of ['activated'], got 'linear'",
    ),
    "a later module of another width": (
        tiny_network(rest=[WIDE, module([conv(3, 40)], channels=40, stage=1)]),
        "all modules of a stage have its channels, 32 in stage 2, got 40",
    ),
    "a later module that strides": (
        tiny_network(rest=[WIDE, WIDE]),
        "stage2.module2: no choice of layers gives branch 1: conv3/2 32",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_encode_says_where_an_architecture_leaves_the_space(name: str) -> None:
    architecture, message = OUTSIDE[name]
    with pytest.raises(OutsideSpace) as caught:
        SPACES["tiny"].encode(architecture)
    assert str(caught.value) == message


# -- share -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "designs"), [("module", 3), ("stage", 1)])
def test_share(share: str, designs: int) -> None:
    data = {"depth": 1, "layers": ["pw", "conv3", "dw3"], "share": share}
    stage = {"modules": 3, "channels": 16, "stride": 2, "module": "m"}
    space = space_of(small(data, stages=[stage]), 16)
    assert len(space.parameters) == designs
    assert space.size() == 3**designs
    same = [
        module([conv(3, 16, 2)], channels=16, stride=2, shortcut="projection"),
        *[module([conv(3, 16)], channels=16, shortcut="identity")] * 2,
    ]
    mixed = [*same[:2], module([conv(1, 16)], channels=16, shortcut="identity")]
    assert space.decode(space.encode(network(*same, resolution=16))).modules == tuple(same)
    if share == "module":
        assert space.decode(space.encode(network(*mixed, resolution=16))).modules == tuple(mixed)
    else:
        message = r"^stage1\.design: no parameter set of the space gives this module"
        with pytest.raises(OutsideSpace, match=message):
            space.encode(network(*mixed, resolution=16))


# -- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CORNERS)
def test_size_counts_all_parameter_sets(name: str) -> None:
    space = ALL_SPACES[name]
    everything = list(every_parameter_set(space))
    assert len(everything) == space.size()
    assert len({tuple(sorted(params.items())) for params in everything}) == space.size()


def test_sizes_by_arithmetic() -> None:
    # One module of one layer; the widths of one layer alone do not matter.
    one = {"depth": 1, "layers": ["pw", "dw3"], "widths": [1, 2, 4]}
    assert space_of(small(one)).size() == 2
    # Two layers: pw pw, pw dw3, dw3 pw, dw3 dw3; a hidden width where both choose.
    assert space_of(small({**one, "depth": 2})).size() == 3 + 1 + 1 + 1
    # One branch, or two: added, or concatenated with a share for each.
    two = {**one, "branches": [1, 2], "join": ["add", "concat"]}
    assert space_of(small(two)).size() == 2 + 2 * 2 + (2 * 3) * (2 * 3)
    # One module or two, each with its own design.
    stage = {"modules": [1, 2], "channels": [8, 16], "module": "m"}
    assert space_of(small(one, stages=[stage])).size() == 2 * (2 + 2 * 2)
    shared = {**one, "share": "stage"}
    assert space_of(small(shared, stages=[stage])).size() == 2 * (2 + 2)
    head = {"features": [0, 16, 32], "activation": ["relu", "silu"]}
    assert space_of(small(one, head=head)).size() == 2 * (1 + 2 * 2)


def most_in_a_branch(kind: ModuleFreedoms, concat: bool) -> int:
    """Active parameters of one branch, at most: all words for all depths tried."""
    most = 0
    for depth in kind.depth.values:
        words = [kind.tokens(position).values for position in range(depth)]
        layers = sum(len(choices) > 1 for choices in words)
        for chosen in itertools.product(*words):
            choosing = sum(word.startswith(("pw", "conv")) for word in chosen)
            widths = max(choosing - 1, 0) + concat if len(kind.widths.values) > 1 else 0
            most = max(most, (len(kind.depth.values) > 1) + layers + widths)
    return most


def most_active(prototype: Prototype) -> int:
    def free(*freedoms: Freedom) -> int:
        return sum(len(freedom.values) > 1 for freedom in freedoms)

    stem, head = prototype.stem, prototype.head
    total = free(stem.kernel, stem.stride, stem.channels, stem.activation, head.features)
    total += free(head.activation) if any(head.features.values) else 0
    for stage in prototype.stages:
        kind = prototype.modules[stage.module]
        design = free(kind.shortcut, kind.branches, kind.attention, kind.activation, kind.output)
        design += max(
            count * most_in_a_branch(kind, join == "concat") + (free(kind.join) if count > 1 else 0)
            for count in kind.branches.values
            for join in (kind.join.values if count > 1 else ("add",))
        )
        designs = 1 if kind.share == "stage" else max(stage.modules.values)
        total += free(stage.modules, stage.stride, stage.channels) + designs * design
    return total


@pytest.mark.parametrize("name", CORNERS)
def test_the_most_active_parameters_are_counted_rightly(name: str) -> None:
    most = max(len(params) for params in every_parameter_set(ALL_SPACES[name]))
    assert most == most_active(Prototype.model_validate(CORNERS[name]))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_prototype_has_at_most_120_active_parameters(name: str) -> None:
    assert most_active(Prototype.model_validate(written(name))) <= 120


# -- samples and trials ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_samples_are_reproducible(name: str) -> None:
    one, other, third = (np.random.default_rng(seed) for seed in (7, 7, 8))
    samples = [SPACES[name].sample(one) for _ in range(10)]
    assert samples == [SPACES[name].sample(other) for _ in range(10)]
    assert samples != [SPACES[name].sample(third) for _ in range(10)]


def test_samples_are_uniform_in_every_parameter() -> None:
    space, rng = SPACES["residual"], np.random.default_rng(0)
    samples = [space.sample(rng) for _ in range(3000)]
    for name, parameter in space.parameters.items():
        seen = Counter(params[name] for params in samples if name in params)
        expected = seen.total() / len(parameter.values)
        if expected < 30:
            continue
        for value in parameter.values:  # binomial: 5 standard deviations
            assert abs(seen[value] - expected) < 5 * sqrt(expected), (name, value)


@pytest.mark.parametrize("name", SHIPPED)
def test_an_optuna_trial_is_asked_for_the_same_parameters(name: str) -> None:
    space = SPACES[name]
    for seed in range(5):
        params = space.sample(np.random.default_rng(seed))
        assert space.suggest(optuna.trial.FixedTrial(params)) == params
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for _ in range(5):
        trial = study.ask()
        params = space.suggest(trial)
        assert trial.params == params
        assert space.complete(params) == params
        space.decode(params)


def test_the_distributions_of_a_trial() -> None:
    stage = {"modules": [2, 1], "channels": {"low": 8, "high": 24, "step": 8}, "module": "m"}
    space = space_of(small({"depth": 1, "layers": ["pw", "dw3"], "share": "stage"}, stages=[stage]))
    trial = optuna.create_study().ask()
    space.suggest(trial)
    assert trial.distributions == {
        "stage1.modules": optuna.distributions.CategoricalDistribution((2, 1)),
        "stage1.channels": optuna.distributions.IntDistribution(8, 24, step=8),
        "stage1.design.branch1.layer1": optuna.distributions.CategoricalDistribution(("pw", "dw3")),
    }


# -- neighbours -----------------------------------------------------------------------------------


def is_one_step(parameter: Parameter, value: Any, other: Any) -> bool:
    values = parameter.values
    if parameter.is_range:
        return abs(values.index(value) - values.index(other)) == 1
    return bool(value != other)


@pytest.mark.parametrize("name", ALL_SPACES)
@given(data=st.data())
@settings(max_examples=6, deadline=None)
def test_neighbours(name: str, data: st.DataObject) -> None:
    space = ALL_SPACES[name]
    here = data.draw(parameter_sets(space))
    own = {parameter.name: parameter.own for parameter in space.parameters.values()}
    ids = [space.decode(here).id]
    for there in space.neighbours(here):
        assert space.complete(there) == there
        (changed,) = [key for key in here.keys() & there.keys() if here[key] != there[key]]
        assert is_one_step(space.parameters[changed], here[changed], there[changed])
        assert all(there[key] == own[key] for key in there.keys() - here.keys())
        ids.append(space.decode(there).id)
    assert len(ids) == len(set(ids)), "each another network, and none is this one"
    every = {
        space.decode(space.complete({**here, key: other})).id
        for key, value in here.items()
        for other in space.parameters[key].values
        if is_one_step(space.parameters[key], value, other)
    }
    assert set(ids[1:]) == every - {ids[0]}, "none is left out"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_neighbour_of_the_same_form_has_a_way_back(name: str) -> None:
    space = SPACES[name]
    here = space.sample(np.random.default_rng(3))
    alike = [there for there in space.neighbours(here) if there.keys() == here.keys()]
    assert alike
    for there in alike[:10]:
        assert space.decode(here).id in {space.decode(back).id for back in space.neighbours(there)}


def test_the_neighbours_of_a_small_network() -> None:
    stage = {"modules": 1, "channels": {"low": 8, "high": 40, "step": 8}, "module": "m"}
    space = space_of(
        small(
            {
                "depth": 1,
                "layers": ["conv3", "pw", "dw3"],
                "shortcut": ["identity", "projection"],
                "widths": [1, 2],
            },
            stages=[stage],
        )
    )
    here = {
        "stage1.channels": 24,
        "stage1.module1.shortcut": "identity",
        "stage1.module1.branch1.layer1": "conv3",
    }
    assert here == space.own()
    assert list(space.neighbours(here)) == [
        {**here, "stage1.channels": 16},
        {**here, "stage1.channels": 32},
        # The shortcut is a projection already: 8 channels to 24.
        {**here, "stage1.module1.branch1.layer1": "pw"},
        {**here, "stage1.module1.branch1.layer1": "dw3"},
    ]


# -- the default network --------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_the_own_network_is_the_default_where_it_fits(name: str) -> None:
    assert SPACES[name].shrink(lambda _: True) == SPACES[name].own()
    assert SPACES[name].shrink(lambda _: False) is None


@pytest.mark.parametrize("share", [0.8, 0.5, 0.4])
@pytest.mark.parametrize("name", SHIPPED)
def test_the_default_network_fits_and_keeps_the_humans_choices(name: str, share: float) -> None:
    space = SPACES[name]
    own = space.own()
    limit = share * cost_of(space.decode(own)).macs

    params = space.shrink(lambda architecture: cost_of(architecture).macs <= limit)
    assert params is not None
    assert space.complete(params) == params
    assert cost_of(space.decode(params)).macs <= limit
    for key, value in params.items():
        if not key.endswith(("channels", "features", "modules", "width")):
            assert value == own[key], "only sizes shrink"
        elif not key.endswith("width"):
            assert value <= own[key]


def shrinking() -> DesignSpace:
    """Own values: stem 16 of 8 to 24, two modules of 32 channels of 16 to 64, width 2 of 1 to 4."""
    stage = {"modules": [2, 1], "channels": {"low": 16, "high": 64, "step": 16}, "module": "m"}
    return space_of(
        small(
            {"depth": 2, "layers": "pw", "widths": [2, 1, 4], "share": "stage"},
            stem={"channels": {"low": 8, "high": 24, "step": 8}},
            stages=[stage],
            head={"features": [64, 0, 32]},
        )
    )


def sizes(architecture: Architecture) -> tuple[int, int, int, int, int]:
    first = architecture.modules[0]
    hidden = first.branches[0].layers[0].channels
    return (
        architecture.stem.channels,
        len(architecture.modules),
        first.channels,
        hidden // first.channels,
        architecture.head.features,
    )


@pytest.mark.parametrize(
    ("fits", "shrunk"),
    [
        (lambda stem, modules, channels, width, features: True, (16, 2, 32, 2, 64)),
        # All channel counts fall together, each to the largest value below the common factor.
        (lambda stem, modules, channels, width, features: channels < 32, (8, 2, 16, 2, 32)),
        (lambda stem, modules, channels, width, features: features < 32, (8, 2, 16, 2, 0)),
        # Not enough: the fewest modules, with all channels again.
        (lambda stem, modules, channels, width, features: modules < 2, (16, 1, 32, 2, 64)),
        # Not enough: the smallest width too, which is not the first.
        (lambda stem, modules, channels, width, features: width < 2, (16, 1, 32, 1, 64)),
        (lambda *all_sizes: sum(all_sizes) <= 27, (8, 1, 16, 2, 0)),
        (lambda *all_sizes: sum(all_sizes) <= 26, (8, 1, 16, 1, 0)),
    ],
)
def test_what_shrinks_and_in_which_order(
    fits: Callable[..., bool], shrunk: tuple[int, ...]
) -> None:
    space = shrinking()
    params = space.shrink(lambda architecture: fits(*sizes(architecture)))
    assert params is not None
    assert sizes(space.decode(params)) == shrunk


# -- descent --------------------------------------------------------------------------------------


def macs(architecture: Architecture) -> int:
    return cost_of(architecture).macs


@pytest.mark.parametrize("name", ALL_SPACES)
def test_descent_never_rises_and_ends_where_no_value_is_better(name: str) -> None:
    space = ALL_SPACES[name]
    start = space.sample(np.random.default_rng(0))
    end = space.descend(start, macs)
    best = macs(space.decode(end))
    assert best <= macs(space.decode(start))
    assert space.complete(end) == end
    for key in end:
        for value in space.parameters[key].values:
            assert macs(space.decode(space.complete({**end, key: value}))) >= best
    assert space.descend(end, macs) == end


def test_descent_asks_only_for_complete_networks() -> None:
    space = SPACES["tiny"]
    scores = []

    def score(architecture: Architecture) -> int:
        scores.append(macs(architecture))
        return scores[-1]

    assert macs(space.decode(space.descend({}, score))) == min(scores)
