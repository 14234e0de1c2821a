"""A study's trials as the sampler needs them, through Optuna's public API alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from collabdesign.sampler.generation import Generator, Proposals
from collabdesign.sampler.proposal_space import (
    Floats,
    Params,
    ProposalSpace,
    SeenSpace,
    SuggestedSpace,
    key_of,
    meet,
)


def counts(trial: FrozenTrial, failed: set[int]) -> bool:
    """Whether a trial counts: all but those that were killed from outside, which are done again.

    Optuna calls both failed, what was killed and what raised or came to no number; one that
    fails again counts as failed.

    Args:
        trial: The next in the order of their numbers.
        failed: Keys of the trials before it that failed; its own is added.
    """
    if trial.state != TrialState.FAIL:
        return True
    key = key_of(trial.params)
    again = key in failed
    failed.add(key)
    return again


@dataclass(frozen=True)
class Observation:
    """A finished trial.

    Attributes:
        key: Of the parameters.
        params: Complete and active.
        losses: [m], its objectives, less is better; NaN where training failed.
        constraints: Name to value, at most 0 is met.
    """

    key: int
    params: Params
    losses: Floats
    constraints: Mapping[str, float]


class History:
    """What a study's trials tell, each finished one read once.

    A trial that was pruned is read as one that failed: its objectives are not known. One that was
    pruned for a broken constraint is not observed; it is only not proposed again.

    Args:
        directions: Of the study.

    Attributes:
        signs: Factors that turn every objective so that less is better.
        began: How many trials that count began before the one that is asked for.
        pending: Parameters that are being tried elsewhere.
        taken: Keys of everything tried, being tried or refused; not of what was killed.
        observations: In the order of their trials.
        met: Distributions of all parameters met, another mapping where these are others.
    """

    def __init__(self, directions: Sequence[StudyDirection]) -> None:
        maximised = [each == StudyDirection.MAXIMIZE for each in directions]
        self.signs = np.where(maximised, -1.0, 1.0)
        self.began = 0
        self.pending: Proposals = {}
        self.taken: set[int] = set()
        self.observations: list[Observation] = []
        self.met: dict[str, BaseDistribution] = {}
        self._observed: dict[int, Observation] = {}
        self._finished: dict[int, int] = {}  # a trial's number -> its key
        self._passed_over: set[int] = set()  # numbers of finished trials of another space

    def read(self, trials: Sequence[FrozenTrial], now: int, generator: Generator) -> None:
        """Take in what is new of all the study's trials, in the order of their numbers, but for
        the one that is asked for ``now``."""
        met = dict(self.met)
        meet(met, generator.explored)
        self.pending, self.began = {}, 0
        failed: set[int] = set()
        for trial in trials:
            number = trial.number
            if number != now and counts(trial, failed):
                self.began += number < now
                if number not in self._finished and number not in self._passed_over:
                    self._read(trial, met, generator.space)
        self.taken = {*self._finished.values(), *self.pending}
        self.met = self.met if met == self.met else met
        if isinstance(generator.space, SuggestedSpace):
            # Not what else this process has drawn: a search that is taken up again cannot know it.
            generator.space.distributions = dict(met)
        self.observations = [self._observed[number] for number in sorted(self._observed)]

    def _read(
        self, trial: FrozenTrial, met: dict[str, BaseDistribution], space: ProposalSpace
    ) -> None:
        """Read one trial and add its distributions to ``met``."""
        params = _part_of(trial, space)
        finished = trial.state.is_finished()
        if params is None:
            # A shape that is not known yet may be known later.
            if finished and not isinstance(space, SeenSpace):
                self._passed_over.add(trial.number)
            return
        meet(met, trial.distributions)
        if not params:
            return
        key = key_of(params)
        if trial.state == TrialState.RUNNING:
            self.pending[key] = params
        if not finished:
            return
        self._finished[trial.number] = key
        constraints = trial.constraints
        if trial.state == TrialState.COMPLETE:
            losses = np.asarray(trial.values, dtype=float) * self.signs
            losses = np.where(np.isfinite(losses), losses, np.nan)
        elif any(value > 0 for value in constraints.values()):
            return
        else:
            losses = np.full(len(self.signs), np.nan)
        self._observed[trial.number] = Observation(key, params, losses, constraints)


def _part_of(trial: FrozenTrial, space: ProposalSpace) -> Params | None:
    """Those of a trial's parameters that the space asks for; None where one is missing: the trial
    waits, is still being asked, was pruned between two suggestions, or is of another space.
    Values may be such as the space no longer has."""
    if isinstance(space, SeenSpace):
        return dict(trial.params) if space.has_shape_of(trial.params) else None
    names = space.complete(trial.params, np.random.default_rng(0)).keys()
    if not names <= trial.params.keys():
        return None
    return {name: trial.params[name] for name in names}
