"""A study's trials as the sampler needs them, through Optuna's public API alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from collabdesign.sampler.encoding import Encoding
from collabdesign.sampler.generation import Generator, Proposals
from collabdesign.sampler.proposal_space import (
    Params,
    ProposalSpace,
    SeenSpace,
    SuggestedSpace,
    key_of,
    meet,
)

Floats = NDArray[np.float64]


def signs_of(directions: Sequence[StudyDirection]) -> Floats:
    """Factors that turn every objective so that less is better."""
    return np.array([-1.0 if each == StudyDirection.MAXIMIZE else 1.0 for each in directions])


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
        params: Complete and active.
        losses: [m], its objectives, less is better; NaN where training failed.
        constraints: Name to value, at most 0 is met.
        known: [m], its objectives that are known without training, less is better; NaN where
            training tells.
        row: [d], encoded.
    """

    params: Params
    losses: Floats
    constraints: Mapping[str, float]
    known: Floats
    row: Floats


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
        encoding: Of all parameters met.
    """

    def __init__(self, directions: Sequence[StudyDirection]) -> None:
        self.signs = signs_of(directions)
        self.began = 0
        self.pending: Proposals = {}
        self.taken: set[int] = set()
        self.observations: list[Observation] = []
        self.encoding = Encoding({})
        self._met: dict[str, BaseDistribution] = {}
        self._observed: dict[int, Observation] = {}
        self._finished: dict[int, int] = {}  # a trial's number -> its key
        # All trials before this number were finished when they were read.
        self._settled = 0
        self._began_settled = 0
        self._failed: set[int] = set()

    def read(self, trials: Sequence[FrozenTrial], now: int, generator: Generator) -> None:
        """Take in what is new.

        Args:
            trials: All of the study, in the order of their numbers, which count from 0.
            now: Number of the one that is asked for, which is passed over.
            generator: Of proposals, which knows the space and the static objectives.
        """
        met = dict(self._met)
        meet(met, generator.explored)
        self.pending = {}
        began, failed, settled = self._began_settled, set(self._failed), True
        for trial in trials[self._settled :]:
            settled = settled and trial.number != now and trial.state.is_finished()
            if trial.number != now and counts(trial, failed):
                began += trial.number < now
                whole = trial.number in self._finished or self._read(trial, met, generator)
                # A shape that is not known yet may be known later.
                settled = settled and (whole or not isinstance(generator.space, SeenSpace))
            if settled:
                self._settled, self._began_settled = trial.number + 1, began
                if trial.state == TrialState.FAIL:
                    self._failed.add(key_of(trial.params))
        self.began = began
        self.taken = {*self._finished.values(), *self.pending}
        if met != self._met:
            self._met, self.encoding = met, Encoding(met)
            rows = self.encoding.rows([each.params for each in self._observed.values()])
            for number, row in zip(self._observed, rows, strict=True):
                self._observed[number] = replace(self._observed[number], row=row)
        if isinstance(generator.space, SuggestedSpace):
            # Not what else this process has drawn: a search that is taken up again cannot know it.
            generator.space.distributions = dict(met)
        self.observations = [self._observed[number] for number in sorted(self._observed)]

    def _read(
        self, trial: FrozenTrial, met: dict[str, BaseDistribution], generator: Generator
    ) -> bool:
        """Read one trial and add its distributions to ``met``; False where it is not whole."""
        params = _part_of(trial, generator.space)
        if params is None:
            return False
        meet(met, trial.distributions)
        if not params:
            return True
        key = key_of(params)
        if trial.state == TrialState.RUNNING:
            self.pending[key] = params
        if not trial.state.is_finished():
            return True
        self._finished[trial.number] = key
        constraints = trial.constraints
        if trial.state == TrialState.COMPLETE:
            losses = np.asarray(trial.values, dtype=float) * self.signs
            losses = np.where(np.isfinite(losses), losses, np.nan)
        elif any(value > 0 for value in constraints.values()):
            return True
        else:
            losses = np.full(len(self.signs), np.nan)
        known = generator.statics.values(params, key) * self.signs
        row = self.encoding.rows([params])[0] if met == self._met else np.empty(0)
        self._observed[trial.number] = Observation(params, losses, constraints, known, row)
        return True


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
