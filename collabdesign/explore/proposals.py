"""The seam between the search and its sampler: whole proposals, asked one after the other.

A proposal is a function of the seed, its index and the outcomes before it: for each index the
sampler sees an in-memory study made from the record, and draws from a generator seeded by
(seed, index). So a killed and resumed search does what an uninterrupted one would have done. Of a
candidate that was stopped early the sampler is told what the fully trained let one expect of it.
An accuracy that is asked of the finished networks is a constraint, where a calibration says which
proxies come to it.

``generative`` knows limits and costs, and proposes only what fits. Of the others ``tpe`` begins
with variations of the prototype's default network, from a few parameters changed to half of
them; ``nsga2`` and ``random`` draw uniformly at first.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from collabdesign.design.cost import Cost, cost_of
from collabdesign.design.requirements import Requirements
from collabdesign.design.slots import Parameter
from collabdesign.design.space import DesignSpace, Params
from collabdesign.explore.front import directions_of, values_of
from collabdesign.explore.record import Candidate, as_of_today
from collabdesign.explore.rungs import Rungs, costs_of
from collabdesign.sampler.generator import GenerativeSampler
from collabdesign.sampler.proposal_space import key_of

# So many candidates are variations of the prototype's default network before TPE begins: what
# the human drew is better than what is drawn at random, and TPE learns from around it.
_VARIATIONS_BEFORE_TPE = 10
_SMALLEST_RATE, _LARGEST_RATE = 0.03, 0.5

# Of NSGA-II: searches are of some ten to some hundred networks.
_POPULATION = 20


def generative(space: DesignSpace, requirements: Requirements, seed: int) -> GenerativeSampler:
    """The generative sampler for a design space: limits and costs are known without training."""
    precision, objectives = requirements.deploy.precision, requirements.objectives

    costs: dict[int, Cost] = {}  # both functions ask for the same proposals' costs

    def cost_at(params: Params) -> Cost:
        key = key_of(params)
        if key not in costs:
            costs[key] = cost_of(space.decode(params), precision)
        return costs[key]

    def violations(params: Params) -> list[float]:
        return list(requirements.violations(cost_at(params)).values())

    def objective_values(params: Params) -> tuple[float, ...]:
        return values_of(objectives, math.nan, cost_at(params))

    return GenerativeSampler(
        space=space.suggest,
        static_violations=violations,
        static_objectives=objective_values,
        seed=seed,
    )


SAMPLERS: dict[str, Callable[[DesignSpace, Requirements, int], BaseSampler]] = {
    "generative": generative,
    "nsga2": lambda space, requirements, seed: NSGAIISampler(
        population_size=_POPULATION, seed=seed
    ),
    "tpe": lambda space, requirements, seed: TPESampler(seed=seed),
    "random": lambda space, requirements, seed: RandomSampler(seed=seed),
}


class Proposals:
    """What one process keeps from one proposal to the next.

    Args:
        space: What to propose from.
        requirements: Of the search.
        rungs_of: What the finished candidates let one expect of those that were stopped.
        proxy_goal: proxy_accuracy that comes to ``goals.accuracy``, where that is known.
    """

    def __init__(
        self,
        space: DesignSpace,
        requirements: Requirements,
        rungs_of: Callable[[Sequence[Candidate]], Rungs],
        proxy_goal: float | None = None,
    ) -> None:
        self._space = space
        self._proxy_goal = proxy_goal
        self._requirements = requirements
        self._rungs_of = rungs_of
        # It draws by index itself; what it keeps was found from trials alone.
        self._lasting: BaseSampler | None = None
        search = requirements.search
        if search.sampler == "generative":
            self._lasting = SAMPLERS[search.sampler](space, requirements, search.seed)

    def at(
        self, index: int, history: Sequence[Candidate], pending: Sequence[Candidate]
    ) -> Proposer:
        """The proposer of one index.

        Args:
            index: How many candidates were claimed before.
            history: All finished candidates, in order; their rejections are told too.
            pending: Candidates that others train at this moment; the sampler sees that they run.
        """
        search = self._requirements.search
        sampler = self._lasting or SAMPLERS[search.sampler](
            self._space, self._requirements, _seed(search.seed, index)
        )
        history = as_of_today(history, self._requirements)
        pending = as_of_today(pending, self._requirements)
        rungs = self._rungs_of(history)
        return Proposer(
            self._space,
            self._requirements,
            sampler,
            index,
            rungs,
            history,
            pending,
            proxy_goal=self._proxy_goal,
        )


class Proposer:
    """Asks a sampler for the proposals of one index, and tells it what became of each.

    Args:
        space: What to propose from.
        requirements: Of the search.
        sampler: To ask.
        index: As of :meth:`Proposals.at`, like ``history`` and ``pending``.
        rungs: What to expect of a candidate that was stopped.
        history: Finished candidates.
        pending: Running candidates.
        proxy_goal: As of :class:`Proposals`.
    """

    def __init__(
        self,
        space: DesignSpace,
        requirements: Requirements,
        sampler: BaseSampler,
        index: int,
        rungs: Rungs,
        history: Sequence[Candidate],
        pending: Sequence[Candidate] = (),
        *,
        proxy_goal: float | None = None,
    ) -> None:
        self._space = space
        self._rungs = rungs
        self._proxy_goal = proxy_goal
        self._sampler = sampler
        self._objectives = objectives = requirements.objectives
        search = requirements.search
        first = min([*history, *pending], key=lambda each: each.index, default=None)
        varies = search.sampler == "tpe" and index <= _VARIATIONS_BEFORE_TPE
        self._varied = (
            first.params
            if varies and first is not None and first.proposed_by == "prototype"
            else None
        )
        self._rng = np.random.default_rng([search.seed, index])
        self._study = optuna.create_study(directions=directions_of(objectives), sampler=sampler)
        self._trial: optuna.Trial | None = None
        for candidate in history:
            for rejection in candidate.rejections:
                if self._is_possible(rejection.params):
                    self._study.add_trial(self._pruned(rejection.params, rejection.violations))
            if not self._is_possible(candidate.params):
                continue
            # By consent the limits may be tighter now than when it was trained.
            violations = requirements.violations(candidate.cost)
            met = {name: max(0.0, value) for name, value in violations.items()}
            if (values := self._values(candidate)) is not None:
                asked_for = candidate.proposed_by != "machine"
                self._study.add_trial(
                    self._frozen(
                        candidate.params,
                        met | self._misses(values),
                        TrialState.COMPLETE,
                        values,
                        asked_for=asked_for,
                    )
                )
            elif candidate.outcome != "running":
                self._study.add_trial(self._pruned(candidate.params, met))
        for candidate in pending:
            if self._is_possible(candidate.params):
                self._study.add_trial(
                    self._frozen(
                        candidate.params,
                        {},
                        TrialState.RUNNING,
                        None,
                        asked_for=candidate.proposed_by != "machine",
                    )
                )

    def ask(self) -> Params:
        """The next proposal; tell what became of it before asking again."""
        if self._varied is not None:
            span = _LARGEST_RATE / _SMALLEST_RATE
            rate = _SMALLEST_RATE * span ** self._rng.random()
            return self._space.vary(self._varied, self._rng, rate)
        self._trial = self._study.ask()
        return self._space.suggest(self._trial)

    def expected_accuracy(self) -> tuple[float, float] | None:
        """Mean and deviation that the sampler expects of its last proposal, if it does."""
        if not isinstance(self._sampler, GenerativeSampler) or self._trial is None:
            return None
        return self._sampler.expectation(self._trial.number).get(
            list(self._objectives).index("accuracy")
        )

    def tell_rejected(self, violations: Mapping[str, float]) -> None:
        """It breaks limits: each to ``cost / limit - 1``."""
        if self._trial is None:
            return
        for name, value in violations.items():
            self._trial.set_constraint(name, value)
        self._study.tell(self._trial, state=TrialState.PRUNED)

    def tell_repeated(self, candidate: Candidate) -> None:
        """It is known already as this candidate."""
        if self._trial is None:
            return
        values = self._values(candidate)
        if values is None:
            self._study.tell(self._trial, state=TrialState.PRUNED)
        else:
            for name, value in self._misses(values).items():
                self._trial.set_constraint(name, value)
            self._study.tell(self._trial, list(values))

    def _misses(self, values: Sequence[float]) -> dict[str, float]:
        """By how much the goal is missed, at most 0 is met; empty where that is not known."""
        if self._proxy_goal is None:
            return {}
        return {"accuracy": self._proxy_goal - values[list(self._objectives).index("accuracy")]}

    def _values(self, candidate: Candidate) -> tuple[float, ...] | None:
        """The objectives' values: known, expected where it was stopped, or else None."""
        accuracy = candidate.accuracy
        if candidate.outcome == "stopped":
            seen = [point.accuracy for point in candidate.curve]
            accuracy = self._rungs.expected_accuracy(seen, costs_of(candidate, self._objectives))
        if accuracy is None:
            return None
        return values_of(self._objectives, accuracy, candidate.cost)

    def _is_possible(self, params: Mapping[str, Any]) -> bool:
        """Whether the space has them: it may have changed, by consent, since they were tried."""
        known = self._space.parameters
        return all(name in known and value in known[name].values for name, value in params.items())

    def _pruned(self, params: Mapping[str, Any], violations: Mapping[str, float]) -> FrozenTrial:
        return self._frozen(params, violations, TrialState.PRUNED, None)

    def _frozen(
        self,
        params: Mapping[str, Any],
        violations: Mapping[str, float],
        state: TrialState,
        values: Sequence[float] | None,
        *,
        asked_for: bool = False,
    ) -> FrozenTrial:
        attributes: dict[str, Any] = {}
        if state == TrialState.COMPLETE:
            attributes |= self._generation()
        if asked_for:
            # As Study.enqueue_trial writes it: samplers may look beside what a person put there.
            attributes["fixed_params"] = dict(params)
        return create_trial(
            state=state,
            values=values,
            params=dict(params),
            distributions=distributions_of(self._space, params),
            constraints=dict(violations),
            system_attrs=attributes,
        )

    def _generation(self) -> dict[str, int]:
        """NSGA-II reads a trial's generation from where it writes it; others pass it over."""
        done = self._study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        return {NSGAIISampler._get_generation_key(): len(done) // _POPULATION}


def distributions_of(space: DesignSpace, params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """Optuna's distribution of each parameter, as :meth:`DesignSpace.suggest` asks for it."""
    return {name: distribution_of(space.parameters[name]) for name in params}


def distribution_of(parameter: Parameter) -> BaseDistribution:
    """A range as integers, choices as categories."""
    values = parameter.values
    if parameter.is_range:
        return IntDistribution(values[0], values[-1], step=values[1] - values[0])
    return CategoricalDistribution(values)


def _seed(seed: int, index: int) -> int:
    digest = hashlib.sha256(f"proposal {seed} {index}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
