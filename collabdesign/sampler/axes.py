"""Proposals as a predictor sees them: encoded parameters beside their known objectives."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from optuna.distributions import BaseDistribution
from scipy.spatial.distance import cdist

from collabdesign.sampler.encoding import Encoding
from collabdesign.sampler.generation import Proposals, Statics
from collabdesign.sampler.proposal_space import Floats, Params

# Beside the least known cost that is compared by its logarithm, what counts as nothing.
_NEGLIGIBLE = 1e-3

# Known costs that span more than this factor are compared by their logarithms.
_LOGARITHMIC = 3.0


class Axes:
    """Encoded parameters beside the objectives that are known without training.

    Args:
        distributions: Of the parameters that are encoded.
        statics: For the known objectives.
        signs: [m], factors that turn the objectives so that less is better.
        archive: Proposals whose known objectives span what can be had.

    Attributes:
        distributions: As given.
        known: Places of the known objectives among all.
        unknown: Places of the others.
        low, high: Of each known objective, on the scale on which it is compared.
        columns: Of a row: those of the encoding, and one for each known objective.
    """

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        statics: Statics,
        signs: Floats,
        archive: Proposals,
    ) -> None:
        self.distributions = distributions
        self._encoding = Encoding(distributions)
        self._statics = statics
        self._signs = signs
        self._rows: dict[int, Floats] = {}
        self.keep(archive)
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
        self.columns = self._encoding.columns.beside(len(self.known))

    def keep(self, many: Proposals) -> None:
        """Encode what will be placed again and again."""
        self._rows |= self._encoded(many.items())

    def place(self, many: Collection[tuple[int, Params]]) -> tuple[Floats, Floats]:
        """Rows [n, d] for the predictor, and known losses [n, known], of keys and proposals."""
        if not many:
            return np.empty((0, len(self.columns))), np.empty((0, len(self.known)))
        found = self._rows | self._encoded(many)
        rows = np.stack([found[key] for key, _ in many])
        values = np.stack([self._statics.values(each, key) for key, each in many])
        known = self._lengths(values * self._signs)
        return np.hstack([rows, np.clip((known - self.low) / self._span, -1, 2)]), known

    def _encoded(self, many: Collection[tuple[int, Params]]) -> dict[int, Floats]:
        """Rows of the encoding by key, of those that are not kept."""
        new = {key: each for key, each in many if key not in self._rows}
        return dict(zip(new, self._encoding.rows(list(new.values())), strict=True))

    def distances(self, one: Floats, other: Floats) -> Floats:
        """[n, others] between rows, squared; all parameters weigh as much as all costs."""
        weights = np.full(one.shape[1], 1.0 / max(1, len(self.distributions)))
        if len(self.known):
            weights[-len(self.known) :] = 1.0 / len(self.known)
        out: Floats = cdist(one, other, "sqeuclidean", w=weights)
        return out

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
