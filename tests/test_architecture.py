"""Architectures: canonical forms, ids, JSON both ways, and what is refused."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces import conv, module, network, parameter_sets, pool, space_of, written

from collabdesign.design.architecture import Architecture, Branch, Head, Layer, Stem
from collabdesign.errors import InputError


def example() -> Architecture:
    """Every feature once: branches of all kinds, concat, attention, all three shortcuts."""
    first = module(
        [conv(1, 16), conv(3, 16, 2, 16), conv(1, 24)],
        [pool(3, 8, 2), conv(1, 24)],
        channels=24,
        stride=2,
        shortcut="projection",
        attention="squeeze_excite",
        activation="hardswish",
        output="linear",
    )
    second = module(
        [conv(1, 8)],
        [conv(1, 12, groups=4), conv(3, 16)],
        channels=24,
        stage=1,
        shortcut="identity",
        join="concat",
    )
    third = module([conv(5, 24)], channels=24, stage=1)
    return network(first, second, third, stem=Stem(3, 2, 8, "silu"), features=32)


SPACE = space_of(written("mixed"))


# -- canonical forms ------------------------------------------------------------------------------


def test_the_order_of_added_branches_does_not_matter() -> None:
    a, b, c = [conv(1, 8)], [conv(3, 8)], [conv(1, 4), conv(3, 8)]
    one, other = network(module(a, b, c, channels=8)), network(module(c, a, b, channels=8))
    assert one == other
    assert one.id == other.id
    assert hash(one) == hash(other)


def test_the_order_of_concatenated_branches_matters() -> None:
    one = network(module([conv(1, 4)], [conv(3, 4)], channels=8, join="concat"))
    other = network(module([conv(3, 4)], [conv(1, 4)], channels=8, join="concat"))
    assert one != other
    assert one.id != other.id


def test_one_branch_joins_by_add() -> None:
    alone = module([conv(3, 8)], channels=8, join="concat")
    assert alone.join == "add"
    assert alone == module([conv(3, 8)], channels=8)


@pytest.mark.parametrize("layers", [[conv(3, 8)], [pool(3, 8)], [pool(3, 8), conv(1, 8)]])
def test_an_activation_that_nothing_uses_is_relu(layers: list[Layer]) -> None:
    unused = module(layers, channels=8, output="linear", activation="silu")
    assert unused.activation == "relu"


@pytest.mark.parametrize(
    ("layers", "output"),
    [([conv(3, 8)], "activated"), ([conv(1, 8), pool(3, 8)], "linear")],
)
def test_an_activation_that_is_used_stays(layers: list[Layer], output: str) -> None:
    used = module(layers, channels=8, output=output, activation="silu")
    assert used.activation == "silu"


def test_a_head_without_features_has_no_activation_to_choose() -> None:
    assert Head(0, "gelu") == Head(0, "relu")
    assert Head(8, "gelu").activation == "gelu"


def test_lists_become_tuples() -> None:
    assert hash(Branch([conv(3, 8)])) == hash(Branch((conv(3, 8),)))  # type: ignore[arg-type]
    listed = replace(example(), modules=list(example().modules))  # type: ignore[arg-type]
    assert listed == example()
    assert hash(listed) == hash(example())


def test_an_architecture_cannot_be_edited() -> None:
    with pytest.raises(FrozenInstanceError):
        example().resolution = 16  # type: ignore[misc]


# -- ids ------------------------------------------------------------------------------------------


def test_ids_are_stable() -> None:
    # Stored in every run: if this changes, the trainings of old runs are not found again.
    assert network(module([conv(3, 8)], channels=8)).id == "a2b26008fc28"


def test_an_id_is_12_hexadecimal_digits() -> None:
    assert len(example().id) == 12
    assert int(example().id, 16) >= 0


def every_change(value: Any) -> list[Any]:
    """What one scalar of the dictionary form could be instead."""
    words = {
        "conv": ["pool"],
        "pool": ["conv"],
        "none": ["squeeze_excite", "projection", "identity"],
        "squeeze_excite": ["none"],
        "identity": ["none", "projection"],
        "projection": ["none", "identity"],
        "add": ["concat"],
        "concat": ["add"],
        "activated": ["linear"],
        "linear": ["activated"],
    }
    if isinstance(value, str):
        return words.get(value, ["relu", "hardswish", "silu", "gelu"])
    return [value + 1, value - 1, value + 2, value * 2, value // 2, 1, 2]


def scalars(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(data, dict):
        return [p for key, value in data.items() for p in scalars(value, (*path, key))]
    if isinstance(data, list):
        return [p for i, value in enumerate(data) for p in scalars(value, (*path, i))]
    return [path]


def with_value(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(data)
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return changed


def value_at(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


def test_whatever_changes_gives_another_id_or_is_refused() -> None:
    data = example().to_dict()
    seen = {example().id: "the example"}
    changed = set()
    for path in scalars(data):
        for value in dict.fromkeys(every_change(value_at(data, path))):
            if value == value_at(data, path) or path == ("modules", 2, "join"):
                continue  # one branch alone has no join to change
            try:
                other = Architecture.from_dict(with_value(data, path, value))
            except InputError:
                continue
            if path == ("modules", 2, "stage") and value == 3:
                assert seen[other.id] == f"{path} = 2", "a gap between stages is closed"
                continue
            assert other.id not in seen, f"{path} = {value!r} has the id of {seen[other.id]}"
            seen[other.id] = f"{path} = {value!r}"
            changed.add(path[-1])
    assert changed == {
        *("input_channels", "resolution", "classes"),
        *("kernel", "stride", "channels", "activation", "features"),
        *("stage", "shortcut", "attention", "output", "groups", "op"),
    }  # another join does not fit the shapes of the example


def test_equal_ids_mean_equal_architectures() -> None:
    assert example() == example()
    assert example() is not example()
    assert example().id == example().id


# -- JSON -----------------------------------------------------------------------------------------


@given(parameter_sets(SPACE))
@settings(max_examples=60, deadline=None)
def test_json_both_ways(params: dict[str, Any]) -> None:
    architecture = SPACE.decode(params)
    back = Architecture.from_dict(json.loads(json.dumps(architecture.to_dict())))
    assert back == architecture
    assert back.id == architecture.id


def test_from_dict_leaves_its_argument_alone() -> None:
    data = example().to_dict()
    before = copy.deepcopy(data)
    Architecture.from_dict(data)
    assert data == before


def test_another_spelling_reads_as_the_canonical_form() -> None:
    data = example().to_dict()
    data["modules"][0]["branches"].reverse()
    assert Architecture.from_dict(data) == example()


# -- refusals -------------------------------------------------------------------------------------


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "groups that do not divide the input": (
        lambda: network(module([conv(3, 12, groups=3)], channels=12)),
        "module 1: groups must divide 8 input and 12 output channels, got 3",
    ),
    "groups that do not divide the output": (
        lambda: network(module([conv(3, 10, groups=4)], channels=10)),
        "module 1: groups must divide 8 input and 10 output channels, got 4",
    ),
    "groups inside a branch of a later module": (
        lambda: network(
            module([conv(3, 8)], channels=8), module([conv(1, 6), conv(3, 8, groups=4)], channels=8)
        ),
        "module 2: groups must divide 6 input and 8 output channels, got 4",
    ),
    "a pool that changes the channels": (
        lambda: network(module([pool(3, 16)], channels=16)),
        "module 1: a pool layer keeps its 8 channels, got 16",
    ),
    "added branches of different widths": (
        lambda: module([conv(1, 8)], [conv(1, 4)], channels=8),
        "added branches all end in the module's 8 channels, got [4, 8]",
    ),
    "one branch of another width": (
        lambda: module([conv(1, 4)], channels=8),
        "added branches all end in the module's 8 channels, got [4]",
    ),
    "concatenated branches that do not sum up": (
        lambda: module([conv(1, 4)], [conv(1, 8)], channels=8, join="concat"),
        "concatenated branches sum to the module's 8 channels, got 12",
    ),
    "identity over another width": (
        lambda: network(module([conv(1, 16)], channels=16, shortcut="identity")),
        "module 1: an identity shortcut needs equal shapes on both ends, got 8 to 16 channels at "
        "stride 1",
    ),
    "identity over a stride": (
        lambda: network(module([conv(3, 8, 2)], channels=8, stride=2, shortcut="identity")),
        "module 1: an identity shortcut needs equal shapes on both ends, got 8 to 8 channels at "
        "stride 2",
    ),
    "a branch with another stride": (
        lambda: module([conv(3, 8, 2)], [conv(3, 8)], channels=8, stride=2),
        "every branch of a module reduces by its stride 2, got 1",
    ),
    "a branch that strides twice": (
        lambda: module([conv(3, 8, 2), conv(3, 8, 2)], channels=8, stride=2),
        "every branch of a module reduces by its stride 2, got 4",
    ),
    "no branch": (lambda: module(channels=8), "a module has 1 to 3 branches, got 0"),
    "four branches": (
        lambda: module(*[[conv(1, 8)]] * 4, channels=8),
        "a module has 1 to 3 branches, got 4",
    ),
    "a branch without layers": (lambda: Branch(()), "a branch has 1 to 4 layers, got 0"),
    "five layers": (
        lambda: Branch((conv(1, 8),) * 5),
        "a branch has 1 to 4 layers, got 5",
    ),
    "no module": (network, "an architecture has at least one module"),
    "stages that fall": (
        lambda: network(
            module([conv(1, 8)], channels=8, stage=1), module([conv(1, 8)], channels=8, stage=0)
        ),
        "module 2: stages must not fall",
    ),
    "an even kernel": (lambda: conv(2, 8), "layer kernel must be an odd whole number, got 2"),
    "a pool of one": (
        lambda: pool(1, 8),
        "a pool layer has a kernel of at least 3, got 1",
    ),
    "a pool with groups": (
        lambda: Layer("pool", 3, 1, 2, 8),
        "a pool layer has groups 1, got 2",
    ),
    "an even stem": (lambda: Stem(4, 1, 8), "stem kernel must be an odd whole number, got 4"),
    "negative features": (
        lambda: Head(-1),
        "head features must be a whole number of at least 0, got -1",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    build, message = REFUSED[name]
    with pytest.raises(InputError) as caught:
        build()
    assert str(caught.value) == message


WRONG = [
    None, True, False, 1.0, 2.5, math.nan, math.inf, "1", "", "no such word", [], {}, [1], -1,
    b"conv",
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_a_wrong_value_is_refused_wherever_it_stands(wrong: Any) -> None:
    data = example().to_dict()
    for path in [*scalars(data), ("stem",), ("head",), ("modules",), ("modules", 0)]:
        with pytest.raises(InputError) as caught:
            Architecture.from_dict(with_value(data, path, wrong))
        assert "Error" not in str(caught.value), "a message in words"


@pytest.mark.parametrize("path", [p for p in scalars(example().to_dict()) if p[-1] != "stage"])
def test_zero_is_refused_but_for_features(path: tuple[Any, ...]) -> None:
    changed = with_value(example().to_dict(), path, 0)
    if path == ("head", "features"):
        assert Architecture.from_dict(changed).head.features == 0
    else:
        with pytest.raises(InputError):
            Architecture.from_dict(changed)


@pytest.mark.parametrize("wrong", [None, 1, "architecture", [], [{}], math.nan], ids=repr)
def test_what_is_no_mapping_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="an architecture must be a mapping, got "):
        Architecture.from_dict(wrong)


HOLDERS = {
    "an architecture": (),
    "stem": ("stem",),
    "head": ("head",),
    "module 1": ("modules", 0),
    "module 1: a layer": ("modules", 0, "branches", 0, 0),
}


@pytest.mark.parametrize(("name", "path"), HOLDERS.items())
def test_a_missing_or_unknown_key_is_refused(name: str, path: tuple[Any, ...]) -> None:
    data = example().to_dict()
    keys = list(value_at(data, path))
    for key in keys:
        broken = copy.deepcopy(data)
        del value_at(broken, path)[key]
        with pytest.raises(InputError) as caught:
            Architecture.from_dict(broken)
        left = [k for k in keys if k != key]
        message = str(caught.value)
        assert message.startswith(f"{name} must have the keys ")
        assert message.endswith(f", got {', '.join(left)}")
    broken = copy.deepcopy(data)
    value_at(broken, path)["flops"] = 1
    with pytest.raises(InputError, match=r"must have the keys .*, flops$"):
        Architecture.from_dict(broken)


def test_another_version_is_refused() -> None:
    with pytest.raises(InputError, match=r"^version must be 1, got 2$"):
        Architecture.from_dict({**example().to_dict(), "version": 2})


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.sampled_from([*scalars(example().to_dict()), *HOLDERS.values()]), JUNK)
@settings(max_examples=150, deadline=None)
def test_junk_gives_nothing_but_an_input_error(path: tuple[Any, ...], junk: Any) -> None:
    try:
        Architecture.from_dict(with_value(example().to_dict(), path, junk) if path else junk)
    except InputError as error:
        assert str(error)
