"""GenerativeSampler: the generator-inquisitor pair of generative synthesis, for any Optuna study.

The generator proposes parameter sets that keep the static limits; the inquisitor predicts what
training would show, and how sure it is; chosen is what is expected to add most to the
hypervolume of the trained front, costs that are known without training counted exactly. The
method is that of Wong et al., FermiNets (arXiv 1809.05989), who find the generator that
maximises U(G(s)) subject to 1_r(G(s)) = 1; here U is the expected hypervolume improvement.
"""

from __future__ import annotations

import math
import threading
import warnings
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import ThreadpoolController

from collabdesign.sampler.acquisition import Acquisition, FitCache
from collabdesign.sampler.axes import Axes
from collabdesign.sampler.generation import (
    Generator,
    NothingFound,
    Proposals,
    StaticObjectives,
    Statics,
    StaticViolations,
)
from collabdesign.sampler.history import History, counts
from collabdesign.sampler.proposal_space import (
    MappedSpace,
    Params,
    ProposalSpace,
    SeenSpace,
    Suggest,
    SuggestedSpace,
    draw,
)

# Before so many observations proposals are spread out; the inquisitor takes over after.
_SPREAD_FIRST = 8

# Proposals weighed for each trial beside the archive, which is spread over the space: the front's
# offspring, and the offspring of the best of these, so many times.
_OFFSPRING = 80
_ROUNDS, _BEST, _CLOSER = 2, 6, 40

# Where a part of a parameter set is fixed, so many are tried around it.
_AROUND = 300


