"""Whole proposals from a space that Optuna asks for one parameter at a time.

A space is a mapping of distributions, or the function that suggests its parameters, or what
trials showed of it. Each gives complete parameter sets: drawn at random, or made complete from
a part of one.
"""

from __future__ import annotations

import marshal
import math
import re
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import BaseTrial, FixedTrial, FrozenTrial

Floats = NDArray[np.float64]
Params = dict[str, Any]
_Number = IntDistribution | FloatDistribution
Suggest = Callable[[BaseTrial], Any]

# A step of a number reaches this share of its range, a standard deviation.
STEP = 0.15

# The last version of marshal's format in which equal values always have equal bytes.
_PLAIN = 2

_NUMBER = re.compile(r"\d+")


def key_of(params: Mapping[str, Any]) -> int:
    """What two equal parameter sets share in this process, whatever their order.

    A hash: of hundreds of thousands of sets the sets themselves would fill the memory. One of
    bytes, as -1 and -2 have the same hash as numbers.
    """
    items = sorted(params.items())
    try:
        return hash(marshal.dumps(items, _PLAIN))
    except ValueError:  # a value of another type than Python's own
        return hash(repr(items))


@cache
def kind_of(name: str) -> str:
    """What parameters share whose names differ by their numbers alone, such as
    ``stage1.activation`` and ``stage2.activation``."""
    return _NUMBER.sub("#", name)


