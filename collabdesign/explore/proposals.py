"""The seam between the search and its sampler: whole proposals, asked one after the other.

A proposal is a function of the seed, its index and the outcomes before it: for each index a
fresh sampler, seeded by (seed, index), sees an in-memory study made from the record. So a
killed and resumed search does what an uninterrupted one would have done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from collabdesign.design.slots import Parameter
from collabdesign.design.space import DesignSpace, Params
from collabdesign.explore.front import directions_of, values_of
from collabdesign.explore.record import Candidate

# More random proposals than Optuna's 10 before TPE begins: most of what it sees first are
# rejections, which say what fits but nothing about accuracy.
_RANDOM_BEFORE_TPE = 30

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed, n_startup_trials=_RANDOM_BEFORE_TPE),
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
        violations: Cost to limits, for the candidates of the history.
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
    ) -> None:
        self._space = space
        self._study = optuna.create_study(
            directions=directions_of(objectives), sampler=SAMPLERS[sampler](_seed(seed, index))
        )
        self._trial: optuna.Trial | None = None
        met = dict.fromkeys(limits, 0.0)
        for candidate in history:
            for rejection in candidate.rejections:
                self._study.add_trial(self._pruned(rejection.params, rejection.violations))
            if candidate.accuracy is not None:
                values = values_of(objectives, candidate.accuracy, candidate.cost)
                self._study.add_trial(
                    self._frozen(candidate.params, met, TrialState.COMPLETE, values)
                )
            elif candidate.outcome != "running":
                self._study.add_trial(self._pruned(candidate.params, met))

    def ask(self) -> Params:
        """The next proposal; tell what became of it before asking again."""
        self._trial = self._study.ask()
        return self._space.suggest(self._trial)

    def tell_rejected(self, violations: Mapping[str, float]) -> None:
        """It breaks limits: each to ``cost / limit - 1``."""
        assert self._trial is not None
        for name, value in violations.items():
            self._trial.set_constraint(name, value)
        self._study.tell(self._trial, state=TrialState.PRUNED)

    def tell_repeated(self, values: Sequence[float] | None) -> None:
        """It is known already: with these values, or None where it failed."""
        assert self._trial is not None
        if values is None:
            self._study.tell(self._trial, state=TrialState.PRUNED)
        else:
            self._study.tell(self._trial, list(values))

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
