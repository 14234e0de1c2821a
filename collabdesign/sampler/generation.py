"""A distribution over proposals that keep the static limits, and learns where they are good."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from collabdesign.sampler.proposal_space import (
    STEP,
    Params,
    ProposalSpace,
    SeenSpace,
    draw,
    every,
    is_possible,
    key_of,
    kind_of,
    step,
)

StaticViolations = Callable[[Params], Sequence[float]]

# Exploring asks for at most so many static violations before the first proposal.
_EXPLORE = 1500
_EXPLORE_AT_RANDOM = 200
_ARCHIVE = 64
# So many variations of what fits are pulled towards small and large known objectives, each from
# the best of a few.
_STRETCH = 300
_TOURNAMENT = 12
# Above this share of random proposals that fit they are drawn and judged; below, proposals
# start from those that fit already.
_COMMON = 0.1
# When so many walks towards the limits' inside ended outside, there is taken to be none.
_GIVE_UP = 20_000
# A kind of more than this share of all parameters is not changed as one.
_LARGEST_KIND = 0.25
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


class Generator:
    """Proposes parameter sets of a space that keep the static limits.

    Where few random proposals keep them, it walks: changes that do not add to the sum of what
    is over the limits are kept until nothing is. Around what keeps them it spreads by changes
    that stay inside, so that all of the inside can be reached, not its rim alone.

    Args:
        space: Where proposals come from.
        static_violations: Relative amounts over each limit; None where there are none.
        rng: For exploring the space, once.
        statics: Known objectives, less is better, NaN where training tells; None where nothing
            is known.
        judged: What was judged before, sum over the limits by key; added to.

    Raises:
        NothingFound: Nothing that keeps the limits was found.
    """

    def __init__(
        self,
        space: ProposalSpace,
        static_violations: StaticViolations | None,
        rng: np.random.Generator,
        statics: Callable[[Params], NDArray[np.float64]] | None = None,
        judged: dict[int, float] | None = None,
    ) -> None:
        self.space = space
        self._violations = static_violations
        self._statics = statics
        self._judged = {} if judged is None else judged
        self._asked_for: set[int] = set()
        self._counted: list[tuple[int, Params]] = []
        self._counting = islice(every(space), _MOST_ENUMERATED)
        self._common = 1.0
        #: Proposals that keep the limits, spread over those that do.
        self.archive: list[Params] = []
        self._explore(rng)
        #: What exploring met, the same in every process; more is met later.
        self.explored = dict(space.distributions)

    def fits(self, params: Params) -> bool:
        """Whether the parameter set keeps the static limits."""
        return self.excess(params) <= 0

    def excess(self, params: Params) -> float:
        """Sum of what it is over the limits, each relative to its limit; 0 if it fits."""
        if self._violations is None:
            return 0.0
        key = key_of(params)
        self._asked_for.add(key)
        known = self._judged.get(key)
        if known is None:
            known = self._judged[key] = self._judge(params)
        return known

    def _judge(self, params: Params) -> float:
        assert self._violations is not None
        try:
            found = self._violations(dict(params))
        except KeyError:
            if isinstance(self.space, SeenSpace):
                return math.inf  # a set of a shape that does not exist
            raise
        try:
            values = [float(value) for value in found]
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"static_violations must return one number for each limit, got {found!r}"
            ) from error
        return math.fsum(math.inf if math.isnan(value) else max(0.0, value) for value in values)

    def fresh(self, size: int, rng: np.random.Generator) -> list[Params]:
        """Proposals from all over the inside of the limits, drawn without a look at results."""
        if self._common >= _COMMON:
            tries = range(round(2 * size / self._common))
            drawn = (self.space.sample(rng) for _ in tries)
            return list(islice((params for params in drawn if self.fits(params)), size))
        out = []
        for _ in range(size):
            params = self.archive[int(rng.integers(len(self.archive)))]
            for _ in range(4):
                other = self.vary(params, rng)
                params = other if self.fits(other) else params
            out.append(params)
        return out

    def offspring(
        self,
        parents: Sequence[Params],
        size: int,
        rng: np.random.Generator,
        *,
        alike: float = 0.0,
    ) -> list[Params]:
        """Variations of parents and mixtures of two of them that keep the limits.

        Args:
            parents: At least one.
            size: So many are made; returned are those that keep the limits.
            rng: To draw from.
            alike: Share of the changes that are made to all parameters of a kind.
        """
        out = []
        for _ in range(size):
            params = parents[int(rng.integers(len(parents)))]
            if rng.random() < 0.3:
                params = self._cross(params, parents[int(rng.integers(len(parents)))], rng)
                if rng.random() < 0.5:
                    params = self.vary(params, rng, alike)
            else:
                params = self.vary(params, rng, alike)
            if self.fits(params):
                out.append(params)
        return out

    def vary(
        self,
        params: Params,
        rng: np.random.Generator,
        alike: float = 0.0,
        reach: float = STEP,
    ) -> Params:
        """The parameter set with one parameter changed, or a few; ``alike`` as for offspring,
        ``reach`` as for :func:`step`."""
        names = list(params)
        changes = min(len(names), int(rng.geometric(0.5)))
        changed = dict(params)
        for place in rng.choice(len(names), changes, replace=False):
            name = names[int(place)]
            distribution = self.space.distributions.get(name)
            if distribution is not None:
                far = rng.random() < 0.5
                old = params[name]
                value = draw(distribution, rng) if far else step(distribution, old, rng, reach)
                for each in self._kin(name, params) if rng.random() < alike else [name]:
                    if is_possible(self.space.distributions[each], {each: value}, each):
                        changed[each] = value
        return self.space.complete(changed, rng)

    def left_over(self, taken: AbstractSet[int], rng: np.random.Generator) -> Params | None:
        """Something that keeps the limits and is not taken; None where there seems to be nothing.

        Counted through, as far as the space can be; after that come walks from anywhere.
        """
        for key, params in self._count():
            if key not in taken:
                return params
        for _ in range(_LAST_WALKS):
            walked = self._walk(self.space.sample(rng), rng)
            if walked is not None and key_of(walked) not in taken:
                return walked
        return None

    def _count(self) -> Iterator[tuple[int, Params]]:
        """What keeps the limits, with its key, each judged once."""
        yield from self._counted
        for params in self._counting:
            if self.fits(params):
                self._counted.append((key_of(params), params))
                yield self._counted[-1]

    def _kin(self, name: str, params: Params) -> list[str]:
        """Active parameters of its kind, itself included; itself alone where the kind is so
        large that to change it were no small change."""
        kind = kind_of(name)
        known = self.space.distributions
        kin = [each for each in params if each in known and kind_of(each) == kind]
        return kin if len(kin) <= _LARGEST_KIND * len(params) else [name]

    def _cross(self, one: Params, other: Params, rng: np.random.Generator) -> Params:
        mixed = {**other, **one}
        for name in other:
            if name in one and rng.random() < 0.5:
                mixed[name] = other[name]
        return self.space.complete(mixed, rng)

    def _explore(self, rng: np.random.Generator) -> None:
        drawn = [self.space.sample(rng) for _ in range(_EXPLORE_AT_RANDOM)]
        inside = [params for params in drawn if self.fits(params)]
        self._common = len(inside) / len(drawn)
        if self._common < _COMMON:
            inside += self._walk_inside(drawn, len(inside), rng)
        if not inside:
            raise NothingFound(len(self._asked_for))
        inside = list({key_of(params): params for params in inside}.values())[:_ARCHIVE]
        self.archive = inside + self._stretch(inside, rng)

    def _stretch(self, inside: Sequence[Params], rng: np.random.Generator) -> list[Params]:
        """Towards all ends of what is known without training: a random draw of a large space
        lies in the middle of it.
        """
        if self._statics is None:
            return []
        values = [self._statics(params) for params in inside]
        known = np.flatnonzero(~np.isnan(values).any(axis=0))
        if not len(known):
            return []
        met = {key_of(params): params for params in inside}
        reached = dict(zip(met, (value[known] for value in values), strict=True))
        for _ in range(_STRETCH):
            keys = list(met)
            some = [keys[int(place)] for place in rng.integers(len(keys), size=_TOURNAMENT)]
            # By ranks, so that no scale has to be known.
            ranks = np.argsort(np.argsort([reached[key] for key in some], axis=0), axis=0)
            pull = rng.dirichlet(np.ones(len(known))) * rng.choice([-1.0, 1.0])
            start = some[int(np.argmax(ranks @ pull))]
            other = self.vary(met[start], rng)
            key = key_of(other)
            if key not in met and self.fits(other):
                met[key], reached[key] = other, self._statics(other)[known]
        return list(met.values())[len(inside) :]

    def _walk_inside(
        self, drawn: Sequence[Params], found: int, rng: np.random.Generator
    ) -> list[Params]:
        starts = sorted(drawn, key=self.excess)
        inside = starts[:found]
        # The nearest first, so that something is found soon; then from anywhere.
        for number in range(_GIVE_UP):
            spent = len(self._asked_for)
            if (inside and spent > _EXPLORE / 2) or spent > _GIVE_UP:
                break
            start = starts[found + number] if number < 2 else self.space.sample(rng)
            walked = self._walk(start, rng)
            if walked is not None:
                inside.append(walked)
        # From there to everywhere inside: each change is kept that stays within the limits.
        spread = list(inside)
        for _ in range(2 * _EXPLORE):
            if not spread or len(self._asked_for) >= _EXPLORE:
                break
            other = self.vary(spread[int(rng.integers(len(spread)))], rng)
            if self.fits(other):
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