class ProposalSpace(ABC):
    """Where proposals come from.

    Attributes:
        distributions: Of every parameter met so far.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self.distributions = dict(distributions)

    def sample(self, rng: np.random.Generator) -> Params:
        """A complete parameter set, each active parameter drawn uniformly."""
        return self.complete({}, rng)

    @abstractmethod
    def complete(self, params: Mapping[str, Any], rng: np.random.Generator) -> Params:
        """Keep what is active and possible, draw what is active and missing, drop the rest."""

    def _values(
        self, names: Iterable[str], params: Mapping[str, Any], rng: np.random.Generator
    ) -> Params:
        return {name: _kept_or_drawn(self.distributions[name], params, name, rng) for name in names}


def every(space: ProposalSpace) -> Iterator[Params]:
    """All parameter sets in turn; none where a number is continuous."""
    positions: list[int] = []
    while True:
        counter = _Counter(positions)
        try:
            yield space.complete({}, cast(np.random.Generator, counter))
        except _Continuous:
            return
        asked = counter.asked
        while asked and asked[-1][0] == asked[-1][1] - 1:
            asked.pop()
        if not asked:
            return
        positions = [position for position, _ in asked]
        positions[-1] += 1


class MappedSpace(ProposalSpace):
    """A mapping of distributions: every parameter is always active."""

    def complete(self, params: Mapping[str, Any], rng: np.random.Generator) -> Params:
        return self._values(self.distributions, params, rng)


class SuggestedSpace(ProposalSpace):
    """The function that suggests the parameters, run against a recorder instead of a trial."""

    def __init__(self, suggest: Suggest) -> None:
        super().__init__({})
        self._suggest = suggest

    def complete(self, params: Mapping[str, Any], rng: np.random.Generator) -> Params:
        recorder = _Recorder(params, rng, self.distributions)
        self._suggest(recorder)
        meet(self.distributions, recorder.distributions)
        return recorder.params


class SeenSpace(ProposalSpace):
    """What finished trials showed: their shapes, which are sets of parameters asked together.

    A category, or a whole number, that was only ever seen with other shapes is taken to choose
    between them: a parameter set that has it gets one of those.

    Args:
        trials: In order; where two disagree on a range, all of both counts.
    """

    def __init__(self, trials: Iterable[FrozenTrial]) -> None:
        super().__init__({})
        self._names: dict[frozenset[str], tuple[str, ...]] = {}  # as they were asked first
        self._counts: Counter[frozenset[str]] = Counter()
        self._seen: defaultdict[frozenset[str], set[tuple[str, str]]] = defaultdict(set)
        for trial in trials:
            if trial.distributions:
                shape = frozenset(trial.distributions)
                meet(self.distributions, trial.distributions)
                self._names.setdefault(shape, tuple(trial.distributions))
                self._counts[shape] += 1
                self._seen[shape].update(_choices_of(trial.params, trial.distributions))
        self._met = set().union(*self._seen.values())

    def has_shape_of(self, params: Mapping[str, Any]) -> bool:
        """Whether these very parameters were asked together."""
        return frozenset(params) in self._names

    def sample(self, rng: np.random.Generator) -> Params:
        """A known shape, as often as it was seen, with every parameter drawn uniformly."""
        shapes = list(self._names)
        counts = np.array([self._counts[shape] for shape in shapes], dtype=float)
        shape = shapes[int(rng.choice(len(shapes), p=counts / counts.sum()))]
        drawn = self._values(self._names[shape], {}, rng)
        return drawn if len(shapes) == 1 else self.complete(drawn, rng)

    def complete(self, params: Mapping[str, Any], rng: np.random.Generator) -> Params:
        """Of the known shape that agrees with most of the choices, then of the one that shares
        most names with the parameters."""
        chosen = set(_choices_of(params, self.distributions)) & self._met

        def fit(shape: frozenset[str]) -> tuple[int, int, int]:
            elsewhere = sum(name in shape for name, _ in chosen - self._seen[shape])
            return -elsewhere, len(shape & params.keys()), -len(shape)

        return self._values(self._names[max(self._names, key=fit)], params, rng)


def _choices_of(
    params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]
) -> Iterator[tuple[str, str]]:
    """Categories and whole numbers, as text."""
    for name, value in params.items():
        if not isinstance(distributions.get(name), FloatDistribution | None):
            yield name, repr(value)


def meet(known: dict[str, BaseDistribution], others: Mapping[str, BaseDistribution]) -> None:
    """Add to what is known of parameters, in place. A range may depend on another parameter: then
    all of it that was ever asked counts."""
    for name, other in others.items():
        old = known.get(name)
        if old is other:
            continue
        if old is None:
            known[name] = other
        elif not _is_categorical(other) and type(old) is type(other):
            one, other = cast(_Number, old), cast(_Number, other)
            if other.low < one.low or other.high > one.high:
                known[name] = _span(one, other)


def _span(one: _Number, other: _Number) -> _Number:
    """The smallest range that holds both."""
    low, high = min(one.low, other.low), max(one.high, other.high)
    if isinstance(one, IntDistribution):
        step = math.gcd(one.step, int(other.step or 1), int(one.low - other.low))
        return IntDistribution(int(low), int(high), log=one.log, step=step)
    steps = (one.low - other.low) / one.step if one.step == other.step and one.step else 0.5
    same = abs(steps - round(steps)) < 1e-8
    return FloatDistribution(low, high, log=one.log, step=one.step if same else None)


def _kept_or_drawn(
    distribution: BaseDistribution, params: Mapping[str, Any], name: str, rng: np.random.Generator
) -> Any:
    """The parameter's own value where the distribution holds it."""
    if name in params and _holds(distribution, params[name]):
        return params[name]
    return draw(distribution, rng)


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    if _is_categorical(distribution):
        return value in distribution.choices
    number = cast(_Number, distribution)
    if isinstance(value, str) or value is None or not number.low <= value <= number.high:
        return False
    if number.step is None or (number.step == 1 and isinstance(number, IntDistribution)):
        return True
    steps = (value - number.low) / number.step
    return bool(abs(steps - round(steps)) < 1e-8)


def draw(distribution: BaseDistribution, rng: np.random.Generator) -> Any:
    """A value, uniform on the scale of the distribution."""
    if isinstance(rng, _Counter):
        return rng.next_of(distribution)
    if _is_categorical(distribution):
        return distribution.choices[int(rng.integers(len(distribution.choices)))]
    size = count(distribution)
    if size is None or distribution.log:  # type: ignore[attr-defined]
        return from_share(distribution, rng.random())
    return from_share(distribution, (int(rng.integers(size)) + 0.5) / size)


def step(
    distribution: BaseDistribution, value: Any, rng: np.random.Generator, reach: float = STEP
) -> Any:
    """Another value: of categories any, of numbers a near one.

    ``reach`` is the standard deviation of a number's step, as a share of its range.
    """
    if _is_categorical(distribution):
        others = [each for each in distribution.choices if each != value]
        return others[int(rng.random() * len(others))] if others else value
    here = share(distribution, value)
    size = count(distribution)
    if size is None:
        there = here + reach * rng.standard_normal()
        return from_share(distribution, float(np.clip(there, 0.0, 1.0)))
    if size == 1:
        return value
    place = round(here * (size - 1))
    moves = max(1, round(abs(reach * (size - 1) * rng.standard_normal())))
    there = place + (moves if rng.random() < 0.5 else -moves)
    if not 0 <= there < size:
        there = int(np.clip(2 * place - there, 0, size - 1))
    return from_share(distribution, (there + 0.5) / size)


