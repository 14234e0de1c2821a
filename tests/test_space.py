"""Design spaces: parameter sets, and the ways through a space."""

from __future__ import annotations

from collections import Counter
from math import sqrt
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces import (
    ALL_SPACES,
    SHIPPED,
    SPACES,
    conv,
    module,
    network,
    parameter_sets,
    small,
    space_of,
    written,
)

from collabdesign.design.architecture import Architecture, Stem
from collabdesign.design.cost import cost_of
from collabdesign.design.slots import Parameter
from collabdesign.design.space import DesignSpace
from collabdesign.errors import InputError, OutsideSpace

# -- decode and complete ------------------------------------------------------------------------


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
    space, module = ALL_SPACES["branches"], "stage1.module1"
    params = {
        f"{module}.branches": 3,
        f"{module}.join": "concat",
        f"{module}.branch2.layer1": "dw3",
        f"{module}.attention": "squeeze_excite",
    }
    assert space.decode(space.complete(params)).id == "07cd9f7c951d"


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


def test_complete_gives_own_values_to_what_is_missing() -> None:
    space = SPACES["residual"]
    assert space.complete({}) == space.own()
    two = space.complete({"stage1.design.branches": 2})
    assert two["stage1.design.join"] == "add"
    assert two["stage1.design.branch2.depth"] == 4
    assert {k: v for k, v in two.items() if "branch2" not in k and "join" not in k} == {
        **space.own(),
        "stage1.design.branches": 2,
    }


def test_a_space_must_hold_together() -> None:
    with pytest.raises(InputError) as caught:
        space_of(written("mobile"), 31)
    assert str(caught.value) == (
        "prototype.stages.3.stride: the strides up to here reduce the 31x31 input by 32, to 0x0; "
        "at most 31 is possible"
    )


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


# -- stages that may be left out --------------------------------------------------------------


def test_a_stage_without_modules_is_left_out() -> None:
    space = ALL_SPACES["stages"]
    params = space.complete({"stage1.modules": 0, "stage3.modules": 1})
    # What a stage that is left out would choose is not asked.
    assert [name for name in params if name.startswith("stage1")] == ["stage1.modules"]
    architecture = space.decode(params)
    assert [module.stage for module in architecture.modules] == [0, 1]
    assert [module.stride for module in architecture.modules] == [1, 2]
    assert space.encode(architecture) == params


def test_the_same_network_by_another_stage_is_the_same() -> None:
    """Stem, one module of 8 channels: the first stage or the second could give it."""
    kind = {"depth": 1, "layers": ["pw", "conv3"]}
    stage = {"modules": [1, 0], "channels": 8, "module": "m"}
    fixed = {"modules": 1, "channels": 8, "module": "m"}
    space = space_of(small(kind, stages=[stage, fixed, stage]))
    ids = {
        space.decode(space.complete({"stage1.modules": first, "stage3.modules": 1 - first})).id
        for first in (0, 1)
    }
    assert len(ids) == 1


def test_one_stage_must_always_be_there() -> None:
    stage = {"modules": [1, 0], "channels": 8, "module": "m"}
    with pytest.raises(InputError, match="at least one stage must always have a module"):
        space_of(small({"depth": 1, "layers": "pw"}, stages=[stage, stage]))


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


def plateau() -> DesignSpace:
    """Five modules of two branches that all can need the most memory; the last ones need little."""
    module = {
        "branches": [2, 1],
        "depth": 3,
        "layers": [["pw"], ["dw3", "dw5"], ["pw"]],
        "widths": [4, 1, 2],
    }
    stages = [
        {"modules": 5, "channels": 16, "module": "m"},
        {"modules": [2, 1], "stride": 2, "channels": [12, 8], "module": "last"},
    ]
    last = {"depth": [2, 1], "layers": ["dw3", "pw"], "activation": ["relu", "silu"]}
    modules = {"m": module, "last": last}
    return space_of(small({}, stem={"channels": 16}, stages=stages, modules=modules), 16)


def peak(architecture: Architecture) -> int:
    return cost_of(architecture).peak_activation_bytes


def test_descent_crosses_a_plateau() -> None:
    space = plateau()
    own = space.own()
    # The peak is at 4 times 16 channels in any of ten branches: no parameter alone lowers it.
    for name in own:
        for value in space.parameters[name].values:
            there = space.complete({**own, name: value})
            assert peak(space.decode(there)) >= peak(space.decode(own))
    end = space.descend(own, peak)
    # One branch, width 1: the input, kept for the shortcut, a layer's input and its output.
    assert peak(space.decode(end)) == 4 * (3 * 16 * 256)
    assert space.descend(end, peak) == end


def test_descent_ends_where_it_is_enough_and_not_at_the_smallest() -> None:
    space = plateau()
    limit = 4 * (3 * 16 * 256)

    def excess(architecture: Architecture) -> float:
        return max(0, peak(architecture) / limit - 1)

    own = space.own()
    for enough in (0.0, -1.0):
        end = space.descend(own, excess, enough)
        assert excess(space.decode(end)) == 0
        last = {name: value for name, value in own.items() if name.startswith("stage2")}
        assert last and last.items() <= end.items(), "what needs little memory stays as it is"


def test_descent_ends_where_every_network_scores_the_same() -> None:
    space = SPACES["tiny"]
    assert space.descend(space.own(), lambda _: 1.0) == space.own()
