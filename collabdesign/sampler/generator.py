"""GenerativeSampler: the generator-inquisitor pair of generative synthesis, for any Optuna study.

The generator proposes parameter sets that keep the static limits; the inquisitor says what
training would show, and how sure it is; chosen is what is expected to add most to the
hypervolume of the trained front, costs that are known without training counted exactly. The
method is that of Wong et al., FermiNets (arXiv 1809.05989), who find the generator that
maximises U(G(s)) subject to 1_r(G(s)) = 1; here U is the expected gain.
"""

from __future__ import annotations

import math
import threading
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import ThreadpoolController

from collabdesign.sampler.belief import Axes, Belief, Fits, History, signs_of
from collabdesign.sampler.encoding import Encoding
from collabdesign.sampler.generation import Generator, NothingFound, StaticViolations
from collabdesign.sampler.proposal_space import (
    MappedSpace,
    Params,
    ProposalSpace,
    SeenSpace,
    Suggest,
    SuggestedSpace,
    draw,
    key_of,
    meet,
)

Floats = NDArray[np.float64]
StaticObjectives = Callable[[Params], Sequence[float]]

# Before so many observations proposals are spread out; the inquisitor takes over after.
_SPREAD_FIRST = 8

# Proposals weighed for each trial: from all over, from the front's offspring, and from the
# offspring of the best of these, so many times.
_FRESH, _OFFSPRING = 48, 80
_ROUNDS, _BEST, _CLOSER = 2, 6, 40

# Where a part of a parameter set is fixed, so many are tried around it.
_AROUND = 300

# Where somebody asked for a parameter set by name (Study.enqueue_trial), they want to see it
# beaten at no more cost: every so many proposals look beside it and beside the best, by small
# changes. The dear end of a front gains little hypervolume below a limit.
_BESIDE_EVERY = 2

# Of these small changes so many are made to all parameters of a kind at once: a person who tries
# another activation mostly tries it everywhere.
_ALIKE = 0.5


