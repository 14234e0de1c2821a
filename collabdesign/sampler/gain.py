"""Expected hypervolume improvement of points known on some axes and predicted on others.

Less is better on every axis. Where one axis is predicted, the expectation is exact: the known
axes cut the space into cells, in each of which the gain is the expected improvement over the
best of the front that lies no further on the known axes. Of several predicted axes all but one
are taken at the nodes of a quadrature, and beyond five of them the first ones at their mean.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from collabdesign.sampler.proposal_space import Floats

# A front of more points is thinned: the cells are as many as its points to the power of the
# axes but one, over and over for the nodes of the quadrature.
_MOST_POINTS = 48
_MOST_CELLS = 200_000
# With three nodes each, as many combinations as 3 to this power.
_MOST_AT_NODES = 4


def expected_gain(mean: Floats, deviation: Floats, front: Floats, bound: Floats) -> Floats:
    """Expected growth of the hypervolume that a front dominates below a reference.

    Args:
        mean: [n, m], of each point on each axis.
        deviation: [n, m], zero on the axes that are known.
        front: [k, m], what is there already; dominated points only cost time.
        bound: [m], the reference; beyond it nothing is gained.

    Returns:
        [n], at least 0.
    """
    uncertain = np.flatnonzero((deviation > 0).any(axis=0))
    last = int(uncertain[-1]) if len(uncertain) else mean.shape[1] - 1
    others = [int(axis) for axis in uncertain[:-1]][-_MOST_AT_NODES:]
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    weights = weights / weights.sum()
    total = np.zeros(len(mean))
    inside = front[np.all(front < bound, axis=1)]
    cells = _MOST_CELLS / len(nodes) ** len(others)
    most = max(2, min(_MOST_POINTS, int(cells ** (1 / max(1, mean.shape[1] - 1))) - 1))
    if len(inside) > most:
        order = np.lexsort(inside.T)
        inside = inside[order[np.linspace(0, len(order) - 1, most).astype(int)]]
    for picked in itertools.product(range(len(nodes)), repeat=len(others)):
        place = mean.copy()
        for axis, node in zip(others, picked, strict=True):
            place[:, axis] += nodes[node] * deviation[:, axis]
        share = float(np.prod(weights[list(picked)])) if others else 1.0
        total += share * _gain_along(last, place, deviation[:, last], inside, bound)
    return total


def _gain_along(
    axis: int, place: Floats, deviation: Floats, front: Floats, bound: Floats
) -> Floats:
    """The gain where only one axis is uncertain."""
    known = [each for each in range(len(bound)) if each != axis]
    widths = np.ones((len(place), 1))
    corners = []
    for each in known:
        lowest = min(place[:, each].min(), bound[each])
        edges = np.unique(np.concatenate([[lowest, bound[each]], front[:, each]]))
        edges = edges[(edges >= lowest) & (edges <= bound[each])]
        start = np.maximum(edges[:-1], place[:, each, None])
        width = np.maximum(edges[1:] - start, 0.0)
        widths = (widths[:, :, None] * width[:, None, :]).reshape(len(place), -1)
        corners.append(edges[:-1])
    shape = tuple(len(corner) for corner in corners)
    levels = np.full(shape, bound[axis])
    for point in front:
        # Of each cell that the point dominates by its known coordinates.
        reached = tuple(
            slice(int(np.searchsorted(corner, point[each])), None)
            for corner, each in zip(corners, known, strict=True)
        )
        levels[reached] = np.minimum(levels[reached], point[axis])
    flat = levels.reshape(-1)
    order = np.argsort(flat, kind="stable")
    distinct, starts = np.unique(flat[order], return_index=True)
    if not len(distinct):
        return np.zeros(len(place))
    areas = np.add.reduceat(widths[:, order], starts, axis=1)
    gain: Floats = np.einsum("ij,ij->i", areas, _improvement(place[:, axis], deviation, distinct))
    return gain


def _improvement(mean: Floats, deviation: Floats, levels: Floats) -> Floats:
    """E[(level - y)+] for each point and level, [n, levels]."""
    distance = levels[None, :] - mean[:, None]
    spread = np.maximum(deviation, 1e-12)[:, None]
    z = distance / spread
    density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    expected: Floats = np.maximum(distance * ndtr(z) + spread * density, 0.0)
    return expected


def not_dominated(points: Floats) -> NDArray[np.int64]:
    """Indices of the points that no other dominates, in order, of equal ones one."""
    left = np.arange(len(points))
    kept = []
    while len(left):
        rest = points[left]
        # The least sum is dominated by none of the rest, and it dominates much of it.
        best = int(np.argmin(rest.sum(axis=1)))
        kept.append(int(left[best]))
        left = left[(rest < rest[best]).any(axis=1)]
    return np.array(sorted(kept), dtype=np.int64)