class GenerativeSampler(BaseSampler):
    """Proposes what is expected to gain most hypervolume among what keeps the limits.

    For one objective or several, categorical, integer and float parameters, conditional spaces
    included. A trial that was enqueued (``study.enqueue_trial``) is learnt from like any other. A
    proposal is a function of the seed, the trials finished and running, and how many began before
    it: a search that is killed and resumed goes on as it would have.

    Args:
        space: The whole space, or the function that suggests it, called with a recorder in
            place of a trial. With it no proposal breaks a static limit from the first trial on,
            unless what somebody fixed of a trial leaves nothing that keeps it.
            Without it the space is learned from the trials: then proposals are complete
            parameter sets of a shape that was seen.
        static_violations: Parameters to relative amounts over each hard limit, at most 0 is
            met; known without training.
        static_objectives: Parameters to the study's objective values in the study's order, NaN
            where training has to tell.
        seed: At least 0; drawn where None.

    Both functions are called with complete active parameters, and must be functions of them.
    """

    def __init__(
        self,
        *,
        space: Mapping[str, BaseDistribution] | Suggest | None = None,
        static_violations: StaticViolations | None = None,
        static_objectives: StaticObjectives | None = None,
        seed: int | None = None,
    ) -> None:
        if seed is not None and seed < 0:
            raise ValueError(f"seed must be at least 0, or None, got {seed}")
        self._seed = int(np.random.SeedSequence().entropy) if seed is None else seed  # type: ignore[arg-type]
        # What it is stored and copied as.
        self._made = partial(
            type(self),
            space=space,
            static_violations=static_violations,
            static_objectives=static_objectives,
            seed=self._seed,
        )
        self._static = (static_violations, static_objectives)
        self._space: ProposalSpace | None = None
        if isinstance(space, Mapping):
            self._space = MappedSpace(space)
        elif space is not None:
            self._space = SuggestedSpace(space)
        self._lock = threading.Lock()
        self._blas = ThreadpoolController()
        # Of the study that it was asked for last.
        self._study: Study | None = None
        self._statics = Statics(None, None, 0)
        self._generator: Generator | None = None
        self._history = History([])
        self._axes: Axes | None = None
        self._fits: FitCache = {}
        self._chosen: dict[tuple[int, int], Params] = {}
        self._expected: dict[int, dict[int, tuple[float, float]]] = {}

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The distributions of the whole proposal, which is made here."""
        # Other threads only make these small matrices slower, the more so on a busy machine.
        with self._lock, self._blas.limit(limits=1, user_api="blas"):
            if self._study is not study:
                self._begin(study)
            trials = study.get_trials(deepcopy=False)
            generator = self._generator_for(trials)
            if generator is None:
                return {}
            params = self._propose(generator, trials, trial)
            self._chosen[id(study), trial.number] = params
            return {name: generator.space.distributions[name] for name in params}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The proposal, as far as it is asked for: a sampler around this one may fix the rest."""
        params = self._chosen.pop((id(study), trial.number), {})
        return {name: value for name, value in params.items() if name in search_space}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A parameter that no proposal had: uniform."""
        failed: set[int] = set()
        before = study.get_trials(deepcopy=False)[: trial.number]
        began = sum(counts(each, failed) for each in before)
        spread = zlib.crc32(param_name.encode())
        return draw(param_distribution, np.random.default_rng([self._seed, 1, began, spread]))

    def expectation(self, number: int) -> dict[int, tuple[float, float]]:
        """What was expected of trial ``number`` of the study that was asked for last: of each
        objective that only training tells, by its place in the study, mean and standard
        deviation; empty before anything was learnt.
        """
        return self._expected.get(number, {})

    def _begin(self, study: Study) -> None:
        """Forget what was read of another study."""
        self._study, self._history, self._axes = study, History(study.directions), None
        self._expected = {}
        count = len(study.directions)
        if self._statics.count != count:
            self._statics = Statics(*self._static, count, learnt=self._space is None)
            self._generator = None

    def _generator_for(self, trials: Sequence[FrozenTrial]) -> Generator | None:
        """None while the trials do not tell yet what the space is, or what of it fits."""
        space = self._space
        if space is None:
            complete = [each for each in trials if each.state == TrialState.COMPLETE]
            space = SeenSpace(complete)
            # The first ones are asked freely: what is never seen is never proposed.
            if len(complete) < _SPREAD_FIRST or not space.distributions:
                return None
            self._generator = None
        if self._generator is None:
            rng = np.random.default_rng([self._seed, 3])
            try:
                self._generator = Generator(space, self._statics, rng)
            except NothingFound:
                if self._space is not None:
                    raise
                return None  # what was not seen yet may fit
            self._axes = None
        return self._generator

    def _propose(
        self, generator: Generator, trials: Sequence[FrozenTrial], trial: FrozenTrial
    ) -> Params:
        history = self._history
        history.read(trials, trial.number, generator)
        rng = np.random.default_rng([self._seed, 2, history.began])
        axes = self._axes
        if axes is None or axes.distributions is not history.met:
            axes = Axes(history.met, self._statics, history.signs, generator.archive)
            self._axes = axes
        axes.keep({each.key: each.params for each in history.observations})
        archive = generator.archive.items()
        pool = {key: each for key, each in archive if key not in history.taken}
        trained = sum(bool(np.isfinite(each.losses).all()) for each in history.observations)
        acquisition = None
        if trained >= _SPREAD_FIRST:
            acquisition = Acquisition(axes, history.observations, history.pending, self._fits)
            params = self._best(generator, pool, acquisition, rng)
        else:
            params = self._furthest(pool, axes)
        if params is None:
            # Something new is left in a corner that nothing came to, or nothing new at all.
            left, again = generator.left_over(history.taken, rng), list(generator.archive.values())
            return again[int(rng.integers(len(again)))] if left is None else left
        fixed = trial.system_attrs.get("fixed_params")
        if fixed:
            params = _around(generator, fixed, params, rng)
        if acquisition is not None:
            self._expected[trial.number] = {
                axis: (float(history.signs[axis]) * mean, deviation)
                for axis, (mean, deviation) in acquisition.expectation(params).items()
            }
        return params

    def _furthest(self, pool: Proposals, axes: Axes) -> Params | None:
        """Of the pool the one that is least like anything tried, costs counted."""
        if not pool:
            return None
        many, observations = list(pool.values()), self._history.observations
        rows, _ = axes.place(pool.items())
        tried, _ = axes.place(
            [*((each.key, each.params) for each in observations), *self._history.pending.items()]
        )
        if not len(tried):
            return many[int(np.argmin(axes.distances(rows, rows).sum(1)))]
        return many[int(np.argmax(axes.distances(rows, tried).min(1)))]

    def _best(
        self,
        generator: Generator,
        pool: Proposals,
        acquisition: Acquisition,
        rng: np.random.Generator,
    ) -> Params | None:
        """What is expected to gain most of the pool, the front's offspring and theirs."""
        taken = self._history.taken
        parents = acquisition.front or list(generator.archive.values())
        pool = pool | generator.offspring(parents, _OFFSPRING, rng, taken | pool.keys())
        if not pool:
            return None
        gains = acquisition.gains(pool)
        for _ in range(_ROUNDS):
            many = list(pool.values())
            best = [many[int(place)] for place in np.argsort(-gains)[:_BEST]]
            more = generator.offspring(best, _CLOSER, rng, taken | pool.keys())
            if more:
                pool = pool | more
                gains = np.concatenate([gains, acquisition.gains(more)])
        return list(pool.values())[int(np.argmax(gains))]

    def __reduce__(self) -> tuple[Any, ...]:
        """What it was made from: a study is read anew."""
        return self._made, ()


def _around(
    generator: Generator, fixed: Mapping[str, Any], params: Params, rng: np.random.Generator
) -> Params:
    """The proposal beside what somebody fixed of this trial, so that the limits are kept; what
    breaks them least, with a warning, where nothing does."""
    if fixed.keys() >= params.keys():
        return generator.space.complete(fixed, rng)
    parents = [params, *generator.archive.values()]
    nearest, least = params, math.inf
    for number in range(_AROUND):
        near = parents[number % len(parents)]
        near = near if number < len(parents) else generator.vary(near, rng)
        whole = generator.space.complete({**near, **fixed}, rng)
        excess = generator.excess(whole)
        if excess <= 0:
            return whole
        if excess <= least:  # also where all are endless
            nearest, least = whole, excess
    warnings.warn(
        "nothing that keeps the static limits was found beside what was fixed of this trial: "
        f"{dict(fixed)}; proposed is what breaks them least",
        stacklevel=2,
    )
    return nearest
