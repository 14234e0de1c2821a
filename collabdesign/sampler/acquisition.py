"""What a proposal is worth: the expected hypervolume improvement, from predicted losses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr

from collabdesign.sampler.axes import Axes
from collabdesign.sampler.gain import expected_gain, not_dominated
from collabdesign.sampler.generation import Proposals
from collabdesign.sampler.history import Observation
from collabdesign.sampler.inquisitor import Inquisitor, fit, upper_fence
from collabdesign.sampler.proposal_space import Floats, Params, key_of

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
        self, axes: Axes, observations: Sequence[Observation], pending: Proposals, fits: FitCache
    ) -> None:
        self._axes, self._fits = axes, fits
        losses = np.stack([each.losses for each in observations])
        # A power of two, so that no digit changes: the square of 1e200 is no number.
        huge = np.nanmax(np.abs(losses), axis=0, initial=1.0)
        self._units = np.where(huge > _HUGE, 2.0 ** np.frexp(huge)[1], 1.0)
        self._units[axes.known] = 1.0  # these are scaled where they are placed
        losses = losses / self._units
        self._size = losses.shape[1]
        rows, known = axes.place([(each.key, each.params) for each in observations])
        waiting, waiting_known = axes.place(pending.items())
        points = np.empty((len(rows) + len(waiting), self._size))
        points[:, axes.known] = np.vstack([known, waiting_known])
        self._reference = np.empty(self._size)
        highest = np.maximum(axes.high, points[:, axes.known].max(0))
        beyond = _BEYOND * (highest - axes.low) + 1e-9 * np.maximum(1.0, np.abs(highest))
        self._reference[axes.known] = highest + beyond
        # By place of the objective; the first is believed when proposals are weighed.
        self._inquisitors: dict[int, list[Inquisitor]] = {}
        for axis in map(int, axes.unknown):
            seen = losses[:, axis]
            targets = _filled(seen)
            several = self._hyperparameters(axis, rows, seen)
            # Each proposal uses other ones: the most probable alone are too sure of themselves.
            several.insert(0, several.pop(len(points) % len(several)))
            models = [Inquisitor(rows, axes.columns, targets, theta) for theta in several]
            points[: len(rows), axis] = targets
            if len(waiting):
                for model in models:
                    model.add_pending(waiting)
                points[len(rows) :, axis] = models[0].predict(waiting)[0]
            self._inquisitors[axis] = models
            self._reference[axis] = min(np.nanmax(seen), upper_fence(targets, _FAR_OUT))
        self._constraints = self._constraint_models(observations, rows)
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
        rows, known = self._axes.place(many.items())
        mean = np.empty((len(many), self._size))
        deviation = np.zeros_like(mean)
        mean[:, self._axes.known] = known
        for axis, (inquisitor, *_) in self._inquisitors.items():
            mean[:, axis], spread = inquisitor.predict(rows)
            # What parameters do not explain is for a part the network's own, and worth a try.
            deviation[:, axis] = np.hypot(spread, inquisitor.noise)
        gains = expected_gain(mean, deviation, self._front_losses, self._reference)
        for constraint in self._constraints:
            middle, spread = constraint.predict(rows)
            gains = gains * ndtr(-middle / spread)
        return gains

    def expectation(self, params: Params) -> dict[int, tuple[float, float]]:
        """Of each loss that only a trial tells, mean and deviation as it will be seen, over all
        hyperparameters that were found."""
        rows, _ = self._axes.place([(key_of(params), params)])
        found = {}
        for axis, models in self._inquisitors.items():
            means, deviations = np.array([model.predict(rows) for model in models])[:, :, 0].T
            variance = np.mean(deviations**2 + [model.noise**2 for model in models]) + means.var()
            unit = float(self._units[axis])
            found[axis] = unit * float(means.mean()), unit * float(np.sqrt(variance))
        return found

    def _hyperparameters(
        self, name: int | str, rows: Floats, targets: Floats, *, outliers: bool = True
    ) -> list[Floats]:
        """As :func:`fit` finds them, anew when there are enough new rows."""
        columns = self._axes.columns
        fitted = _fitted(len(rows))
        # Of these alone, so that a trial that ends later does not change what they are found from.
        targets = _filled(targets[:fitted] if np.isfinite(targets[:fitted]).any() else targets)
        # By what they are found from: a study may be told anew what to expect of a stopped network.
        summary = rows[:fitted] @ np.sqrt(np.arange(1.0, rows.shape[1] + 1))
        key = hash((columns, summary.tobytes(), targets[:fitted].tobytes()))
        if self._fits.get(name, (None, None))[0] != key:
            found = fit(rows[:fitted], columns, targets[:fitted], outliers=outliers)
            self._fits[name] = key, found
        return list(self._fits[name][1])

    def _constraint_models(
        self, observations: Sequence[Observation], rows: Floats
    ) -> list[Inquisitor]:
        """Predictors of the constraints that were broken once."""
        found = []
        broken = (
            {name for name, value in each.constraints.items() if value > 0} for each in observations
        )
        for name in sorted(set().union(*broken)):
            places = [place for place, each in enumerate(observations) if name in each.constraints]
            its_rows = rows[places]
            values = _clip_both(np.array([observations[at].constraints[name] for at in places]))
            # Clipped like losses, all may come to lie below 0, where nothing would seem broken.
            several = self._hyperparameters(name, its_rows, values, outliers=False)
            theta = several[len(places) % len(several)]
            columns = self._axes.columns
            found.append(Inquisitor(its_rows, columns, values, theta, outliers=False))
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


def _fitted(count: int) -> int:
    """From how many of so many observations hyperparameters are found: it grows by ``_REFIT``."""
    reached = 1
    while (following := max(reached + 1, int(reached * _REFIT))) <= count:
        reached = following
    return reached
