"""What a proposal is worth: the expected hypervolume improvement, from predicted losses."""

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
from collabdesign.sampler.inquisitor import Inquisitor, fit, spread_of
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
    """Predictors of the losses that only a trial tells, and the front of the trials so far.

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
            targets = _filled(losses[:, axis])
            several = self._hyperparameters(axis, rows, losses[:, axis], fits)
            # Each proposal uses other ones: the most probable alone are too sure of themselves.
            theta = several.pop(len(points) % len(several))
            inquisitor = self._inquisitor(rows, targets, theta, waiting)
            self._inquisitors[axis] = inquisitor
            self._others[axis] = [
                partial(self._inquisitor, rows, targets, other, waiting) for other in several
            ]
            points[: len(rows), axis] = targets
            if len(waiting):
                points[len(rows) :, axis] = inquisitor.predict(waiting)[0]
            self._reference[axis] = min(worst, _worst_worth_gaining(targets))
        self._constraints = self._constraint_models(observations, rows, fits)
        met = [all(value <= 0 for value in each.constraints.values()) for each in observations]
        allowed = np.isfinite(losses).all(axis=1) & np.array(met)
        keeps = np.ones(len(waiting), dtype=bool)
        for inquisitor in self._constraints if len(waiting) else ():
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
            mean[:, axis], spread = inquisitor.predict(rows)
            # What parameters do not explain is for a part the network's own, and worth a try.
            deviation[:, axis] = np.hypot(spread, inquisitor.noise)
        gains = expected_gain(mean, deviation, self._front_losses, self._reference)
        for constraint in self._constraints:
            middle, spread = constraint.predict(rows)
            gains = gains * ndtr(-middle / spread)
        return gains

    def expectation(self, params: Params) -> tuple[Floats, Floats]:
        """Mean and deviation of each loss as it will be seen, over all hyperparameters that were
        found; the deviation is 0 where it is known. Known losses are as the axes compare them.
        """
        rows, known = self._axes.place({key_of(params): params})
        mean, deviation = np.empty(self._size), np.zeros(self._size)
        mean[self._axes.known] = known[0]
        for axis, first in self._inquisitors.items():
            several = [first, *(make() for make in self._others[axis])]
            predicted = [(each.predict(rows), each.noise) for each in several]
            means = np.array([middle[0] for (middle, _), _ in predicted])
            variances = [spread[0] ** 2 + noise**2 for (_, spread), noise in predicted]
            mean[axis] = means.mean()
            deviation[axis] = math.sqrt(float(np.mean(variances) + means.var()))
        return mean * self._units, deviation * self._units

    def _hyperparameters(
        self,
        name: int | str,
        rows: Floats,
        targets: Floats,
        fits: FitCache,
        *,
        outliers: bool = True,
    ) -> list[Floats]:
        """As :func:`fit` finds them, anew when there are enough new rows."""
        columns = self._axes.columns
        fitted = _fitted(len(rows))
        # Of these alone, so that a trial that ends later does not change what they are found from.
        targets = _filled(targets[:fitted] if np.isfinite(targets[:fitted]).any() else targets)
        # By what they are found from: a study may be told anew what to expect of a stopped network.
        summary = rows[:fitted] @ np.sqrt(np.arange(1.0, rows.shape[1] + 1))
        key = hash((columns, summary.tobytes(), targets[:fitted].tobytes()))
        if fits.get(name, (None, None))[0] != key:
            found = fit(rows[:fitted], columns, targets[:fitted], outliers=outliers)
            fits[name] = key, found
        return list(fits[name][1])

    def _inquisitor(
        self,
        rows: Floats,
        targets: Floats,
        theta: Floats,
        waiting: Floats,
        *,
        outliers: bool = True,
    ) -> Inquisitor:
        inquisitor = Inquisitor(rows, self._axes.columns, targets, theta, outliers=outliers)
        if len(waiting):
            inquisitor.add_pending(waiting)
        return inquisitor

    def _constraint_models(
        self, observations: Sequence[Observation], rows: Floats, fits: FitCache
    ) -> list[Inquisitor]:
        """Predictors of the constraints that were broken once."""
        found = []
        broken = (
            {name for name, value in each.constraints.items() if value > 0} for each in observations
        )
        for name in sorted(set().union(*broken)):
            places = [place for place, each in enumerate(observations) if name in each.constraints]
            values = _clip_both(
                np.array([observations[place].constraints[name] for place in places])
            )
            its_rows = rows[places]
            # Clipped like losses, all may come to lie below 0, where nothing would seem broken.
            several = self._hyperparameters(name, its_rows, values, fits, outliers=False)
            theta = several[len(places) % len(several)]
            found.append(self._inquisitor(its_rows, values, theta, rows[:0], outliers=False))
        return found


def _filled(losses: Floats) -> Floats:
    """The losses; where a trial failed the upper quartile, as similar networks may be sound."""
    out: Floats = np.where(np.isnan(losses), np.nanquantile(losses, 0.75), losses)
    return out


def _clip_both(values: Floats) -> Floats:
    """A constraint's values; those far from 0 on either side, or endless, are clipped."""
    known = values[np.abs(values) < _HUGE]
    sizes = np.abs(known[known != 0])
    # A power of two, so that it seldom changes, and with it what was fitted.
    most = _FAR_OUT * 2.0 ** np.rint(np.log2(np.median(sizes))) if len(sizes) else 1.0
    return np.clip(np.nan_to_num(values, nan=most), -most, most)


def _worst_worth_gaining(targets: Floats) -> float:
    """The largest loss at which hypervolume is counted."""
    spread = spread_of(targets)
    return float(np.median(targets)) + _FAR_OUT * spread if spread else math.inf


def _fitted(count: int) -> int:
    """From how many of so many observations hyperparameters are found: it grows by ``_REFIT``."""
    reached = 1
    while (following := max(reached + 1, int(reached * _REFIT))) <= count:
        reached = following
    return reached
