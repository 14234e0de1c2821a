"""What a network is expected to take, from those that were measured.

Each quantity is a sum over the work in a network (:mod:`collabdesign.design.workload`), no part of
it negative: what is smaller is never expected to take longer. The parts are fitted by least squares
of what they miss in proportion to what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from collabdesign.design.workload import Workload

Floats = NDArray[np.float64]

# Pulls parts that the networks hardly tell apart towards 0, each in its mean's unit: so that there
# is one answer, and that of few networks is not wild.
_RIDGE = 1e-2

# Below this nothing is predicted, so that a logarithm can be taken.
_LEAST = 1e-9


@dataclass(frozen=True)
class Fit:
    """How one quantity follows from the work.

    Attributes:
        parts: What one unit of each kind of work takes, in the quantity's unit; at least 0.
        error: By how much a network that the fit does not know is missed: the root mean square of
            the logarithm of measured to predicted, each network predicted by a fit to the others.
            0.1 is about 10 %.
        networks: How many it was fitted to.
    """

    parts: tuple[float, ...]
    error: float
    networks: int

    def predict(self, workload: Workload) -> float:
        """In the quantity's unit, above 0."""
        pairs = zip(self.parts, workload, strict=True)
        return max(_LEAST, math.fsum(part * work for part, work in pairs))

    def at_most(self, workload: Workload) -> float:
        """As :meth:`predict`, raised by the error: about five networks in six take less."""
        return self.predict(workload) * math.exp(self.error)


def fit(workloads: Sequence[Workload], measured: Sequence[float]) -> Fit:
    """Fit one quantity; a function of the numbers alone.

    Args:
        workloads: Of the networks that were measured, at least 1; of one alone nothing is known of
            the error, which is 0 then.
        measured: What each took, above 0.
    """
    assert len(workloads) == len(measured) > 0
    work, values = np.array(workloads, dtype=np.float64), np.array(measured, dtype=np.float64)
    parts = _parts(work, values)
    misses = []
    for left_out in range(len(values) if len(values) > 1 else 0):
        others = np.arange(len(values)) != left_out
        predicted = float(work[left_out] @ _parts(work[others], values[others]))
        misses.append(math.log(values[left_out] / max(_LEAST, predicted)))
    error = math.sqrt(math.fsum(miss * miss for miss in misses) / len(values))
    return Fit(tuple(map(float, parts)), error, len(values))


def _parts(work: Floats, values: Floats) -> Floats:
    # Loads for a third of a second, which those who only read measurements do not need.
    from scipy.optimize import nnls

    # A row for each network, divided by what it took: all are to be 1.
    rows = work / values[:, None]
    scale = np.where((mean := rows.mean(axis=0)) > 0, mean, 1.0)
    kinds = work.shape[1]
    pulled = math.sqrt(_RIDGE * len(values)) / kinds * np.eye(kinds)
    found, _ = nnls(
        np.vstack([rows / scale, pulled]), np.append(np.ones(len(values)), [0.0] * kinds)
    )
    parts: Floats = found / scale
    return parts


@dataclass(frozen=True)
class Predictor:
    """What is expected of every measured quantity.

    Attributes:
        fits: By the quantity's name.
        known: What the networks that it was fitted to took, by the architecture's id.
    """

    fits: Mapping[str, Fit]
    known: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(
        cls,
        networks: Sequence[str],
        work: Sequence[Workload],
        measured: Sequence[Mapping[str, float]],
    ) -> Predictor:
        """Fit every quantity.

        Args:
            networks: Ids of those that were measured, at least 1.
            work: In each.
            measured: Of each, by the quantity's name.
        """
        fits = {name: fit(work, [values[name] for values in measured]) for name in measured[0]}
        return cls(fits, dict(zip(networks, measured, strict=True)))