def count(distribution: BaseDistribution) -> int | None:
    """How many values there are, None where they are continuous."""
    if _is_categorical(distribution):
        return len(distribution.choices)
    number = cast(_Number, distribution)
    if number.step is None:
        return None if number.high > number.low else 1
    return round((number.high - number.low) / number.step) + 1


def share(distribution: BaseDistribution, value: float) -> float:
    """Where a number lies from the lowest (0) to the highest (1), logarithmic where it is."""
    number = cast(_Number, distribution)
    low, high = number.low, number.high
    if high <= low:
        return 0.0
    if number.log:
        return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
    return (value - low) / (high - low)


def from_share(distribution: BaseDistribution, position: float) -> float | int:
    """The number there; equal parts of 0 to 1 belong to each of a finite number of values."""
    number = cast(_Number, distribution)
    low, high = number.low, number.high
    if number.log:
        half = 0.5 if isinstance(number, IntDistribution) else 0.0
        first, last = math.log(low - half), math.log(high + half)
        value = math.exp(first + position * (last - first))
    elif (size := count(number)) is not None:
        value = _from_step(number, min(int(position * size), size - 1))
    else:
        value = low + position * (high - low)
    value = min(max(value, low), high)
    return round(value) if isinstance(number, IntDistribution) else float(value)


def _is_categorical(distribution: BaseDistribution) -> TypeGuard[CategoricalDistribution]:
    """Asked of every value of every proposal, where ``isinstance`` of an abstract class is slow."""
    return type(distribution) is CategoricalDistribution


def _from_step(distribution: IntDistribution | FloatDistribution, position: int) -> float | int:
    """The value so many steps above the lowest."""
    if isinstance(distribution, IntDistribution):
        return distribution.low + position * distribution.step
    # 0.3, and not 3 * 0.1, which is another number.
    largest = max(abs(distribution.low), abs(distribution.high))
    digits = 14 - math.floor(math.log10(largest)) if largest else 0
    return round(distribution.low + position * (distribution.step or 0.0), digits)


class _Continuous(Exception):
    """A number has no finite number of values."""


class _Counter:
    """In place of a random generator: the choices at given positions, then the first ones."""

    def __init__(self, positions: Sequence[int]) -> None:
        self._positions = positions
        self.asked: list[tuple[int, int]] = []

    def next_of(self, distribution: BaseDistribution) -> Any:
        size = count(distribution)
        if size is None:
            raise _Continuous
        place = len(self.asked)
        position = self._positions[place] if place < len(self._positions) else 0
        self.asked.append((position, size))
        if _is_categorical(distribution):
            return distribution.choices[position]
        number = cast(_Number, distribution)
        return number.low if size == 1 else _from_step(number, position)


class _Recorder(FixedTrial):
    """Answers a suggesting function as given, and at random where that ends; distributions that
    were met before are not built again."""

    def __init__(
        self,
        given: Mapping[str, Any],
        rng: np.random.Generator,
        met: Mapping[str, BaseDistribution],
    ) -> None:
        super().__init__({})
        self._given, self._rng, self._met = given, rng, met
        self._answers: Params = {}
        self._asked: dict[str, BaseDistribution] = {}

    @property
    def params(self) -> Params:
        return self._answers

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        return self._asked

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._ask(name, FloatDistribution(low, high, log=log, step=step)))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        met = self._met.get(name)
        if type(met) is not IntDistribution or (
            (met.low, met.high, met.step, met.log) != (low, high, step, log)
        ):
            met = IntDistribution(low, high, log=log, step=step)
        return int(self._ask(name, met))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        met = self._met.get(name)
        if type(met) is not CategoricalDistribution or met.choices is not choices:
            met = CategoricalDistribution(choices)
        return self._ask(name, met)

    def _ask(self, name: str, distribution: BaseDistribution) -> Any:
        if name not in self._answers:
            self._answers[name] = _kept_or_drawn(distribution, self._given, name, self._rng)
            self._asked[name] = distribution
        return self._answers[name]