class GenerativeSampler(BaseSampler):
    """Proposes what is expected to gain most hypervolume among what keeps the limits.

    For one objective or several, categorical, integer and float parameters, conditional spaces
    included. Where a trial was enqueued (``study.enqueue_trial``), every second proposal looks for
    what is better than all that was seen at no more known cost. A proposal is a function of the
    seed, the trials finished and running, and how many began before it: a search that is killed
    and resumed goes on as it would have.

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
        self._given_space = space
        if seed is not None and seed < 0:
            raise ValueError(f"seed must be at least 0, or None, got {seed}")
        self._seed = int(np.random.SeedSequence().entropy) if seed is None else seed  # type: ignore[arg-type]
        self._space: ProposalSpace | None = None
        if isinstance(space, Mapping):
            self._space = MappedSpace(space)
        elif space is not None:
            self._space = SuggestedSpace(space)
        self._static_violations = static_violations
        self._static_objectives = static_objectives
        self._lock = threading.Lock()
        self._blas = ThreadpoolController()
        self._generator: Generator | None = None
        self._statics: dict[int, Floats] = {}
        self._judged: dict[int, float] = {}
        self._study: Study | None = None
        self._history: History | None = None
        self._met: dict[str, BaseDistribution] = {}
        self._met_in: set[int] = set()
        self._fits: Fits = {}
        self._chosen: dict[tuple[int, int], Params] = {}
        self._parts: dict[int, tuple[str, ...] | None] = {}
        self._expected: dict[int, dict[int, tuple[float, float]]] = {}

    # -- what Optuna asks for ---------------------------------------------------------------

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The distributions of the whole proposal, which is made here."""
        # Other threads only make these small matrices slower, the more so on a busy machine.
        with self._lock, self._blas.limit(limits=1, user_api="blas"):
            params = self._propose(study, trial)
            if params is None:
                return {}
            self._chosen[id(study), trial.number] = params
            distributions = self._require_space().distributions
            return {name: distributions[name] for name in params}

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
        spread = zlib.crc32(param_name.encode())
        rng = np.random.default_rng([self._seed, 1, _index(study, trial), spread])
        return draw(param_distribution, rng)

    # -- for whoever wants to know ----------------------------------------------------------

    def expectation(self, number: int) -> dict[int, tuple[float, float]]:
        """What was expected of trial ``number``: of each objective that only training tells, by
        its place in the study, mean and standard deviation; empty before anything was learnt.
        """
        return self._expected.get(number, {})

    # -- the proposal -----------------------------------------------------------------------

    def _propose(self, study: Study, trial: FrozenTrial) -> Params | None:
        trials = [each for each in _counted(study) if each.number != trial.number]
        index = sum(each.number < trial.number for each in trials)
        rng = np.random.default_rng([self._seed, 2, index])
        if not self._has_space(study, trials):
            return None
        read = self._history if self._study is study else None
        whole = [
            each
            for each in trials
            if (read is not None and read.has_read(each.number)) or self._part_of(each) is not None
        ]
        now = self._situation(study, whole)
        params = None
        if now.asked_for and index % _BESIDE_EVERY == 1:
            params = self._choose(now, rng, to_beat=now.asked_for)
        if params is None:
            # Where nothing fits beside what was asked for, or nothing there gains, too.
            params = self._choose(now, rng)
        if params is not None:
            params = self._around(trial.system_attrs.get("fixed_params"), params, rng)
            self._expect(trial, study, now, params)
            return params
        # Something new is left in a corner that nothing came to, or nothing new at all.
        archive = self._require_generator().archive
        left = self._require_generator().left_over(now.history.taken, rng)
        return archive[int(rng.integers(len(archive)))] if left is None else left

    def _has_space(self, study: Study, trials: Sequence[FrozenTrial]) -> bool:
        """Know the space, and what of it keeps the limits; not before a trial where the trials
        have to tell what the space is."""
        learnt = self._space is None or isinstance(self._space, SeenSpace)
        if learnt:
            complete = [each for each in trials if each.state == TrialState.COMPLETE]
            seen = SeenSpace(complete)
            # The first ones are asked freely: what is never seen is never proposed.
            if len(complete) < _SPREAD_FIRST or not seen:
                return False
            self._space, self._generator = seen, None
        if self._generator is None:
            try:
                self._generator = Generator(
                    self._require_space(),
                    self._static_violations,
                    np.random.default_rng([self._seed, 3]),
                    self._statics_of,
                    self._judged,
                )
            except NothingFound:
                if not learnt:
                    raise
                return False  # what was not seen yet may fit
        return True

    def _situation(self, study: Study, trials: Sequence[FrozenTrial]) -> _Situation:
        history = self._history_of(study, trials)
        history.read(trials)
        # The archive's alone, which are the same whenever a search is taken up again.
        archive = self._require_generator().archive
        reach = np.stack([history.static_losses(each) for each in archive])
        axes = Axes(history.encoding, history.static_losses, reach)
        observations = history.observations
        trained = sum(bool(np.isfinite(each.losses).all()) for each in observations)
        belief = None
        if trained >= _SPREAD_FIRST:
            belief = Belief(axes, observations, history.pending, self._fits)
        asked_for = [each.params for each in trials if each.system_attrs.get("fixed_params")]
        return _Situation(history, axes, belief, asked_for)

    def _choose(
        self, now: _Situation, rng: np.random.Generator, to_beat: Sequence[Params] = ()
    ) -> Params | None:
        """A proposal that is new; None where none came up.

        Args:
            now: What is known.
            rng: To draw from.
            to_beat: Where there are such, what is looked beside, for what is better at no more
                cost.
        """
        generator, observations = self._require_generator(), now.history.observations
        pool = _Pool(now.history.taken)
        if not to_beat:
            pool.add(generator.fresh(_FRESH, rng))
        if now.belief is not None:
            places = now.belief.best_places if to_beat else now.belief.front_places
            parents = [*(observations[place].params for place in places), *to_beat]
            return self._most_promising(pool, parents, now.belief, rng, to_beat)
        if to_beat:
            some = generator.offspring(to_beat, _FRESH, rng, alike=_ALIKE)
            return next(iter(pool.add(some)), None)
        pool.add(generator.archive)
        tried = [*(each.params for each in observations), *now.history.pending]
        return _furthest(pool.params, tried, now.axes)

    def _most_promising(
        self,
        pool: _Pool,
        parents: Sequence[Params],
        belief: Belief,
        rng: np.random.Generator,
        to_beat: Sequence[Params] = (),
    ) -> Params | None:
        """What is expected to gain most of the pool, the parents' offspring and theirs."""
        generator = self._require_generator()
        # What is to be beaten is looked beside, no further: far from all that was seen the
        # predictions say little, and hope most.
        rounds, first = (0, _OFFSPRING + _ROUNDS * _CLOSER) if to_beat else (_ROUNDS, _OFFSPRING)
        alike = _ALIKE if to_beat else 0.0
        pool.add(generator.offspring(parents or generator.archive, first, rng, alike=alike))
        if not pool.params:
            return None
        gains = belief.gains(pool.params, to_beat=to_beat)
        for _ in range(rounds):
            best = [pool.params[int(place)] for place in np.argsort(-gains)[:_BEST]]
            more = pool.add(generator.offspring(best, _CLOSER, rng))
            if more:
                gains = np.concatenate([gains, belief.gains(more, to_beat=to_beat)])
        if to_beat and not gains.any():
            return None
        return pool.params[int(np.argmax(gains))]

    def _around(
        self, fixed: Mapping[str, Any] | None, params: Params, rng: np.random.Generator
    ) -> Params:
        """The proposal beside what somebody fixed of this trial, so that the limits are kept; what
        breaks them least, with a warning, where nothing does."""
        if not fixed:
            return params
        generator, space = self._require_generator(), self._require_space()
        if fixed.keys() >= params.keys():
            return space.complete(fixed, rng)
        parents = [params, *generator.archive]
        nearest, least = params, math.inf
        for number in range(_AROUND):
            near = parents[number % len(parents)]
            near = near if number < len(parents) else generator.vary(near, rng)
            whole = space.complete({**near, **fixed}, rng)
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

    def _expect(self, trial: FrozenTrial, study: Study, now: _Situation, params: Params) -> None:
        """Note what is expected of a proposal, where anything is."""
        if now.belief is None:
            return
        mean, deviation = now.belief.expectation(params)
        mean = mean * signs_of(study.directions)
        self._expected[trial.number] = {
            int(axis): (float(mean[axis]), float(deviation[axis])) for axis in now.axes.unknown
        }

    def _part_of(self, trial: FrozenTrial) -> Params | None:
        """What the space asks for of a trial's parameters; None where that is not whole: where it
        waits, is still being asked, was pruned between two suggestions, or is of another space.
        Values may be such as the space no longer has."""
        space = self._require_space()
        if isinstance(space, SeenSpace):
            return dict(trial.params) if space.has_shape_of(trial.params) else None
        key = key_of(trial.params)
        if key not in self._parts:
            names = space.complete(trial.params, np.random.default_rng(0)).keys()
            self._parts[key] = tuple(names) if names <= trial.params.keys() else None
        part = self._parts[key]
        return None if part is None else {name: trial.params[name] for name in part}

    def _history_of(self, study: Study, trials: Sequence[FrozenTrial]) -> History:
        """What was read of this study before, unless parameters or ranges came that are new."""
        if self._study is not study:
            self._study, self._history = study, None
            self._met, self._met_in = {}, set()
            self._expected.clear()
        met = dict(self._met)
        meet(met, self._require_generator().explored)
        for trial in trials:
            if trial.number not in self._met_in:
                self._met_in.add(trial.number)
                meet(met, trial.distributions)
        if isinstance(self._space, SuggestedSpace):
            # Not what else this process has drawn: a search that is taken up again cannot know it.
            self._space.distributions = dict(met)
        if self._history is None or met != self._met:
            self._met = met
            self._history = History(
                Encoding(met),
                lambda params: self._static_losses(params, study.directions),
                study.directions,
                lambda trial: self._part_of(trial) or {},
            )
        return self._history

    def _require_space(self) -> ProposalSpace:
        assert self._space is not None
        return self._space

    def _require_generator(self) -> Generator:
        assert self._generator is not None
        return self._generator

    def _static_losses(self, params: Params, directions: Sequence[StudyDirection]) -> Floats:
        """The objectives that are known, less is better; NaN for the others."""
        if self._static_objectives is None:
            return np.full(len(directions), np.nan)
        known = self._statics_of(params)
        if known.shape != (len(directions),):
            raise ValueError(
                f"static_objectives must return {len(directions)} values, one for each of the "
                f"study's objectives, NaN where training tells, got {known.tolist()}"
            )
        out: Floats = known * signs_of(directions)
        return out

    def _statics_of(self, params: Params) -> Floats:
        """The objectives that are known, as the study has them."""
        if self._static_objectives is None:
            return np.full(1, np.nan)
        key = key_of(params)
        known = self._statics.get(key)
        if known is None:
            known = np.asarray(self._static_objectives(dict(params)), dtype=float)
            self._statics[key] = known
        return known

    def __getstate__(self) -> dict[str, Any]:
        """What it was made from: a study is read anew."""
        return {
            "space": self._given_space,
            "static_violations": self._static_violations,
            "static_objectives": self._static_objectives,
            "seed": self._seed,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


@dataclass(frozen=True)
class _Situation:
    """What is known before a proposal.

    Attributes:
        history: Of the study.
        axes: On which proposals are compared.
        belief: None while proposals are spread out.
        asked_for: What somebody enqueued.
    """

    history: History
    axes: Axes
    belief: Belief | None
    asked_for: Sequence[Params]


def _furthest(pool: Sequence[Params], tried: Sequence[Params], axes: Axes) -> Params | None:
    """Of a pool the one that is least like anything tried, costs counted."""
    if not pool:
        return None
    rows = axes.place(pool)[0]
    if not tried:
        return pool[int(np.argmin(axes.distances(rows, rows).sum(1)))]
    return pool[int(np.argmax(axes.distances(rows, axes.place(tried)[0]).min(1)))]


class _Pool:
    """Proposals to choose from, each once and none that is taken."""

    def __init__(self, taken: Iterable[int]) -> None:
        self._met = set(taken)
        self.params: list[Params] = []

    def add(self, many: Iterable[Params]) -> list[Params]:
        """Add what is new, and return it."""
        new = []
        for params in many:
            key = key_of(params)
            if key not in self._met:
                self._met.add(key)
                new.append(params)
        self.params += new
        return new


def _counted(study: Study) -> list[FrozenTrial]:
    """All trials but those that were killed from outside, which are done again.

    Optuna calls both failed, what was killed and what raised or came to no number; one that
    fails again counts as failed.
    """
    failed: set[int] = set()
    counted = []
    for each in study._get_trials(deepcopy=False, use_cache=True):
        if each.state == TrialState.FAIL:
            key = key_of(each.params)
            if key not in failed:
                failed.add(key)
                continue
        counted.append(each)
    return counted


def _index(study: Study, trial: FrozenTrial) -> int:
    """How many trials that count began before."""
    return sum(each.number < trial.number for each in _counted(study))
