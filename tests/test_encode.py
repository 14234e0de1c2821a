"""Architecture to parameters: what a space holds, and what it does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from spaces import (
    ALL_SPACES,
    CORNERS,
    SHIPPED,
    SPACES,
    conv,
    every_parameter_set,
    module,
    network,
    parameter_sets,
    pool,
    small,
    space_of,
)

from collabdesign.design.architecture import Architecture, Layer, Module, Stem
from collabdesign.errors import InputError, OutsideSpace

# -- there and back -----------------------------------------------------------------------------


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


def some(values: Sequence[Any], most: int = 4) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


WORDS = ["pw", "pw/g2", "dw3", "conv3", "conv3/g1", "conv3/g4", "conv3/g3", "pool3", "pool5"]
CHANNELS = some([4, 5, 6, 8, 10, 12, 16, 24])
STAGES = st.lists(
    st.fixed_dictionaries(
        {
            "modules": some([1, 2, 3]),
            "stride": some([1, 2]),
            "channels": CHANNELS,
            "module": st.just("m"),
        }
    ),
    min_size=1,
    max_size=3,
)
KINDS = st.fixed_dictionaries(
    {
        "shortcut": some(["identity", "projection", "none"]),
        "branches": some([1, 2, 3]),
        "join": some(["add", "concat"]),
        "depth": some([1, 2, 3, 4]),
        "layers": some(WORDS) | st.lists(some(WORDS), min_size=1, max_size=4),
        "widths": some([1, 0.01, 0.3, 0.5, 1.1, 2, 4]),
        "attention": some(["none", "squeeze_excite"]),
        "activation": some(["relu", "silu", "gelu"]),
        "output": some(["linear", "activated"]),
        "share": st.sampled_from(["module", "stage"]),
    }
)


@given(stem=CHANNELS, stages=STAGES, kind=KINDS, data=st.data())
@settings(max_examples=120, deadline=None)
def test_any_prototype_encodes_what_it_decodes(
    stem: list[int], stages: list[dict[str, Any]], kind: dict[str, Any], data: st.DataObject
) -> None:
    try:
        space = space_of(small(kind, stem={"channels": stem}, stages=stages), 33)
    except InputError as error:
        assert "groups" in str(error)
        assume(False)
    architecture = space.decode(data.draw(parameter_sets(space)))
    assert space.decode(space.encode(architecture)) == architecture


def test_a_network_with_millions_of_spellings_is_encoded() -> None:
    words = ["conv3", "conv3/g1", "conv3/g2", "conv3/g4"]
    kind = {"branches": 3, "depth": 4, "layers": words, "widths": [0.01, 1], "share": "stage"}
    stage = {"modules": 1, "channels": 16, "stride": 2, "module": "m"}
    space = space_of(small(kind, stages=[stage]))
    # One hidden channel: all four words come to the same in 3 branches of 4 layers, 4**12.
    architecture = space.decode(space.own())
    assert {
        layer.groups for m in architecture.modules for b in m.branches for layer in b.layers
    } == {1}
    assert space.decode(space.encode(architecture)) == architecture


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
        "the space has 2 stages, the architecture 1",
    ),
    "modules": (
        tiny_network(rest=[WIDE, NEXT, NEXT]),
        "stage2.modules must be one of [1, 2], got 3",
    ),
    "kernel": (
        tiny_network(first=module([conv(5, 16)], channels=16, shortcut="identity")),
        "stage1.module1: no choice of layers gives branch 1: conv5(16)",
    ),
    "kernel of the second branch": (
        tiny_network(first=module([conv(1, 16)], [conv(1, 32), conv(7, 16, 1, 2)], channels=16)),
        "stage1.module1: no choice of layers gives branch 2: pw(32) - conv7/g2(16)",
    ),
    "groups": (
        tiny_network(first=module([conv(3, 16, groups=2)], channels=16, shortcut="identity")),
        "stage1.module1: no choice of layers gives branch 1: conv3/g2(16)",
    ),
    "hidden width": (
        tiny_network(first=module([conv(1, 24), conv(1, 16)], channels=16, shortcut="identity")),
        "stage1.module1: no choice of layers gives branch 1: pw(24) - pw(16)",
    ),
    "depth": (
        tiny_network(first=module([conv(1, 16)] * 4, channels=16, shortcut="identity")),
        "stage1.module1: no choice of layers gives branch 1: pw(16) - pw(16) - pw(16) - pw(16)",
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
        "stage2.module2: no choice of layers gives branch 1: conv3(32)/2",
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
