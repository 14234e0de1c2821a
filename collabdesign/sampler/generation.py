"""Proposals that keep the static limits: from all over the space, and around good ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from itertools import islice

import numpy as np

from collabdesign.sampler.proposal_space import (
    STEP,
    Floats,
    Params,
    ProposalSpace,
    draw,
    every,
    key_of,
    step,
)

StaticViolations = Callable[[Params], Sequence[float]]
StaticObjectives = Callable[[Params], Sequence[float]]
# Parameter sets by their keys (key_of), in the order in which they were found.
Proposals = dict[int, Params]

# Exploring judges at most so many parameter sets before the first proposal.
_EXPLORE = 1500
_EXPLORE_AT_RANDOM = 200
_ARCHIVE = 64
# So many variations of what fits are pulled towards small and large known objectives, each from
# the best of a few.
_STRETCH = 300
_TOURNAMENT = 12
# Above this share of random proposals that fit the archive is made of these.
_COMMON = 0.1
# After so many walks, or judged sets, that all ended over the limits, nothing is taken to fit.
_GIVE_UP = 20_000
_MOST_ENUMERATED = 100_000
_LAST_WALKS = 20
# Of the steps with which it walks there, the shortest beside the longest.
_FINEST = 1e-6


class NothingFound(ValueError):
    """The static limits seem to leave nothing of the space.

    Attributes:
        tried: Parameter sets that were judged.
    """

    def __init__(self, tried: int) -> None:
        super().__init__(
            "static_violations must leave something of the space, and in "
            f"{tried:,} parameter sets nothing was found that it leaves"
        )
        self.tried = tried


class Statics:
    """What is known of a parameter set without training, each asked for once.

    Args:
        violations: Relative amounts over each limit, at most 0 is met; None where no limit is.
        objectives: The study's objective values, NaN where training has to tell; None where
            none is known.
        count: Of the study's objectives.
        learnt: Whether the space was learnt from trials. Then parameters may come together that
            no trial had, and where ``violations`` misses one the set counts as over the limits.
    """

    def __init__(
        self,
        violations: StaticViolations | None,
        objectives: StaticObjectives | None,
        count: int,
        *,
        learnt: bool = False,
    ) -> None:
        self.count = count
        self._violations = violations
        self._objectives = objectives
        self._learnt = learnt
        self._excess: dict[int, float] = {}
        self._values: dict[int, Floats] = {}

    def excess(self, params: Params, key: int | None = None) -> float:
        """Sum of what it is over the limits, each relative to its limit; 0 if it fits."""
        if self._violations is None:
            return 0.0
        key = key_of(params) if key is None else key
        if key not in self._excess:
            self._excess[key] = self._judge(self._violations, params)
        return self._excess[key]

    def values(self, params: Params, key: int) -> Floats:
        """[m], the study's objective values as far as they are known, NaN for the others."""
        if self._objectives is None:
            return np.full(self.count, np.nan)
        if key not in self._values:
            values = np.asarray(self._objectives(dict(params)), dtype=float)
            if values.shape != (self.count,):
                raise ValueError(
                    f"static_objectives must return {self.count} values, one for each of the "
                    f"study's objectives, NaN where training tells, got {values.tolist()}"
                )
            self._values[key] = values
        return self._values[key]

    def _judge(self, violations: StaticViolations, params: Params) -> float:
        try:
            found = violations(dict(params))
        except KeyError:
            if self._learnt:
                return math.inf
            raise
        try:
            values = [float(value) for value in found]
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"static_violations must return one number for each limit, got {found!r}"
            ) from error
        return math.fsum(math.inf if math.isnan(value) else max(0.0, value) for value in values)


