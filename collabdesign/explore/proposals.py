"""The seam between the search and its sampler: whole proposals, asked one after the other.

A proposal is a function of the seed, its index and the outcomes before it. The sampler sees an
in-memory study that is made from the candidates and is kept from one proposal to the next, as long
as it holds what would be made again: so a killed and resumed search does what an uninterrupted one
would have done. Of a candidate that was stopped early the sampler is told what was expected of it.
Where the search aims, at proxies from which a goal can be reached, that is a constraint. Where
costs have to be measured, the sampler is told what is expected of them, and begins anew when that
changes.

``generative`` knows limits and costs, and proposes only what fits. Of the others ``tpe`` begins
with variations of the prototype's default network, from a few parameters changed to half of them;
``nsga2`` and ``random`` draw uniformly at first.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from collabdesign.design.cost import Cost
from collabdesign.design.requirements import Requirements
from collabdesign.design.space import DesignSpace, Params
from collabdesign.explore.front import directions_of, values_of
from collabdesign.explore.predictor import Predictor
from collabdesign.explore.pricing import Pricing
from collabdesign.explore.record import REJECTIONS_KEPT, Candidate, Rejection
from collabdesign.sampler.generator import GenerativeSampler
from collabdesign.sampler.proposal_space import key_of

# So many candidates are variations of the prototype's default network before TPE begins: what
# the human drew is better than what is drawn at random, and TPE learns from around it.
_VARIATIONS_BEFORE_TPE = 10
_SMALLEST_RATE, _LARGEST_RATE = 0.03, 0.5

# Of NSGA-II: searches are of some ten to some hundred networks.
_POPULATION = 20


def generative(
    space: DesignSpace, requirements: Requirements, seed: int, pricing: Pricing | None = None
) -> GenerativeSampler:
    """The generative sampler for a design space: limits and costs are known without training.

    Args:
        space: To propose from.
        requirements: Of the search.
        seed: Of the sampler.
        pricing: What networks cost now; what is counted, where None. What it expects must not
            change any more: the sampler remembers it.
    """
    objectives, prices = requirements.objectives, pricing or Pricing(requirements)
    costs: dict[int, tuple[Cost, Cost]] = {}  # both functions ask for the same proposals' costs

    def costs_at(params: Params) -> tuple[Cost, Cost]:
        """As cautiously expected, and as expected."""
        key = key_of(params)
        if key not in costs:
            network = space.decode(params)
            expected = prices.expected(network)
            costs[key] = (prices.cautious(network) if prices.names else expected), expected
        return costs[key]

    def violations(params: Params) -> list[float]:
        return list(requirements.violations(costs_at(params)[0]).values())

    return GenerativeSampler(
        space=space.suggest,
        static_violations=violations,
        static_objectives=lambda params: values_of(objectives, math.nan, costs_at(params)[1]),
        seed=seed,
    )


Sampling = Callable[[DesignSpace, Requirements, int, Pricing], BaseSampler]

SAMPLERS: dict[str, Sampling] = {
    "generative": generative,
    "nsga2": lambda space, requirements, seed, pricing: NSGAIISampler(
        population_size=_POPULATION, seed=seed
    ),
    "tpe": lambda space, requirements, seed, pricing: TPESampler(seed=seed),
    "random": lambda space, requirements, seed, pricing: RandomSampler(seed=seed),
}


class Proposals:
    """Proposals for one index after the other.

    Args:
        space: What to propose from.
        requirements: Of the search.
        pricing: What networks cost before the first candidate; may be left out where nothing has to
            be measured.
    """

    def __init__(
        self, space: DesignSpace, requirements: Requirements, pricing: Pricing | None = None
    ) -> None:
        self._space = space
        self._requirements = requirements
        self._pricing = pricing or Pricing(requirements)
        self._told: _Told | None = None

    @property
    def know_costs(self) -> bool:
        """Whether the sampler is told what networks cost before they are proposed."""
        return self._requirements.search.sampler == "generative"

    def at(
        self,
        index: int,
        candidates: Sequence[Candidate],
        aim: float | None = None,
        pricing: Pricing | None = None,
        passed_over: PassedOver | None = None,
    ) -> Proposer:
        """The proposer of one index.

        Args:
            index: Of the next candidate.
            candidates: All others, finished or in training, with costs as they are today.
            aim: The least proxy_accuracy that is worth a training; None where all are.
            pricing: What networks cost now; as before the first candidate where None.
            passed_over: Of this index, where proposals were passed over before what is expected of
                others changed by that.
        """
        search, told, pricing = self._requirements.search, self._told, pricing or self._pricing
        # The generative one draws by index itself, so that it can be kept as long as what it was
        # told holds; the others begin anew at each index.
        lasts, lasting = search.sampler == "generative", None
        if lasts and told is not None and told.predictor is pricing.predictor:
            lasting = told.study.sampler
        if (
            told is None
            or told.is_stale
            or told.aim != aim
            or lasting is None
            or passed_over is not None
        ):
            sampler = lasting or SAMPLERS[search.sampler](
                self._space,
                self._requirements,
                search.seed if lasts else _seed(search.seed, index),
                pricing,
            )
            told = _Told(self._space, self._requirements, sampler, aim, pricing.predictor)
            self._told = told
        told.tell(candidates)
        if passed_over is not None:
            told.pass_over(passed_over, candidates)
        varied = None  # but for TPE's first proposals
        if search.sampler == "tpe" and index <= _VARIATIONS_BEFORE_TPE:
            own = (dict(each.params) for each in candidates if each.proposed_by == "prototype")
            varied = next(own, None)
        return Proposer(told, index, search.seed, varied, passed_over)


@dataclass
class PassedOver:
    """Proposals since the last candidate that were not trained; see :class:`Candidate`."""

    rejected: int = 0
    rejected_by: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    rejections: tuple[Rejection, ...] = ()
    repeats: tuple[tuple[Params, int], ...] = ()


class Proposer:
    """Asks a sampler for the proposals of one index, and tells it what became of each.

    Made by :meth:`Proposals.at`; ``passed_over`` counts those that were not accepted.
    """

    def __init__(
        self,
        told: _Told,
        index: int,
        seed: int,
        varied: Params | None,
        passed_over: PassedOver | None,
    ) -> None:
        self.passed_over = passed_over or PassedOver()
        self._told = told
        self._index = index
        self._varied = varied
        self._rng = np.random.default_rng([seed, index])
        self._trial: optuna.Trial | None = None

    def ask(self) -> Params:
        """The next proposal; tell what became of it before asking again."""
        if self._varied is not None:
            span = _LARGEST_RATE / _SMALLEST_RATE
            rate = _SMALLEST_RATE * span ** self._rng.random()
            return self._told.space.vary(self._varied, self._rng, rate)
        self._trial = self._told.study.ask()
        return self._told.space.suggest(self._trial)

    def expected_accuracy(self) -> tuple[float, float] | None:
        """Mean and deviation that the sampler expects of its last proposal, if it does."""
        sampler = self._told.study.sampler
        if not isinstance(sampler, GenerativeSampler) or self._trial is None:
            return None
        return sampler.expectation(self._trial.number).get(self._told.accuracy_axis)

    def tell_rejected(self, rejection: Rejection) -> None:
        """It breaks limits."""
        so_far, violations = self.passed_over, rejection.violations
        so_far.rejected += 1
        so_far.rejected_by.update(name for name, value in violations.items() if value > 0)
        so_far.rejections = (*so_far.rejections, rejection)[:REJECTIONS_KEPT]
        if self._trial is not None:
            self._told.end(self._trial, None, violations)

    def tell_repeated(self, params: Params, candidate: Candidate) -> None:
        """It is known already as this candidate."""
        so_far = self.passed_over
        so_far.repeated += 1
        so_far.repeats = (*so_far.repeats, (params, candidate.number))[:REJECTIONS_KEPT]
        if self._trial is not None:
            self._told.end(self._trial, self._told.values(candidate), {})

    def accept(self) -> None:
        """It is a new candidate, and will be trained."""
        # A study that is made from the candidates' rows holds no more than these keep, the
        # rejected first.
        rejected, repeated = self.passed_over.rejected, self.passed_over.repeated
        self._told.is_stale |= max(rejected, repeated) > REJECTIONS_KEPT
        self._told.is_stale |= rejected > 0 and repeated > 0
        if self._trial is not None:
            self._told.running[self._index] = self._trial


class _Told:
    """An in-memory study, and which candidates it was told of.

    Attributes:
        space: What is proposed from.
        study: The sampler's.
        running: By index, the trials whose outcome is not known.
        aim: The least proxy_accuracy that is worth a training; a constraint.
        is_stale: Whether it holds what a study made anew would not.
        predictor: What its sampler was told of what has to be measured.
        accuracy_axis: Place of the accuracy among the objectives.
    """

    def __init__(
        self,
        space: DesignSpace,
        requirements: Requirements,
        sampler: BaseSampler,
        aim: float | None,
        predictor: Predictor | None,
    ) -> None:
        self.space = space
        self._requirements = requirements
        self._objectives = requirements.objectives
        self.accuracy_axis = self._objectives.index("accuracy")
        self.aim = aim
        self.study = optuna.create_study(
            directions=directions_of(self._objectives), sampler=sampler
        )
        self.running: dict[int, optuna.Trial] = {}
        self.is_stale = False
        self.predictor = predictor
        self._finished: set[int] = set()
        self._complete = 0

    def tell(self, candidates: Sequence[Candidate]) -> None:
        """Take in what is new."""
        by_number = {each.number: each for each in candidates}
        for candidate in sorted(candidates, key=lambda each: each.index):
            if candidate.index in self._finished:
                continue
            if candidate.index not in self.running:
                self._enter(candidate, by_number)
            elif candidate.outcome != "running":
                trial = self.running.pop(candidate.index)
                self.end(trial, self.values(candidate), self._limits(candidate))
            if candidate.outcome != "running":
                self._finished.add(candidate.index)

    def pass_over(self, passed_over: PassedOver, candidates: Sequence[Candidate]) -> None:
        """Take in what was passed over before a candidate that is still to be found."""
        self._enter_passed_over(
            passed_over.rejections,
            passed_over.repeats,
            {each.number: each for each in candidates},
        )
        self.is_stale = True

    def end(
        self, trial: optuna.Trial, values: Sequence[float] | None, constraints: Mapping[str, float]
    ) -> None:
        """Tell the outcome of a trial that was asked for here."""
        for name, value in {**constraints, **self._misses(values)}.items():
            trial.set_constraint(name, value)
        if values is None:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, list(values))

    def values(self, candidate: Candidate) -> tuple[float, ...] | None:
        """The objectives' values: known, expected where it was stopped, or else None."""
        accuracy = candidate.expected if candidate.outcome == "stopped" else candidate.accuracy
        if accuracy is None:
            return None
        return values_of(self._objectives, accuracy, candidate.cost)

    def _enter(self, candidate: Candidate, by_number: Mapping[int, Candidate]) -> None:
        """What was passed over before a candidate, and the candidate itself."""
        self._enter_passed_over(candidate.rejections, candidate.repeats, by_number)
        if candidate.outcome != "running":
            self._add(candidate.params, self.values(candidate), self._limits(candidate))
        elif self._is_possible(candidate.params):
            self.running[candidate.index] = self._begin(candidate.params)

    def _enter_passed_over(
        self,
        rejections: Sequence[Rejection],
        repeats: Sequence[tuple[Mapping[str, Any], int]],
        by_number: Mapping[int, Candidate],
    ) -> None:
        for rejection in rejections:
            self._add(rejection.params, None, rejection.violations)
        for params, number in repeats:
            known = by_number.get(number)
            self._add(params, None if known is None else self.values(known), {})

    def _add(
        self,
        params: Mapping[str, Any],
        values: Sequence[float] | None,
        constraints: Mapping[str, float],
    ) -> None:
        """A trial that is over; one without values is pruned."""
        if not self._is_possible(params):
            return
        attributes = {}
        if values is not None:
            # What NSGA-II writes into a trial and reads there; Optuna has no public name for it.
            attributes[NSGAIISampler._get_generation_key()] = self._complete // _POPULATION
            self._complete += 1
        self.study.add_trial(
            create_trial(
                state=TrialState.PRUNED if values is None else TrialState.COMPLETE,
                values=values,
                params=dict(params),
                distributions=distributions_of(self.space, params),
                constraints={**constraints, **self._misses(values)},
                system_attrs=attributes,
            )
        )

    def _begin(self, params: Mapping[str, Any]) -> optuna.Trial:
        """A running trial with these parameters, for which the sampler is not asked."""
        sampler = self.study.sampler
        try:
            self.study.sampler = RandomSampler()
            self.study.enqueue_trial(dict(params))
            trial = self.study.ask()
            self.space.suggest(trial)
        finally:
            self.study.sampler = sampler
        return trial

    def _is_possible(self, params: Mapping[str, Any]) -> bool:
        """Whether the space has them: it may have changed, by consent, since they were tried."""
        known = self.space.parameters
        return all(name in known and value in known[name].values for name, value in params.items())

    def _limits(self, candidate: Candidate) -> dict[str, float]:
        """By how much it breaks the limits, which by consent may be tighter than they were."""
        violations = self._requirements.violations(candidate.cost)
        return {name: max(0.0, value) for name, value in violations.items()}

    def _misses(self, values: Sequence[float] | None) -> dict[str, float]:
        """By how much the aim is missed, at most 0 is met; empty where that is not known."""
        if self.aim is None or values is None:
            return {}
        return {"accuracy": self.aim - values[self.accuracy_axis]}


def distributions_of(space: DesignSpace, params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """Optuna's distribution of each parameter, as :meth:`DesignSpace.suggest` asks for it: a range
    as integers, choices as categories."""
    found: dict[str, BaseDistribution] = {}
    for name in params:
        values = space.parameters[name].values
        if space.parameters[name].is_range:
            found[name] = IntDistribution(values[0], values[-1], step=values[1] - values[0])
        else:
            found[name] = CategoricalDistribution(values)
    return found


def _seed(seed: int, index: int) -> int:
    digest = hashlib.sha256(f"proposal {seed} {index}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
