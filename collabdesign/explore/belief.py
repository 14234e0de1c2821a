"""What a sampler knows after some trials, and what it makes of proposals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtr

from collabdesign.explore.gain import expected_gain
from collabdesign.explore.inquisitor import Encoding, Inquisitor
from collabdesign.explore.proposal_space import Key, Params, key_of

Floats = NDArray[np.float64]
StaticLosses = Callable[[Params], Floats]

# Known costs that span more than this factor are compared by their logarithms.
_LOGARITHMIC = 3.0

# The reference lies beyond the largest known cost by this share of their span: where there is
# no limit the largest was perhaps not met yet.
_BEYOND = 0.05

# What training tells is worth gaining from the worst that was seen, but from no further than
# this many interquartile ranges from the median: one odd value would make all others alike.
_FAR_OUT = 10.0

# Relevances are found anew when there are this many times as many observations.
_REFIT = 1.15


def signs_of(directions: Sequence[StudyDirection]) -> Floats:
    """Factors that turn every objective so that less is better."""
    return np.array([-1.0 if each == StudyDirection.MAXIMIZE else 1.0 for each in directions])


@dataclass
class History:
    """A study's trials as a sampler sees them.

    Attributes:
        params: Of the observations, in the order of their trials.
        losses: [n, m], their objectives, less is better; NaN where training failed.
        constraints: Of each observation, name to value, at most 0 is met.
        pending: Parameters that are being tried elsewhere.
        taken: Keys of everything tried, being tried or refused.
    """

    params: list[Params] = field(default_factory=list)
    losses: Floats = field(default_factory=lambda: np.empty((0, 0)))
    constraints: list[Mapping[str, float]] = field(default_factory=list)
    pending: list[Params] = field(default_factory=list)
    taken: set[Key] = field(default_factory=set)

    @classmethod
    def of(cls, trials: Iterable[FrozenTrial], directions: Sequence[StudyDirection]) -> History:
        """Read trials; those killed from outside are not to be among them.

        A trial that was pruned counts as one that failed: nothing is known of its objectives
        but that it was not worth its end. Pruned for a broken constraint it is only taken.
        """
        history, rows, signs = cls(), [], signs_of(directions)
        for trial in trials:
            if not trial.params:
                continue
            params = dict(trial.params)
            history.taken.add(key_of(params))
            if trial.state == TrialState.RUNNING:
                history.pending.append(params)
            if not trial.state.is_finished():
                continue
            constraints = trial.constraints
            if trial.state == TrialState.COMPLETE:
                row = np.asarray(trial.values, dtype=float) * signs
                rows.append(np.where(np.isfinite(row), row, np.nan))
            elif any(value > 0 for value in constraints.values()):
                continue
            else:
                rows.append(np.full(len(signs), np.nan))
            history.params.append(params)
            history.constraints.append(constraints)
        history.losses = np.array(rows).reshape(-1, len(signs))
        return history


class Axes:
    """Encoded parameters beside the objectives that are known without training.

    Args:
        distributions: The parameters to encode.
        static_losses: Parameters to objectives, less is better, NaN where training tells.
        reach: Parameter sets that span the costs.
    """

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        static_losses: StaticLosses,
        reach: Sequence[Params],
    ) -> None:
        self._encoding = Encoding(distributions)
        self._static_losses = static_losses
        statics = np.array([static_losses(params) for params in reach])
        self._size = statics.shape[1]
        self.known = np.flatnonzero(~np.isnan(statics).any(axis=0))
        self.unknown = np.flatnonzero(np.isnan(statics).any(axis=0))
        costs = np.abs(statics[:, self.known])
        same_sign = (np.abs(np.sign(statics[:, self.known]).sum(0)) == len(reach)) & (
            costs.min(0) * _LOGARITHMIC < costs.max(0)
        )
        #: Whether each known objective is compared by its logarithm.
        self.logarithmic = same_sign
        lengths = self._lengths(statics)
        self.low, self.high = lengths.min(0), lengths.max(0)
        self._span = np.maximum(self.high - self.low, 1e-12)
        number = len(self._encoding.names)
        #: Of each column, the number of its parameter; each known cost is one more.
        self.groups = [*self._encoding.group_of, *range(number, number + len(self.known))]

    def known_losses(self, many: Sequence[Params]) -> Floats:
        """[n, known], logarithmic where they are compared so."""
        statics = np.array([self._static_losses(params) for params in many])
        return self._lengths(statics.reshape(len(many), self._size))

    def rows(self, many: Sequence[Params], known: Floats) -> Floats:
        """[n, d] for the inquisitor, from :meth:`known_losses` of the same."""
        costs = (known - self.low) / self._span
        return np.hstack([self._encoding.rows(many), costs])

    def distances(self, some: Sequence[Params], others: Sequence[Params]) -> Floats:
        """[n, others], squared; parameters together weigh as much as costs together."""
        a, b = (self._evened(each) for each in (some, others))
        out: Floats = ((a[:, None, :] - b[None, :, :]) ** 2).sum(2)
        return out

    def _evened(self, many: Sequence[Params]) -> Floats:
        rows = self.rows(many, self.known_losses(many))
        width = rows.shape[1] - len(self.known)
        rows[:, :width] /= np.sqrt(max(1, len(self._encoding.names)))
        rows[:, width:] /= np.sqrt(max(1, len(self.known)))
        return rows

    def _lengths(self, statics: Floats) -> Floats:
        costs = statics[:, self.known]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.logarithmic, np.sign(costs) * np.log(np.abs(costs)), costs)


class Belief:
    """Inquisitors of all that training tells, and the front as they see it.

    Args:
        axes: How proposals become rows.
        history: At least one observation that did not fail.
        fits: Relevances found earlier, kept from one belief to the next.
    """

    def __init__(self, axes: Axes, history: History, fits: dict[tuple[Any, ...], Floats]) -> None:
        self._axes = axes
        self._size = history.losses.shape[1]
        known = axes.known_losses(history.params)
        rows = axes.rows(history.params, known)
        waiting_known = axes.known_losses(history.pending)
        waiting = axes.rows(history.pending, waiting_known)
        points = np.empty((len(rows) + len(waiting), self._size))
        points[:, axes.known] = np.vstack([known, waiting_known])
        reference = np.empty(self._size)
        reference[axes.known] = np.maximum(axes.high, points[:, axes.known].max(0))
        reference[axes.known] += _BEYOND * (reference[axes.known] - axes.low) + 1e-9
        self._inquisitors: dict[int, Inquisitor] = {}
        for axis in axes.unknown:
            targets = history.losses[:, axis]
            worst = np.nanmax(targets)
            targets = np.where(np.isnan(targets), worst, targets)
            inquisitor = self._inquire(int(axis), rows, targets, waiting, fits)
            self._inquisitors[int(axis)] = inquisitor
            # What the inquisitor makes of the observations: a lucky one is no front.
            points[:, axis] = inquisitor.predict(np.vstack([rows, waiting]))[0]
            reference[axis] = min(worst, _far_out(targets))
        self._watched = self._watch(history, rows, fits)
        kept = [all(value <= 0 for value in each.values()) for each in history.constraints]
        kept += [True] * len(waiting)
        self._points, self._reference = points[kept], reference
        inside = points[: len(rows)]
        #: Places, among the observations, of the front that keeps all constraints.
        self.front_places = [
            place
            for place, point in enumerate(inside)
            if kept[place]
            and not ((self._points <= point).all(1) & (self._points < point).any(1)).any()
        ]

    def gains(self, many: Sequence[Params]) -> Floats:
        """Expected gain in hypervolume of each, times the probability that it is allowed."""
        mean, deviation, rows = self._predict(many)
        gains = expected_gain(mean, deviation, self._points, self._reference)
        for inquisitor in self._watched:
            middle, spread = inquisitor.predict(rows)
            gains = gains * ndtr(-middle / spread)
        return gains

    def expectation(self, params: Params) -> tuple[Floats, Floats]:
        """Mean and deviation of each loss, logarithmic as the axes are; 0 where it is known."""
        mean, deviation, _ = self._predict([params])
        for axis, inquisitor in self._inquisitors.items():
            deviation[:, axis] = np.hypot(deviation[:, axis], inquisitor.noise)
        return mean[0], deviation[0]

    def _predict(self, many: Sequence[Params]) -> tuple[Floats, Floats, Floats]:
        known = self._axes.known_losses(many)
        rows = self._axes.rows(many, known)
        mean = np.empty((len(many), self._size))
        deviation = np.zeros_like(mean)
        mean[:, self._axes.known] = known
        for axis, inquisitor in self._inquisitors.items():
            mean[:, axis], deviation[:, axis] = inquisitor.predict(rows)
        return mean, deviation, rows

    def _inquire(
        self,
        name: int | str,
        rows: Floats,
        targets: Floats,
        waiting: Floats,
        fits: dict[tuple[Any, ...], Floats],
    ) -> Inquisitor:
        fitted = _fitted(len(rows))
        key = (name, fitted, rows.shape[1])
        if key not in fits:
            fits[key] = Inquisitor.find_fit(rows[:fitted], self._axes.groups, targets[:fitted])
        inquisitor = Inquisitor(rows, self._axes.groups, targets, fits[key])
        if len(waiting):
            # As if they had come as expected: the uncertainty near them is spent already.
            expected = inquisitor.predict(waiting)[0]
            inquisitor = Inquisitor(
                np.vstack([rows, waiting]),
                self._axes.groups,
                np.concatenate([targets, expected]),
                fits[key],
            )
        return inquisitor

    def _watch(
        self, history: History, rows: Floats, fits: dict[tuple[Any, ...], Floats]
    ) -> list[Inquisitor]:
        """Predictors of the constraints that were broken once."""
        names = {name for each in history.constraints for name, value in each.items() if value > 0}
        found = []
        for name in sorted(names):
            places = [place for place, each in enumerate(history.constraints) if name in each]
            values = np.array([history.constraints[place][name] for place in places])
            found.append(self._inquire(name, rows[places], values, rows[:0], fits))
        return found


def _far_out(targets: Floats) -> float:
    low, middle, high = np.quantile(targets, (0.25, 0.5, 0.75))
    return float(middle + _FAR_OUT * max(high - low, 1e-12))


def _fitted(count: int) -> int:
    """The largest of 1, 2, 3 ... and their growth by a factor that is not above the count."""
    reached = 1
    while (following := max(reached + 1, int(reached * _REFIT))) <= count:
        reached = following
    return reached