class Generator:
    """Proposes parameter sets of a space that keep the static limits.

    Where few random proposals keep them, it walks: changes that do not add to the sum of what
    is over the limits are kept until nothing is. Around what keeps them it spreads by changes
    that stay inside, so that all of the inside can be reached, not its rim alone.

    Args:
        space: Where proposals come from.
        statics: Limits and known objectives.
        rng: For exploring the space, once.

    Attributes:
        archive: Proposals that keep the limits, spread over those that do.
        explored: Distributions that exploring met, the same in every process.

    Raises:
        NothingFound: Nothing that keeps the limits was found.
    """

    def __init__(self, space: ProposalSpace, statics: Statics, rng: np.random.Generator) -> None:
        self.space = space
        self.statics = statics
        self._judged = 0
        self._enumerated: Proposals = {}  # what keeps the limits of all that was enumerated
        self._enumerating = islice(every(space), _MOST_ENUMERATED)
        self.archive: Proposals = {}
        self._explore(rng)
        self.explored = dict(space.distributions)

    def excess(self, params: Params, key: int | None = None) -> float:
        """As :meth:`Statics.excess`."""
        self._judged += 1
        return self.statics.excess(params, key)

    def offspring(
        self, parents: Sequence[Params], size: int, rng: np.random.Generator, taken: Collection[int]
    ) -> Proposals:
        """Of so many variations of parents and mixtures of two of them, those that keep the limits
        and whose keys are not taken."""
        found: Proposals = {}
        for _ in range(size):
            params = self._child(parents, rng)
            key = key_of(params)
            if key not in taken and key not in found and self.excess(params, key) <= 0:
                found[key] = params
        return found

    def vary(self, params: Params, rng: np.random.Generator, reach: float = STEP) -> Params:
        """The parameter set with one parameter changed, or a few; ``reach`` as for :func:`step`."""
        names = list(params)
        changes = min(len(names), int(rng.geometric(0.5)))
        changed = dict(params)
        for place in rng.permutation(len(names))[:changes]:
            name = names[int(place)]
            distribution = self.space.distributions.get(name)
            if distribution is None:
                continue
            if rng.random() < 0.5:
                changed[name] = draw(distribution, rng)
            else:
                changed[name] = step(distribution, params[name], rng, reach)
        return self.space.complete(changed, rng)

    def left_over(self, taken: Collection[int], rng: np.random.Generator) -> Params | None:
        """Something that keeps the limits and is not taken; None where there seems to be nothing.

        The space is enumerated, as far as it can be; after that come walks from anywhere.
        """
        for key, params in self._enumerated.items():
            if key not in taken:
                return params
        for params in self._enumerating:
            key = key_of(params)
            if self.excess(params, key) <= 0:
                self._enumerated[key] = params
                if key not in taken:
                    return params
        for _ in range(_LAST_WALKS):
            walked = self._walk(self.space.sample(rng), rng)
            if walked is not None and key_of(walked) not in taken:
                return walked
        return None

    def _child(self, parents: Sequence[Params], rng: np.random.Generator) -> Params:
        params = parents[int(rng.integers(len(parents)))]
        if rng.random() >= 0.3:
            return self.vary(params, rng)
        other = parents[int(rng.integers(len(parents)))]
        mixed = {**other, **params}
        for name, swapped in zip(other, rng.random(len(other)) < 0.5, strict=True):
            if swapped and name in params:
                mixed[name] = other[name]
        params = self.space.complete(mixed, rng)
        return self.vary(params, rng) if rng.random() < 0.5 else params

    def _explore(self, rng: np.random.Generator) -> None:
        drawn = [self.space.sample(rng) for _ in range(_EXPLORE_AT_RANDOM)]
        inside = [params for params in drawn if self.excess(params) <= 0]
        if len(inside) < _COMMON * len(drawn):
            inside += self._walk_inside(drawn, len(inside), rng)
        if not inside:
            raise NothingFound(self._judged)
        found = {key_of(params): params for params in inside}
        self.archive = dict(islice(found.items(), _ARCHIVE))
        self._stretch(rng)

    def _stretch(self, rng: np.random.Generator) -> None:
        """Extend the archive towards both ends of each known objective: a random draw of a large
        space lies in the middle of it."""
        values = {key: self.statics.values(each, key) for key, each in self.archive.items()}
        known = np.flatnonzero(~np.isnan(list(values.values())).any(axis=0))
        if not len(known):
            return
        reached = {key: value[known] for key, value in values.items()}
        for _ in range(_STRETCH):
            keys = list(self.archive)
            some = [keys[int(place)] for place in rng.integers(len(keys), size=_TOURNAMENT)]
            # By ranks, so that no scale has to be known.
            ranks = np.argsort(np.argsort([reached[key] for key in some], axis=0), axis=0)
            pull = rng.dirichlet(np.ones(len(known))) * rng.choice([-1.0, 1.0])
            start = some[int(np.argmax(ranks @ pull))]
            other = self.vary(self.archive[start], rng)
            key = key_of(other)
            if key not in self.archive and self.excess(other, key) <= 0:
                self.archive[key] = other
                reached[key] = self.statics.values(other, key)[known]

    def _walk_inside(
        self, drawn: Sequence[Params], found: int, rng: np.random.Generator
    ) -> list[Params]:
        starts = sorted(drawn, key=self.statics.excess)
        inside = starts[:found]
        # The nearest first, so that something is found soon; then from anywhere.
        for number in range(_GIVE_UP):
            if (inside and self._judged > _EXPLORE / 2) or self._judged > _GIVE_UP:
                break
            start = starts[found + number] if number < 2 else self.space.sample(rng)
            walked = self._walk(start, rng)
            if walked is not None:
                inside.append(walked)
        # From there to everywhere inside: each change is kept that stays within the limits.
        spread = list(inside)
        while spread and self._judged < _EXPLORE:
            other = self.vary(spread[int(rng.integers(len(spread)))], rng)
            if self.excess(other) <= 0:
                spread.append(other)
        return [spread[int(place)] for place in rng.permutation(len(spread))]

    def _walk(self, params: Params, rng: np.random.Generator) -> Params | None:
        excess = self.excess(params)
        for _ in range(600):
            if excess <= 0:
                return params
            # From coarse to fine: the inside may be a narrow range of a number.
            other = self.vary(params, rng, reach=STEP * _FINEST ** rng.random())
            reached = self.excess(other)
            if reached <= excess:
                params, excess = other, reached
        return None
