"""What networks cost at one moment of a search: counted, measured, and expected until then.

Arithmetic tells most of a cost. Where the requirements also name what has to be measured, the
measurement decides what is trained, and a predictor that is fitted to the networks measured so far
steers the proposals: thousands are asked for until one is made.

What is expected is a function of what was measured for earlier moments, and of what was asked for
in this one, in order. So a search that is killed and resumed proposes what an uninterrupted one
would have proposed: networks that are measured already are not measured again, but count from the
same moment on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import Cost, cost_of
from collabdesign.design.requirements import Requirements
from collabdesign.design.workload import workload_of
from collabdesign.explore.measurements import CALIBRATION, DEFAULT, FIRST, Measured, Measurements
from collabdesign.explore.predictor import Predictor

# It is fitted anew as soon as a quarter more networks are known than before: each time the
# generator has to explore the space again.
_FEWEST, _MORE = 12, 1.25

# What is expected to be so many errors over a limit is not measured.
_HOPELESS = 2.0


class Pricing:
    """Costs of networks, at one moment.

    Args:
        requirements: Name the limits, the objectives and the precision.
        measurements: Of the run; None where nothing has to be measured.
        at: The moment: the index of the candidate to come, or one before all; see
            :class:`collabdesign.explore.measurements.Measured`.
    """

    def __init__(
        self, requirements: Requirements, measurements: Measurements | None = None, at: int = FIRST
    ) -> None:
        self.names = requirements.measured
        assert measurements is not None or not self.names, "what is asked can be measured"
        self.measurements = measurements
        self._requirements = requirements
        self._precision = requirements.deploy.precision
        self._moment = at
        self._rows = {} if measurements is None else _by_id(measurements.before(at))
        self._predictor: Predictor | None = None
        self._margins: Mapping[str, float] = {}
        self._refit()

    def at(self, moment: int) -> Pricing:
        """Of another moment."""
        return Pricing(self._requirements, self.measurements, moment)

    def aside(self) -> Pricing:
        """As before the first candidate; what is measured for it counts for no candidate."""
        pricing = self.at(DEFAULT)
        pricing._moment = CALIBRATION
        return pricing

    @property
    def predictor(self) -> Predictor | None:
        """What steers the proposals now; None where nothing is measured, or was yet."""
        return self._predictor

    def counted(self, architecture: Architecture) -> Cost:
        """By arithmetic alone."""
        return cost_of(architecture, self._precision)

    def known(self, architecture: Architecture) -> Cost:
        """Counted and measured; what was not measured before is measured now.

        Raises:
            NotMeasured: It could not be.
        """
        cost = self.counted(architecture)
        if self.measurements is None or not self.names:
            return cost
        row = self.measurements.of(architecture, self._moment)
        if row.architecture not in self._rows:
            self._rows[row.architecture] = row
            self._refit()
        return Cost(**{**cost, **row.values})

    def noted(self, architecture: Architecture) -> Cost:
        """Counted, and measured as far as that was done before."""
        cost = self.counted(architecture)
        row = None if self.measurements is None else self.measurements.known(architecture)
        return cost if row is None else Cost(**{**cost, **row.values})

    def expected(self, architecture: Architecture) -> Cost:
        """Counted, and what is to be expected of the rest."""
        return self._expected(architecture, {})

    def cautious(self, architecture: Architecture) -> Cost:
        """As :meth:`expected`, and so much more that five networks in six are below it; less where
        that would leave none of the networks that are known to fit."""
        return self._expected(architecture, self._margins)

    def judged(self, architecture: Architecture) -> tuple[Cost, dict[str, float]]:
        """The cost of a proposal, and by how much it breaks each limit; at most 0 is met.

        What breaks a limit that is counted, or is expected to be far over one that is measured, is
        not measured: its cost lacks that, and the violations are those that are expected.
        """
        counted = self.counted(architecture)
        if not self.names:
            return counted, self._requirements.violations(counted)
        expected = self.expected(architecture)
        violations = self._requirements.violations(expected)
        # Also where it was measured for a later moment, by a search that was killed since.
        if architecture.id not in self._rows and self._is_hopeless(violations):
            return counted, violations
        cost = self.known(architecture)
        return cost, self._requirements.violations(cost)

    def _is_hopeless(self, violations: Mapping[str, float]) -> bool:
        assert self._predictor is not None
        fits = self._predictor.fits
        return any(
            by > (math.expm1(_HOPELESS * fits[name].error) if name in fits else 0)
            for name, by in violations.items()
        )

    def _expected(self, architecture: Architecture, margins: Mapping[str, float]) -> Cost:
        cost = self.counted(architecture)
        if not self.names:
            return cost
        assert self._predictor is not None, "the first networks are measured"
        measured = self._predictor.known.get(architecture.id)
        if measured is None:
            work = workload_of(architecture)
            measured = {
                name: fit.predict(work) * math.exp(margins.get(name, 0.0))
                for name, fit in self._predictor.fits.items()
            }
        return Cost(**{**cost, **measured})

    def _refit(self) -> None:
        """Of the first so many of the networks that are known now."""
        count = _fitted(len(self._rows))
        if self.measurements is None or count == 0:
            return
        rows = list(self._rows.values())[:count]
        predictor = self.measurements.predictor(rows)
        if predictor is not self._predictor:
            self._predictor = predictor
            self._margins = {name: self._margin(name, predictor, rows) for name in predictor.fits}

    def _margin(self, name: str, predictor: Predictor, rows: list[Measured]) -> float:
        """Logarithm of what is added to the expectation: its error, or what the limit leaves to
        the networks that are known to keep it."""
        fit, limit = predictor.fits[name], getattr(self._requirements.limits, name)
        if limit is None:
            return 0.0
        within = [fit.predict(row.work) for row in rows if row.values[name] <= limit]
        # A trifle less, or rounding alone might leave that network out.
        return min([fit.error, *([math.log(limit / min(within)) - 1e-9] if within else [])])


def _by_id(rows: list[Measured]) -> dict[str, Measured]:
    return {row.architecture: row for row in rows}


def _fitted(known: int) -> int:
    """To how many of so many known networks a predictor is fitted."""
    count = _FEWEST
    if known < count:
        return known
    while (following := math.ceil(_MORE * count)) <= known:
        count = following
    return count
