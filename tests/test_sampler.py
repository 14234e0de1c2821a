"""GenerativeSampler on any study: limits, repeats, seeds, rare spaces, and whether it learns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from spaces import space_of, written

from collabdesign.design.cost import cost_of
from collabdesign.explore.front import hypervolume
from collabdesign.sampler.acquisition import Acquisition
from collabdesign.sampler.axes import Axes
from collabdesign.sampler.encoding import Columns, Encoding
from collabdesign.sampler.gain import expected_gain
from collabdesign.sampler.generation import Generator, NothingFound, Statics
from collabdesign.sampler.generator import GenerativeSampler
from collabdesign.sampler.history import Observation
from collabdesign.sampler.inquisitor import Inquisitor, fit
from collabdesign.sampler.proposal_space import (
    MappedSpace,
    SeenSpace,
    SuggestedSpace,
    every,
    key_of,
)

FLAT = {
    "width": IntDistribution(1, 8),
    "depth": IntDistribution(1, 4),
    "kind": CategoricalDistribution(["a", "b", "c"]),
    "rate": FloatDistribution(1e-3, 1.0, log=True),
}


def conditional(trial: optuna.trial.BaseTrial) -> None:
    """Each layer has parameters of its own, and so has one kind of it."""
    for layer in range(trial.suggest_int("layers", 1, 4)):
        if trial.suggest_categorical(f"kind{layer}", ["conv", "pool"]) == "conv":
            trial.suggest_int(f"width{layer}", 8, 64, step=8)


def cost(params: dict[str, Any]) -> float:
    return float(sum(value for name, value in params.items() if name.startswith("width")))


def run(
    sampler: GenerativeSampler,
    suggest: Callable[[optuna.Trial], Any],
    values: Callable[[dict[str, Any]], list[float]],
    trials: int,
    directions: tuple[str, ...] = ("maximize", "minimize"),
    study: optuna.Study | None = None,
) -> optuna.Study:
    study = study or optuna.create_study(directions=list(directions), sampler=sampler)
    study.sampler = sampler
    for _ in range(trials):
        trial = study.ask()
        suggest(trial)
        study.tell(trial, values(trial.params))
    return study


def suggest_flat(trial: optuna.Trial) -> None:
    for name, each in FLAT.items():
        trial._suggest(name, each)


def good(params: dict[str, Any]) -> float:
    return params["width"] + 2 * (params["kind"] == "b") - abs(math.log10(params["rate"]) + 1)


# Where it begins


def enqueued_first(wish: dict[str, Any] | None, seed: int) -> list[float]:
    """The best of 30 choices of five, summed, after each trial; the wish is enqueued."""
    space = {f"p{number}": CategoricalDistribution(range(5)) for number in range(30)}
    study = optuna.create_study(
        direction="maximize", sampler=GenerativeSampler(space=space, seed=seed)
    )
    if wish is not None:
        study.enqueue_trial(wish)
    found = []
    for _ in range(20):
        trial = study.ask(space)
        found.append(float(sum(trial.params.values())))
        study.tell(trial, found[-1])
    assert len({tuple(sorted(trial.params.items())) for trial in study.trials}) == 20
    return [max(found[: count + 1]) for count in range(20)]


def test_a_good_enqueued_trial_is_built_on_and_a_poor_one_does_no_harm() -> None:
    """The largest sum is 120; a random one is 60, the enqueued ones are 90 and 0."""
    good, poor, none = (
        np.mean([enqueued_first(wish, seed) for seed in range(4)], axis=0)
        for wish in (
            {f"p{number}": 3 for number in range(30)},
            {f"p{number}": 0 for number in range(30)},
            None,
        )
    )
    assert good[0] == 90 and poor[0] == 0
    assert good[9] > none[9] + 3 and good[9] > 90  # begun from, and improved on
    assert min(good[-1], poor[-1]) > none[-1] - 3 > 110


def test_the_ends_of_known_costs_are_in_reach_from_the_start() -> None:
    """The product of ten widths: a random one lies far from both ends."""
    space = {f"w{number}": IntDistribution(1, 16) for number in range(10)}

    def size(params: dict[str, Any]) -> float:
        return float(sum(math.log2(value) for value in params.values()))

    rng = np.random.default_rng(0)
    statics = Statics(None, lambda params: [math.nan, 2 ** size(params)], 2)
    sizes = [size(each) for each in Generator(MappedSpace(space), statics, rng).archive.values()]
    drawn = [size(MappedSpace(space).sample(rng)) for _ in range(300)]
    assert min(sizes) < min(drawn)
    assert max(sizes) > max(drawn)


@pytest.mark.parametrize("wish", [{"layers": 1, "kind0": "conv", "width0": 8}, {"layers": 4}])
def test_functions_get_whole_sets_whatever_trials_were_left_half_asked(
    wish: dict[str, Any],
) -> None:
    """A trial pruned between two suggestions, others that wait, one asked for over the limit."""

    def size(params: dict[str, Any]) -> float:
        kinds = [params[f"kind{layer}"] for layer in range(params["layers"])]
        return sum(params[f"width{n}"] for n, kind in enumerate(kinds) if kind == "conv") + 1.0

    study = optuna.create_study(
        directions=["maximize", "minimize"],
        sampler=GenerativeSampler(
            space=conditional,
            static_violations=lambda params: [size(params) / 100 - 1],
            static_objectives=lambda params: [math.nan, size(params)],
            seed=0,
        ),
    )
    for width in (64, 56, 48):
        study.enqueue_trial({**wish, **{f"kind{n}": "conv" for n in range(4)}, "width1": width})

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        if trial.number % 5 == 3:
            trial.suggest_int("layers", 1, 4)
            raise optuna.TrialPruned
        conditional(trial)
        return math.log(size(trial.params)), size(trial.params)

    study.optimize(objective, 25)
    proposed = [t for t in study.trials[3:] if t.state == TrialState.COMPLETE]
    assert len(proposed) == 17  # of 22, five were pruned
    assert max(size(trial.params) for trial in proposed) <= 100
    assert len({tuple(sorted(trial.params.items())) for trial in proposed}) == 17


# Limits


def test_a_static_limit_is_never_broken_from_the_first_trial_on() -> None:
    asked: list[dict[str, Any]] = []

    def violations(params: dict[str, Any]) -> list[float]:
        asked.append(params)
        return [cost(params) / 40 - 1, 16 / max(1, cost(params)) - 1]

    sampler = GenerativeSampler(space=conditional, static_violations=violations, seed=0)
    study = run(sampler, conditional, lambda params: [cost(params), len(params)], 30)
    assert all(16 <= cost(trial.params) <= 40 for trial in study.trials)
    # Complete and active: what the function itself would have asked for.
    for params in asked:
        fixed = optuna.trial.FixedTrial(params)
        conditional(fixed)
        assert fixed.params == params


@pytest.mark.parametrize("seed", range(3))
def test_what_fits_one_time_in_a_hundred_thousand_is_found(seed: int) -> None:
    space = space_of(written("residual"))
    lowest = cost_of(space.decode(space.descend(space.own(), lambda a: cost_of(a).macs))).macs
    rng = np.random.default_rng(seed)
    drawn = sorted(cost_of(space.decode(space.sample(rng))).macs for _ in range(1000))
    limit = math.sqrt(lowest * drawn[0])  # Below all of a thousand, nearer to the least.
    calls = itertools.count()

    def violations(params: dict[str, Any]) -> list[float]:
        next(calls)
        return [cost_of(space.decode(params)).macs / limit - 1]

    sampler = GenerativeSampler(space=space.suggest, static_violations=violations, seed=seed)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    params = space.suggest(study.ask())
    assert next(calls) <= 2000
    assert cost_of(space.decode(params)).macs <= limit


def test_what_is_found_covers_the_inside_of_the_limits() -> None:
    # 12 dice, together at most 20: 0.005 % of all throws, of which many are spread out.
    space = MappedSpace({f"die{number}": IntDistribution(1, 6) for number in range(12)})

    def violations(params: dict[str, Any]) -> list[float]:
        return [sum(params.values()) / 20 - 1]

    archives = []
    for seed in range(8):
        generator = Generator(space, Statics(violations, None, 1), np.random.default_rng(seed))
        archives += generator.archive.values()
    assert all(sum(params.values()) <= 20 for params in archives)
    for number in range(12):
        values = [params[f"die{number}"] for params in archives]
        # Uniform over what fits, a die shows 1 in about 60 %, and above 3 in about 5 %.
        assert 0.4 < np.mean(np.array(values) == 1) < 0.75
        assert max(values) >= 4


def test_nothing_that_fits_is_an_error_that_says_so() -> None:
    sampler = GenerativeSampler(space=FLAT, static_violations=lambda _: [1.0], seed=0)
    with pytest.raises(NothingFound, match="must leave something of the space"):
        run(sampler, suggest_flat, lambda params: [0, 0], 1)


# Repeats


def test_every_network_of_a_small_space_once_then_repeats() -> None:
    space = {"a": IntDistribution(1, 4), "b": CategoricalDistribution(["x", "y", "z"])}

    def suggest(trial: optuna.Trial) -> None:
        for name, each in space.items():
            trial._suggest(name, each)

    def violations(params: dict[str, Any]) -> list[float]:
        return [1.0 if params["a"] == 4 else -1.0]

    sampler = GenerativeSampler(space=space, static_violations=violations, seed=0)
    study = run(sampler, suggest, lambda params: [params["a"], -params["a"]], 12)
    met = [tuple(trial.params.items()) for trial in study.trials]
    assert len(set(met[:9])) == 9
    assert len(set(met)) == 9


def test_every_parameter_set_can_be_counted() -> None:
    assert len(list(every(SuggestedSpace(conditional)))) == sum(9**layers for layers in range(1, 5))
    assert not list(every(MappedSpace(FLAT)))  # A number among them is continuous.


def test_what_runs_elsewhere_is_not_proposed_again() -> None:
    sampler = GenerativeSampler(space=FLAT, seed=0)
    study = run(sampler, suggest_flat, lambda params: [good(params), params["width"]], 12)
    waiting = [study.ask() for _ in range(6)]
    for trial in waiting:
        suggest_flat(trial)
    assert len({tuple(trial.params.items()) for trial in waiting}) == 6


# Without the space


def test_without_the_space_shapes_are_learnt() -> None:
    sampler = GenerativeSampler(seed=0)
    study = run(sampler, conditional, lambda params: [cost(params), len(params)], 25)
    for trial in study.trials:
        fixed = optuna.trial.FixedTrial(trial.params)
        conditional(fixed)
        assert fixed.params == trial.params
    space = SeenSpace(study.trials)
    rng = np.random.default_rng(0)
    shapes = {frozenset(trial.params) for trial in study.trials}
    assert {frozenset(space.sample(rng)) for _ in range(50)} <= shapes


# Seeds


def seen(params: dict[str, Any]) -> list[float]:
    return [good(params), float(params["width"])]


def objectives_known(params: dict[str, Any]) -> list[float]:
    return [math.nan, float(params["width"])]


@pytest.mark.parametrize("known", [True, False])
def test_one_seed_one_search_also_when_it_was_killed(known: bool) -> None:
    def made(seed: int) -> GenerativeSampler:
        if not known:
            return GenerativeSampler(seed=seed)
        return GenerativeSampler(
            space=FLAT,
            static_objectives=objectives_known,
            static_violations=lambda params: [params["width"] * params["depth"] / 20 - 1],
            seed=seed,
        )

    whole = run(made(3), suggest_flat, seen, 30)
    again = run(made(3), suggest_flat, seen, 17)
    killed = again.ask()
    suggest_flat(killed)
    again.tell(killed, state=TrialState.FAIL)
    run(made(3), suggest_flat, seen, 13, study=again)
    wanted = [trial.params for trial in whole.trials]
    got = [trial.params for trial in again.trials if trial.state == TrialState.COMPLETE]
    assert got == wanted
    other = run(made(4), suggest_flat, seen, 3)
    assert [trial.params for trial in other.trials] != wanted[:3]


# Whether it learns


def best_of(sampler: optuna.samplers.BaseSampler, trials: int) -> float:
    study = optuna.create_study(directions=["maximize"], sampler=sampler)
    rng = np.random.default_rng(0)
    for _ in range(trials):
        trial = study.ask()
        suggest_flat(trial)
        study.tell(trial, good(trial.params) + 0.1 * rng.standard_normal())
    return max(good(trial.params) for trial in study.trials)


def test_one_objective_is_optimised() -> None:
    found = [best_of(GenerativeSampler(space=FLAT, seed=seed), 30) for seed in range(4)]
    luck = [best_of(optuna.samplers.RandomSampler(seed=seed), 30) for seed in range(4)]
    assert min(found) > 9.7  # The best there is: 10.
    assert np.median(found) > np.median(luck)


def test_searches_leave_their_first_explanation() -> None:
    found = [best_of(GenerativeSampler(space=FLAT, seed=seed), 30) for seed in range(4, 16)]
    assert min(found) > 9.7


def test_constraints_that_training_tells_are_learnt() -> None:
    sampler = GenerativeSampler(space=FLAT, seed=0)
    study = optuna.create_study(directions=["maximize"], sampler=sampler)
    for _ in range(40):
        trial = study.ask()
        suggest_flat(trial)
        trial.set_constraint("slow", trial.params["width"] - 5.5)
        study.tell(trial, good(trial.params))
    late = [trial.params["width"] <= 6 for trial in study.trials[20:]]
    assert np.mean(late) > 0.8  # Above 6 are the best values of the objective.
    assert max(good(t.params) for t in study.trials if t.params["width"] <= 5) > 6.5  # of 7


def test_dead_networks_and_pruned_trials_do_no_harm() -> None:
    def gained(sampler: optuna.samplers.BaseSampler, seed: int) -> float:
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        rng = np.random.default_rng(seed)
        for number in range(40):
            trial = study.ask()
            suggest_flat(trial)
            if number % 10 == 3:
                study.tell(trial, state=TrialState.PRUNED)
            else:
                dead = rng.random() < 0.05
                study.tell(trial, [-9.0 if dead else good(trial.params), trial.params["width"]])
        points = [(-trial.values[0], trial.values[1]) for trial in study.trials if trial.values]
        return hypervolume(np.array(points), (9.0, 9.0))

    learnt, luck = [], []
    for seed in range(4):
        learnt.append(
            gained(
                GenerativeSampler(space=FLAT, static_objectives=objectives_known, seed=seed), seed
            )
        )
        luck.append(gained(optuna.samplers.RandomSampler(seed=seed), seed))
    assert np.median(learnt) > np.median(luck)


def inquisitor_of(rows: np.ndarray, columns: Columns, targets: np.ndarray) -> Inquisitor:
    return Inquisitor(rows, columns, targets, fit(rows, columns, targets)[0])


def test_the_inquisitor_knows_smooth_structure_and_how_sure_it_is() -> None:
    rng = np.random.default_rng(0)

    def truth(x: np.ndarray) -> np.ndarray:
        return 2 * x[:, 0] + np.sin(4 * x[:, 1]) + 2 * x[:, 2] * x[:, 3]

    seen, fresh = rng.random((80, 20)), rng.random((300, 20))
    targets = truth(seen) + 0.1 * rng.standard_normal(80)
    targets[:3] += 30  # Dead networks.
    mean, deviation = inquisitor_of(seen, Columns(tuple(range(20)), (20,) * 20), targets).predict(
        fresh
    )
    rest = mean - truth(fresh)
    assert 1 - (rest**2).mean() / truth(fresh).var() > 0.5
    assert (np.abs(rest) < 2 * deviation).mean() > 0.85


def test_one_dead_network_tells_nothing_of_its_neighbours() -> None:
    rng = np.random.default_rng(1)
    seen, fresh = rng.random((60, 5)), rng.random((300, 5))
    alone = Columns(tuple(range(5)), (5,) * 5)

    def missed(targets: np.ndarray) -> float:
        return float(
            np.abs(inquisitor_of(seen, alone, targets).predict(fresh)[0] - fresh @ W).mean()
        )

    W = np.array([2.0, 1.0, 0.5, 0.2, 0.0])
    targets = seen @ W + 0.05 * rng.standard_normal(60)
    sound = missed(targets)
    targets[[7, 21, 40]] = 9.0
    assert missed(targets) < 1.5 * sound


def test_where_most_are_alike_the_others_are_no_outliers() -> None:
    rng = np.random.default_rng(3)
    seen = rng.random((60, 2))
    targets = np.where(seen[:, 0] < 0.2, 0.5, 0.0)  # most reach 100 %
    fresh = np.array([[0.05, 0.5], [0.9, 0.5]])
    bad, sound = inquisitor_of(seen, Columns((0, 1), (2, 2)), targets).predict(fresh)[0]
    assert bad > 0.3 and abs(sound) < 0.1


@pytest.mark.parametrize("dead", [7, 12])  # 12 and 20 %
def test_many_dead_networks_do_not_hide_the_living(dead: int) -> None:
    found = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        seen, fresh = rng.random((60, 4)), rng.random((200, 4))
        targets = 0.1 + 0.03 * seen[:, 0]
        targets[rng.permutation(60)[:dead]] = 0.9
        told = inquisitor_of(seen, Columns((0, 1, 2, 3), (4,) * 4), targets).predict(fresh)[0]
        found.append(np.corrcoef(told, fresh[:, 0])[0, 1])
    assert np.median(found) > 0.8


def test_networks_that_die_of_a_choice_tell_so() -> None:
    rng = np.random.default_rng(0)
    seen, fresh = rng.random((60, 4)), rng.random((200, 4))
    dies, will = seen[:, 1] > 0.8, fresh[:, 1] > 0.9
    told = inquisitor_of(
        seen, Columns((0, 1, 2, 3), (4,) * 4), np.where(dies, 0.9, 0.1 + 0.03 * seen[:, 0])
    ).predict(fresh)[0]
    assert told[will].min() > told[fresh[:, 1] < 0.7].max()


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_where_most_reach_the_best_the_cheaper_ones_still_gain(share: float) -> None:
    """All that cost something are at 100 %; what is cheaper and a little worse is on the front."""
    count = 40
    space = {"x": FloatDistribution(0, 1)}
    cheap = round(share * count)
    params = [{"x": (number + 0.5) / count} for number in range(count)]
    dead = count - 2
    statics = Statics(None, lambda one: [math.nan, one["x"]], 2)
    axes = Axes(space, statics, np.array([-1.0, 1.0]), {-1: {"x": 0.0}, -2: {"x": 1.0}})
    observations = [
        Observation(
            key_of(each),
            each,
            np.array([-0.1 if number == dead else -0.9 if number < cheap else -1.0, each["x"]]),
            {},
        )
        for number, each in enumerate(params)
    ]
    acquisition = Acquisition(axes, observations, {}, {})
    assert [each["x"] for each in acquisition.front] == [params[0]["x"], params[cheap]["x"]]
    assert acquisition.gains({0: {"x": 0.005}})[0] > 1e-3


def test_a_constraint_that_few_break_is_learnt() -> None:
    sampler = GenerativeSampler(space=FLAT, seed=0)
    study = optuna.create_study(directions=["maximize"], sampler=sampler)
    for number in range(40):
        # Most are enqueued where it is met, by the same amount.
        if number < 24 and number % 8:
            study.enqueue_trial({"width": 1 + number % 4, "depth": 1, "kind": "abc"[number % 3]})
        trial = study.ask()
        suggest_flat(trial)
        trial.set_constraint("slow", 2.0 if trial.params["width"] > 5 else -0.5)
        study.tell(trial, good(trial.params))
    late = [trial.params["width"] for trial in study.trials[28:]]
    assert sum(width > 5 for width in late) <= 3
    assert 5 in late  # The best that there is left.


def test_parameters_whose_names_differ_by_a_number_are_learnt_together() -> None:
    kinds = CategoricalDistribution(["a", "b", "c"])
    places = range(24)
    rng = np.random.default_rng(2)

    def missed(name_of: Callable[[int], str]) -> float:
        encoding = Encoding({name_of(place): kinds for place in places})
        chosen = [[kinds.choices[i] for i in rng.integers(3, size=24)] for _ in range(230)]
        rows = encoding.rows([{name_of(place): each[place] for place in places} for each in chosen])
        loss = np.array([-each.count("b") for each in chosen]) + 0.5 * rng.standard_normal(230)
        told = inquisitor_of(rows[:30], encoding.columns, loss[:30]).predict(rows[30:])[0]
        return float(np.abs(told - loss[30:]).mean())

    alike = missed(lambda place: f"layer{place}.kind")
    assert alike < 0.6 * missed(lambda place: "abcdefghijklmnopqrstuvwx"[place])


@pytest.mark.parametrize(
    "size, uncertain", [(1, [0]), (2, [0]), (2, [1]), (3, [0]), (3, []), (2, [0, 1]), (3, [0, 2])]
)
def test_the_expected_gain_is_that_of_many_draws(size: int, uncertain: list[int]) -> None:
    rng = np.random.default_rng(size)
    front, points = rng.random((9, size)), rng.random((4, size)) * 0.7
    deviation, bound = np.zeros_like(points), np.full(size, 0.95)
    deviation[:, uncertain] = 0.15
    before = hypervolume(front, bound)
    got = expected_gain(points, deviation, front, bound)
    for point, spread, gain in zip(points, deviation, got, strict=True):
        draws = point + spread * rng.standard_normal((1500, size))
        gains = [hypervolume(np.vstack([front, draw]), bound) - before for draw in draws]
        assert gain == pytest.approx(
            np.mean(gains), abs=4 * np.std(gains) / 38 + 0.06 * gain + 1e-4
        )


def test_costs_are_compared_by_ratios() -> None:
    statics = Statics(None, lambda params: [math.nan, params["width"]], 2)
    ends = {-1: {"width": 1}, -2: {"width": 1000}}
    axes = Axes({"width": IntDistribution(1, 1000)}, statics, np.array([-1.0, 1.0]), ends)
    rows, known = axes.place([(width, {"width": width}) for width in (1, 10, 1000)])
    assert rows[:, -1] == pytest.approx([0, 1 / 3, 1])
    assert np.diff(known[:, 0]) == pytest.approx([math.log(10), math.log(100)])
