"""The seam between the search and its sampler: whole proposals, asked one after the other.

A proposal is a function of the seed, its index and the outcomes before it: for each index a
fresh sampler, seeded by (seed, index), sees an in-memory study made from the record. So a
killed and resumed search does what an uninterrupted one would have done.

``tpe`` begins with variations of the prototype's default network, from a few parameters changed
to half of them; ``random`` draws uniformly from the first proposal on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from collabdesign.design.slots import Parameter
from collabdesign.design.space import DesignSpace, Params
from collabdesign.explore.front import directions_of, values_of
from collabdesign.explore.record import Candidate

# So many candidates are variations of the prototype's default network before TPE begins: what
# the human drew is better than what is drawn at random, and TPE learns from around it.
_VARIATIONS_BEFORE_TPE = 10
_SMALLEST_RATE, _LARGEST_RATE = 0.03, 0.5

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
}


class Proposer:
    """Asks a sampler for the proposals of one index, and tells it what became of each.

    Args:
        space: What to propose from.
        sampler: A name from ``SAMPLERS``.
        seed: The search's.
        index: How many candidates were claimed before.
        objectives: In the study's order.
        history: All candidates before, in order; their rejections are told too.
        limits: Names of those that are set.
        pending: Candidates that others train at this moment; the sampler sees that they run.
    """

    def __init__(
        self,
        space: DesignSpace,
        sampler: str,
        seed: int,
        index: int,
        objectives: Sequence[str],
        history: Sequence[Candidate],
        limits: Sequence[str],
        pending: Sequence[Candidate] = (),
    ) -> None:
        self._space = space
        first = min([*history, *pending], key=lambda each: each.index, default=None)
        varies = sampler == "tpe" and index <= _VARIATIONS_BEFORE_TPE
        self._varied = (
            first.params
            if varies and first is not None and first.proposed_by == "prototype"
            else None
        )
        self._rng = np.random.default_rng([seed, index])
        self._study = optuna.create_study(
            directions=directions_of(objectives), sampler=SAMPLERS[sampler](_seed(seed, index))
        )
        self._trial: optuna.Trial | None = None
        met = dict.fromkeys(limits, 0.0)
        for candidate in history:
            for rejection in candidate.rejections:
                if self._is_possible(rejection.params):
                    self._study.add_trial(self._pruned(rejection.params, rejection.violations))
            if not self._is_possible(candidate.params):
                continue
            if candidate.accuracy is not None:
                values = values_of(objectives, candidate.accuracy, candidate.cost)
                self._study.add_trial(
                    self._frozen(candidate.params, met, TrialState.COMPLETE, values)
                )
            elif candidate.outcome != "running":
                self._study.add_trial(self._pruned(candidate.params, met))
        for candidate in pending:
            if self._is_possible(candidate.params):
                self._study.add_trial(self._frozen(candidate.params, met, TrialState.RUNNING, None))

    def ask(self) -> Params:
        """The next proposal; tell what became of it before asking again."""
        if self._varied is not None:
            span = _LARGEST_RATE / _SMALLEST_RATE
            rate = _SMALLEST_RATE * span ** self._rng.random()
            return self._space.vary(self._varied, self._rng, rate)
        self._trial = self._study.ask()
        return self._space.suggest(self._trial)

    def tell_rejected(self, violations: Mapping[str, float]) -> None:
        """It breaks limits: each to ``cost / limit - 1``."""
        if self._trial is None:
            return
        for name, value in violations.items():
            self._trial.set_constraint(name, value)
        self._study.tell(self._trial, state=TrialState.PRUNED)

    def tell_repeated(self, values: Sequence[float] | None) -> None:
        """It is known already: with these values, or None where it failed."""
        if self._trial is None:
            return
        if values is None:
            self._study.tell(self._trial, state=TrialState.PRUNED)
        else:
            self._study.tell(self._trial, list(values))

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
    ) -> FrozenTrial:
        return create_trial(
            state=state,
            values=values,
            params=dict(params),
            distributions=distributions_of(self._space, params),
            constraints=dict(violations),
        )


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
