"""Proposals as a predictor sees them: encoded parameters beside their known objectives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from collabdesign.sampler.encoding import Encoding
from collabdesign.sampler.generation import Proposals, Statics
from collabdesign.sampler.history import Observation

Floats = NDArray[np.float64]

# Beside the least known cost that is compared by its logarithm, what counts as nothing.
_NEGLIGIBLE = 1e-3

# Known costs that span more than this factor are compared by their logarithms.
_LOGARITHMIC = 3.0


class Axes:
    """Encoded parameters beside the objectives that are known without training.

    Args:
        encoding: Of the parameters.
        statics: For the known objectives.
        signs: [m], factors that turn the objectives so that less is better.
        archive: Proposals whose known objectives span what can be had.

    Attributes:
        encoding: As given.
        known: Places of the known objectives among all.
        unknown: Places of the others.
        low: Of each known objective, on the scale on which it is compared.
        high: Likewise.
        columns: Of a row: those of the encoding, and one for each known objective.
    """

    def __init__(
        self, encoding: Encoding, statics: Statics, signs: Floats, archive: Proposals
    ) -> None:
        self.encoding = encoding
        self._statics = statics
        self._signs = signs
        # These are placed for every proposal.
        rows = encoding.rows(list(archive.values()))
        self._rows = dict(zip(archive, rows, strict=True))
        reach = np.stack([statics.values(each, key) for key, each in archive.items()]) * signs
        self.known = np.flatnonzero(~np.isnan(reach).any(axis=0))
        self.unknown = np.flatnonzero(np.isnan(reach).any(axis=0))
        self._worst = reach[:, self.known].max(0)
        costs = self._costs(reach)
        one_sign = np.abs(np.sign(costs).sum(axis=0)) == len(reach)
        sizes = np.abs(costs)
        self._logarithmic = one_sign & (sizes.min(0) * _LOGARITHMIC < sizes.max(0))
        self._sign = np.where(costs.min(0) > 0, 1.0, -1.0)
        self._least = _NEGLIGIBLE * sizes.min(0)
        lengths = self._lengths(reach)
        self.low, self.high = lengths.min(0), lengths.max(0)
        span = self.high - self.low
        # Of a cost that is the same everywhere nothing depends.
        size = np.maximum(np.abs(self.low), np.abs(self.high))
        self._span = np.where(span > 1e-9 * size, span, np.maximum(size, 1.0))
        self.columns = encoding.columns.beside(len(self.known))

    def place(self, many: Proposals) -> tuple[Floats, Floats]:
        """Rows [n, d] for the predictor, and known losses [n, known]."""
        if not many:
            return np.empty((0, len(self.columns))), np.empty((0, len(self.known)))
        values = np.stack([self._statics.values(each, key) for key, each in many.items()])
        new = {key: each for key, each in many.items() if key not in self._rows}
        found = self._rows | dict(zip(new, self.encoding.rows(list(new.values())), strict=True))
        return self._placed(np.stack([found[key] for key in many]), values * self._signs)

    def place_observed(self, some: Sequence[Observation]) -> tuple[Floats, Floats]:
        """Likewise of observations, at least one."""
        rows = np.stack([each.row for each in some])
        return self._placed(rows, np.stack([each.known for each in some]))

    def distances(self, one: Floats, other: Floats) -> Floats:
        """[n, others] between rows, squared; all parameters weigh as much as all costs."""
        weights = np.full(one.shape[1], 1.0 / max(1, len(self.encoding.names)))
        if len(self.known):
            weights[-len(self.known) :] = 1.0 / len(self.known)
        out: Floats = cdist(one, other, "sqeuclidean", w=weights)
        return out

    def _placed(self, rows: Floats, losses: Floats) -> tuple[Floats, Floats]:
        known = self._lengths(losses)
        return np.hstack([rows, np.clip((known - self.low) / self._span, -1, 2)]), known

    def _lengths(self, losses: Floats) -> Floats:
        """Known objectives, by their logarithms where they are compared so."""
        costs = self._costs(losses)
        # What is nothing, or of the other sign, has no logarithm: it counts as very little.
        sizes = np.maximum(self._sign * costs, self._least)
        with np.errstate(divide="ignore"):
            logarithms = self._sign * np.log(sizes)
        return np.where(self._logarithmic, logarithms, costs)

    def _costs(self, losses: Floats) -> Floats:
        """The known objectives; one that is not known, against what was said, is the worst."""
        costs = losses[:, self.known]
        out: Floats = np.where(np.isfinite(costs), costs, self._worst)
        return out
