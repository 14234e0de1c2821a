"""What a proposal is worth: the expected hypervolume improvement, by predictors of the losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from collabdesign.sampler.axes import Axes
from collabdesign.sampler.gain import expected_gain, not_dominated
from collabdesign.sampler.generation import Proposals
from collabdesign.sampler.history import Observation
from collabdesign.sampler.inquisitor import Inquisitor, find_fit, spread_of
from collabdesign.sampler.proposal_space import Params, key_of

Floats = NDArray[np.float64]
# Hyperparameters by objective or constraint, with a hash of what they were found from.
FitCache = dict[int | str, tuple[int, list[Floats]]]

# The reference lies beyond the largest known cost by this share of their span: where there is
# no limit the largest was perhaps not met yet.
_BEYOND = 0.05

# What training tells is worth gaining from the worst that was seen, but from no further than
# this many interquartile ranges from the median: one odd value would make all others alike.
_FAR_OUT = 10.0

# Numbers beyond it are not squared.
_HUGE = 1e100

# Hyperparameters are found anew when there are this many times as many observations.
_REFIT = 1.15


class Acquisition:
    """Predictors of all that training tells, and the front as it was seen.

    Args:
        axes: How proposals become rows.
        observations: At least one that did not fail.
        pending: What is being tried elsewhere.
        fits: Hyperparameters found earlier, kept from one proposal to the next.

    Attributes:
        front: Parameters of the observations on the front that keeps all constraints.
    """

    def __init__(
        self,
        axes: Axes,
        observations: Sequence[Observation],
        pending: Proposals,
        fits: FitCache,
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
        self._front_losses = points[best]
        self.front = [observations[place].params for place in best if place < len(rows)]

    def gains(self, many: Proposals) -> Floats:
        """Expected hypervolume improvement of each, times the probability that it is allowed."""
        rows, known = self._axes.place(many)
        mean = np.empty((len(many), self._size))
        deviation = np.zeros_like(mean)
        mean[:, self._axes.known] = known
        for axis, inquisitor in self._inquisitors.items():
            mean[:, axis], unsure = inquisitor.predict(rows)
            # What parameters do not explain is for a part the network's own, and worth a try.
            deviation[:, axis] = np.hypot(unsure, inquisitor.noise)
        gains = expected_gain(mean, deviation, self._front_losses, self._reference)
        for inquisitor in self._watched:
            middle, spread = inquisitor.predict(rows)
            gains = gains * ndtr(-middle / spread)
        return gains

    def expectation(self, params: Params) -> tuple[Floats, Floats]:
        """Mean and deviation of each loss as it will be seen, over all explanations of what was
        seen so far; the deviation is 0 where it is known.

        Known losses are as the axes compare them.
        """
        rows, known = self._axes.place({key_of(params): params})
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

    def _explanations(
        self, name: int | str, rows: Floats, targets: Floats, fits: FitCache, *, fenced: bool = True
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
        self, observations: Sequence[Observation], rows: Floats, fits: FitCache
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
