"""The first networks to be measured, from which it follows what others are expected to take.

They are spread over what keeps the limits that arithmetic tells, from the fewest multiply-adds up.
As soon as one is far over a limit, larger ones are left out: a device may have no room for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import METRICS, cost_of
from collabdesign.design.requirements import Requirements
from collabdesign.design.scaling import scaled_down
from collabdesign.design.space import DesignSpace
from collabdesign.explore.measurements import DEFAULT, FIRST, MEASUREMENTS, Measurements, Meter
from collabdesign.explore.pricing import Pricing

NETWORKS = 12

_DRAWN = 300
_NEAREST = 3 * NETWORKS  # where almost nothing keeps the limits
_FAR_OVER = 2.0

OnMeasured = Callable[[int, int], None]


def pricing_of(
    space: DesignSpace,
    requirements: Requirements,
    run_dir: Path | None = None,
    on_measured: OnMeasured | None = None,
) -> Pricing:
    """What networks cost, before the first candidate.

    Where nothing has to be measured, nothing is. Else the first networks are, but for those that
    the run folder knows.

    Args:
        space: To draw networks from.
        requirements: Name what has to be measured.
        run_dir: Remembers what was measured; nothing does where None.
        on_measured: Called with how many are measured, of how many.

    Raises:
        InputError: What is asked cannot be measured, or not here.
        NotMeasured: A network could not be measured.
    """
    if not requirements.measured:
        return Pricing(requirements)
    path = None if run_dir is None else run_dir / MEASUREMENTS
    measurements = Measurements(Meter.of(requirements), path)
    _measure(_spread(space, requirements), requirements, measurements, on_measured)
    return Pricing(requirements, measurements, DEFAULT)


def _measure(
    networks: list[Architecture],
    requirements: Requirements,
    measurements: Measurements,
    on_measured: OnMeasured | None,
) -> None:
    """Measure some of them, which are in order of size."""
    last, count = len(networks) - 1, min(NETWORKS, len(networks))
    known: set[int] = set()

    def is_far_over(index: int) -> bool:
        values = measurements.of(networks[index], FIRST).values
        known.add(index)
        if on_measured is not None:
            on_measured(len(known), count)
        limits = {name: getattr(requirements.limits, name) for name in values}
        return any(limit and values[name] > _FAR_OVER * limit for name, limit in limits.items())

    for number in range(count):
        index = round(number * last / max(1, count - 1))
        if is_far_over(index):
            last = max(index, count - 1)
            break
    while len(known) < min(count, last + 1):
        # The middle of the widest gap.
        left = [index for index in range(last + 1) if index not in known]
        is_far_over(max(left, key=lambda index: (min(abs(index - each) for each in known), -index)))


def _spread(space: DesignSpace, requirements: Requirements) -> list[Architecture]:
    """Different networks that keep the limits that are counted, or come nearest to that; by
    multiply-adds. A function of ``search.seed``."""
    precision = requirements.deploy.precision
    limits = {name: getattr(requirements.limits, name) for name in METRICS}

    def excess(architecture: Architecture) -> float:
        cost = cost_of(architecture, precision)
        return math.fsum(
            max(0.0, cost[name] / limit - 1) for name, limit in limits.items() if limit
        )

    def size(architecture: Architecture) -> tuple[int, str]:
        return cost_of(architecture).macs, architecture.id

    rng = np.random.default_rng([requirements.search.seed, 2])
    own = space.own()
    default = scaled_down(space, lambda architecture: excess(architecture) == 0)
    smallest = space.descend(own, lambda architecture: cost_of(architecture).macs)
    drawn = [space.sample(rng) for _ in range(_DRAWN)]
    networks = {each.id: each for each in map(space.decode, [default or own, smallest, *drawn])}
    nearest = sorted(networks.values(), key=lambda each: (excess(each), each.id))
    within = [each for each in nearest if excess(each) == 0]
    chosen = within if len(within) >= _NEAREST else nearest[:_NEAREST]
    return sorted(chosen, key=size)
