"""What a sampler knows after some trials, and what it makes of proposals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.spatial.distance import cdist
from scipy.special import ndtr

from collabdesign.sampler.encoding import Encoding
from collabdesign.sampler.gain import expected_gain, not_dominated
from collabdesign.sampler.inquisitor import Inquisitor, find_fit, spread_of
from collabdesign.sampler.proposal_space import Params, key_of

Floats = NDArray[np.float64]
StaticLosses = Callable[[Params], Floats]
Fits = dict[int | str, tuple[int, list[Floats]]]

# Beside the least known cost that is compared by its logarithm, what counts as nothing.
_NEGLIGIBLE = 1e-3

# Known costs that span more than this factor are compared by their logarithms.
_LOGARITHMIC = 3.0

# The reference lies beyond the largest known cost by this share of their span: where there is
# no limit the largest was perhaps not met yet.
_BEYOND = 0.05

# Where something is to be beaten the reference lies beyond its costs by so many of their spans.
_DEAR = 2.0
_FEWEST_BEST = 3

# What training tells is worth gaining from the worst that was seen, but from no further than
# this many interquartile ranges from the median: one odd value would make all others alike.
_FAR_OUT = 10.0

# Numbers beyond it are not squared.
_HUGE = 1e100

# Relevances are found anew when there are this many times as many observations.
_REFIT = 1.15


def signs_of(directions: Sequence[StudyDirection]) -> Floats:
    """Factors that turn every objective so that less is better."""
    return np.array([-1.0 if each == StudyDirection.MAXIMIZE else 1.0 for each in directions])


@dataclass(frozen=True)
class Observation:
    """A finished trial.

    Attributes:
        params: Complete and active.
        losses: [m], its objectives, less is better; NaN where training failed.
        constraints: Name to value, at most 0 is met.
        code: Its encoded row.
        statics: [m], its known objectives, less is better; NaN where training tells.
    """

    params: Params
    losses: Floats
    constraints: Mapping[str, float]
    code: Floats
    statics: Floats


class History:
    """A study's trials as a sampler sees them, each finished one read once.

    Args:
        encoding: For the observations' rows.
        static_losses: For their known objectives.
        directions: Of the study.
        part_of: A trial's parameters, as far as the space asks for them.

    Attributes:
        pending: Parameters that are being tried elsewhere.
        taken: Keys of everything tried, being tried or refused; not of what was killed.
    """

    def __init__(
        self,
        encoding: Encoding,
        static_losses: StaticLosses,
        directions: Sequence[StudyDirection],
        part_of: Callable[[FrozenTrial], Params],
    ) -> None:
        self.encoding = encoding
        self._part_of = part_of
        self.static_losses = static_losses
        self.pending: list[Params] = []
        self.taken: set[int] = set()
        self._signs = signs_of(directions)
        self._read: set[int] = set()
        self._finished: set[int] = set()
        self._observations: dict[int, Observation] = {}

    def read(self, trials: Iterable[FrozenTrial]) -> None:
        """Take in what is new; trials killed from outside are not to be among them.

        A trial that was pruned counts as one that failed: nothing is known of its objectives
        but that it was not worth its end. Pruned for a broken constraint it is only taken.
        """
        self.pending = []
        for trial in trials:
            if trial.number in self._read or not trial.params:
                continue
            params = self._part_of(trial)
            if trial.state == TrialState.RUNNING:
                self.pending.append(params)
            if not trial.state.is_finished():
                continue
            self._read.add(trial.number)
            self._finished.add(key_of(params))
            constraints = trial.constraints
            if trial.state == TrialState.COMPLETE:
                losses = np.asarray(trial.values, dtype=float) * self._signs
                losses = np.where(np.isfinite(losses), losses, np.nan)
            elif any(value > 0 for value in constraints.values()):
                continue
            else:
                losses = np.full(len(self._signs), np.nan)
            code = self.encoding.rows([params])[0]
            statics = self.static_losses(params)
            observation = Observation(params, losses, constraints, code, statics)
            self._observations[trial.number] = observation
        self.taken = self._finished | {key_of(params) for params in self.pending}

    def has_read(self, number: int) -> bool:
        """Whether this trial was finished, and whole, when it was last looked at."""
        return number in self._read

    @property
    def observations(self) -> list[Observation]:
        """In the order of their trials."""
        return [self._observations[number] for number in sorted(self._observations)]


class Axes:
    """Encoded parameters beside the objectives that are known without training.

    Args:
        encoding: Of the parameters.
        static_losses: Parameters to objectives, less is better, NaN where training tells.
        reach: [k, m], known objectives that span what can be had.

    Attributes:
        known: Places of the known objectives among all.
        unknown: Places of the others.
        low: Of each known objective, on the scale on which it is compared.
        high: Likewise.
        columns: Of a row: those of the encoding, and one for each known objective.
    """

    def __init__(self, encoding: Encoding, static_losses: StaticLosses, reach: Floats) -> None:
        self._encoding = encoding
        self._static_losses = static_losses
        self.known = np.flatnonzero(~np.isnan(reach).any(axis=0))
        self.unknown = np.flatnonzero(np.isnan(reach).any(axis=0))
        self._worst = reach[:, self.known].max(0)
        costs = self._costs(reach)
        one_sign = np.abs(np.sign(costs).sum(axis=0)) == len(reach)
        sizes = np.abs(costs)
        self._logarithmic = one_sign & (sizes.min(0) * _LOGARITHMIC < sizes.max(0))
        self._signs = np.where(costs.min(0) > 0, 1.0, -1.0)
        self._least = _NEGLIGIBLE * sizes.min(0)
        lengths = self._lengths(reach)
        self.low, self.high = lengths.min(0), lengths.max(0)
        span = self.high - self.low
        # Of a cost that is the same everywhere nothing depends.
        size = np.maximum(np.abs(self.low), np.abs(self.high))
        self._span = np.where(span > 1e-9 * size, span, np.maximum(size, 1.0))
        self.columns = encoding.columns.beside(len(self.known))

    def place(self, many: Sequence[Params]) -> tuple[Floats, Floats]:
        """Rows [n, d] for the inquisitor, and known losses [n, known]."""
        if not many:
            return np.empty((0, len(self.columns))), np.empty((0, len(self.known)))
        statics = np.stack([self._static_losses(params) for params in many])
        return self._placed(self._encoding.rows(many), statics)

    def place_observed(self, some: Sequence[Observation]) -> tuple[Floats, Floats]:
        """Likewise of observations, at least one."""
        codes = np.stack([each.code for each in some])
        return self._placed(codes, np.stack([each.statics for each in some]))

    def distances(self, one: Floats, other: Floats) -> Floats:
        """[n, others] between rows, squared; all parameters weigh as much as all costs."""
        weights = np.full(one.shape[1], 1.0 / max(1, len(self._encoding.names)))
        if len(self.known):
            weights[-len(self.known) :] = 1.0 / len(self.known)
        out: Floats = cdist(one, other, "sqeuclidean", w=weights)
        return out

    def differences(self, known: Floats) -> Floats:
        """Known losses as :meth:`place` gives them, [n, known], compared by their differences:
        0 at the least that can be had, 1 at the most."""
        low, high, at = (self._plain(each) for each in (self.low, self.high, known))
        out: Floats = (at - low) / np.maximum(high - low, 1e-12)
        return out

    def _placed(self, codes: Floats, statics: Floats) -> tuple[Floats, Floats]:
        known = self._lengths(statics)
        return np.hstack([codes, np.clip((known - self.low) / self._span, -1, 2)]), known

    def _plain(self, lengths: Floats) -> Floats:
        """Out of :meth:`_lengths` again."""
        capped = np.where(self._logarithmic, self._signs * lengths, 0.0)
        return np.where(self._logarithmic, self._signs * np.exp(capped), lengths)

    def _lengths(self, statics: Floats) -> Floats:
        """Known objectives, by their logarithms where they are compared so."""
        costs = self._costs(statics)
        # What is nothing, or of the other sign, has no logarithm: it counts as very little.
        sizes = np.maximum(self._signs * costs, self._least)
        with np.errstate(divide="ignore"):
            logarithms = self._signs * np.log(sizes)
        return np.where(self._logarithmic, logarithms, costs)

    def _costs(self, statics: Floats) -> Floats:
        """The known objectives; one that is not known, against what was said, is the worst."""
        costs = statics[:, self.known]
        out: Floats = np.where(np.isfinite(costs), costs, self._worst)
        return out


class Belief:
    """Inquisitors of all that training tells, and the front as it was seen.

    Args:
        axes: How proposals become rows.
        observations: At least one that did not fail.
        pending: What is being tried elsewhere.
        fits: What was found earlier, kept from one belief to the next.

    Attributes:
        front_places: Places, among the observations, of the front that keeps all constraints.
        best_places: Of these the ones that are best in what training tells.
    """

    def __init__(
        self,
        axes: Axes,
        observations: Sequence[Observation],
        pending: Sequence[Params],
        fits: Fits,
    ) -> None:
        self._axes = axes
        losses = np.stack([each.losses for each in observations])
        # A power of two, so that no digit changes: the square of 1e200 is no number.
        huge = np.nanmax(np.abs(losses), axis=0, initial=1.0)
        self._units = np.where(huge > _HUGE, 2.0 ** np.frexp(huge)[1], 1.0)
        self._units[axes.known] = 1.0  # these are scaled where they are placed
        losses = losses / self._units
        self._size = losses.shape[1]
        rows, known = axes.place_observed(observations)
        waiting, waiting_known = axes.place(pending)
        points = np.empty((len(rows) + len(waiting), self._size))
        points[:, axes.known] = np.vstack([known, waiting_known])
        self._reference = np.empty(self._size)
        highest = np.maximum(axes.high, points[:, axes.known].max(0))
        beyond = _BEYOND * (highest - axes.low) + 1e-9 * np.maximum(1.0, np.abs(highest))
        self._reference[axes.known] = highest + beyond
        self._inquisitors: dict[int, Inquisitor] = {}
        self._others: dict[int, list[Callable[[], Inquisitor]]] = {}
        for axis in map(int, axes.unknown):
            worst = np.nanmax(losses[:, axis])
            # One that failed counts as bad, not as the worst: its neighbours may be sound.
            bad = np.nanquantile(losses[:, axis], 0.75)
            targets = np.where(np.isnan(losses[:, axis]), bad, losses[:, axis])
            explanations = self._explanations(axis, rows, targets, fits)
            # Each proposal believes another one.
            believed = len(points) % len(explanations)
            inquisitor = self._conditioned(rows, targets, explanations[believed], waiting)
            self._inquisitors[axis] = inquisitor
            self._others[axis] = [
                partial(self._conditioned, rows, targets, theta, waiting)
                for place, theta in enumerate(explanations)
                if place != believed
            ]
            points[: len(rows), axis] = targets
            if len(waiting):
                points[len(rows) :, axis] = inquisitor.predict(waiting)[0]
            self._reference[axis] = min(worst, _far_out(targets))
        self._watched = self._watch(observations, rows, fits)
        allowed = [
            bool(np.isfinite(each.losses).all())
            and all(value <= 0 for value in each.constraints.values())
            for each in observations
        ]
        keeps = np.ones(len(waiting), dtype=bool)
        for inquisitor in self._watched if len(waiting) else ():
            keeps &= inquisitor.predict(waiting)[0] <= 0
        places = np.flatnonzero([*allowed, *keeps])
        best = places[not_dominated(points[places])]
        self._front = points[best]
        self.front_places = [int(place) for place in best if place < len(rows)]
        self.best_places = sorted(
            {
                place
                for axis in self._inquisitors
                for place in sorted(self.front_places, key=lambda at: float(points[at, axis]))[
                    : max(_FEWEST_BEST, len(self.front_places) // 4)
                ]
            }
        )

    def gains(self, many: Sequence[Params], *, to_beat: Sequence[Params] = ()) -> Floats:
        """Expected gain in hypervolume of each, times the probability that it is allowed.

        Args:
            many: Proposals.
            to_beat: Where there are such, only proposals that cost no more than the dearest of
                these gain anything, and only by what training tells being better than all that
                was seen; costs count a little, by their differences.
        """
        mean, deviation, rows = self._predict(many)
        front, reference = self._front, self._reference
        dearer = np.zeros(len(many), dtype=bool)
        if to_beat:
            known = self._axes.known
            highest = self._axes.place(to_beat)[1].max(0)
            dearer = (mean[:, known] > highest).any(axis=1)
            mean, front, reference = mean.copy(), front.copy(), reference.copy()
            mean[:, known] = self._axes.differences(mean[:, known])
            # As if all had cost nothing: what training tells has to be better than ever seen.
            front[:, known] = np.minimum(0, mean[:, known].min(0))
            reference[known] = self._axes.differences(highest[None])[0] + _DEAR
        gains = expected_gain(mean, deviation, front, reference) * ~dearer
        for inquisitor in self._watched:
            middle, spread = inquisitor.predict(rows)
            gains = gains * ndtr(-middle / spread)
        return gains

    def expectation(self, params: Params) -> tuple[Floats, Floats]:
        """Mean and deviation of each loss as it will be seen, over all explanations of what was
        seen so far; the deviation is 0 where it is known.

        Known losses are as the axes compare them.
        """
        rows, known = self._axes.place([params])
        mean, deviation = np.empty(self._size), np.zeros(self._size)
        mean[self._axes.known] = known[0]
        for axis, believed in self._inquisitors.items():
            several = [believed, *(make() for make in self._others[axis])]
            told = [(each.predict(rows), each.noise) for each in several]
            means = np.array([middle[0] for (middle, _), _ in told])
            variances = [unsure[0] ** 2 + noise**2 for (_, unsure), noise in told]
            mean[axis] = means.mean()
            deviation[axis] = math.sqrt(float(np.mean(variances) + means.var()))
        return mean * self._units, deviation * self._units

    def _predict(self, many: Sequence[Params]) -> tuple[Floats, Floats, Floats]:
        rows, known = self._axes.place(many)
        mean = np.empty((len(many), self._size))
        deviation = np.zeros_like(mean)
        mean[:, self._axes.known] = known
        for axis, inquisitor in self._inquisitors.items():
            mean[:, axis], unsure = inquisitor.predict(rows)
            # What parameters do not explain is for a part the network's own, and worth a try.
            deviation[:, axis] = np.hypot(unsure, inquisitor.noise)
        return mean, deviation, rows

    def _explanations(
        self, name: int | str, rows: Floats, targets: Floats, fits: Fits, *, fenced: bool = True
    ) -> list[Floats]:
        """Relevances and variances as they may be, found anew when there are enough new rows."""
        columns = self._axes.columns
        fitted = _fitted(len(rows))
        # By what it was found from: of a network that was stopped, what is expected changes.
        told = rows[:fitted] @ np.sqrt(np.arange(1.0, rows.shape[1] + 1))
        key = hash((columns, told.tobytes(), targets[:fitted].tobytes()))
        if fits.get(name, (None, None))[0] != key:
            found = find_fit(rows[:fitted], columns, targets[:fitted], fenced=fenced)
            fits[name] = key, found
        return fits[name][1]

    def _conditioned(
        self, rows: Floats, targets: Floats, theta: Floats, waiting: Floats, *, fenced: bool = True
    ) -> Inquisitor:
        inquisitor = Inquisitor(rows, self._axes.columns, targets, theta, fenced=fenced)
        if len(waiting):
            # The uncertainty near them is spent already.
            inquisitor.take_as_expected(waiting)
        return inquisitor

    def _watch(
        self, observations: Sequence[Observation], rows: Floats, fits: Fits
    ) -> list[Inquisitor]:
        """Predictors of the constraints that were broken once."""
        found = []
        broken = (
            {name for name, value in each.constraints.items() if value > 0} for each in observations
        )
        for name in sorted(set().union(*broken)):
            places = [place for place, each in enumerate(observations) if name in each.constraints]
            values = _about_zero(
                np.array([observations[place].constraints[name] for place in places])
            )
            its_rows = rows[places]
            # A fence around what most have may lie below 0, where nothing would seem broken.
            explanations = self._explanations(name, its_rows, values, fits, fenced=False)
            theta = explanations[len(places) % len(explanations)]
            found.append(self._conditioned(its_rows, values, theta, rows[:0], fenced=False))
        return found


def _about_zero(values: Floats) -> Floats:
    """A constraint's values, as far as they tell about which are above 0: what is endless or far
    beyond most on either side is drawn in."""
    known = values[np.abs(values) < _HUGE]
    sizes = np.abs(known[known != 0])
    # A power of two, so that it seldom changes, and with it what was fitted.
    most = _FAR_OUT * 2.0 ** np.rint(np.log2(np.median(sizes))) if len(sizes) else 1.0
    return np.clip(np.nan_to_num(values, nan=most), -most, most)


def _far_out(targets: Floats) -> float:
    spread = spread_of(targets)
    return float(np.median(targets)) + _FAR_OUT * spread if spread else math.inf


def _fitted(count: int) -> int:
    """The largest of 1, 2, 3 ... and their growth by a factor that is not above the count."""
    reached = 1
    while (following := max(reached + 1, int(reached * _REFIT))) <= count:
        reached = following
    return reached
