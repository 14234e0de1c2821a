"""The prototype's default network: its own values, scaled down in proportion until they fit.

Width, depth and resolution are given up together, as compound scaling does (Tan and Le,
EfficientNet, arXiv 1905.11946): what makes a network 1.1 times narrower makes it 1.2 times
shallower, or its maps 1.15 times smaller. Of all that fits, the network is taken whose dimension
that gave up most gave up least. Then what the limits leave is used: sizes rise again one by one,
the one first that is furthest behind. No size rises above the human's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from collabdesign.design.architecture import Architecture
from collabdesign.design.space import DesignSpace, Params

Fits = Callable[[Architecture], bool]

# Of one step of compound scaling: how much wider, deeper, larger.
_WIDTH, _DEPTH, _RESOLUTION = (math.log(factor) for factor in (1.1, 1.2, 1.15))


def scaled_down(space: DesignSpace, fits: Fits) -> Params | None:
    """The own values where they fit, else these in proportion; None where nothing fits.

    What is not a size stays as it is. The resolution drops earlier where a stride of 1 may be 2;
    for each such drop the last stride of 2 that may be 1 becomes 1, so that the last maps keep
    their size. Where no widths, depths and strides fit, the hidden widths get their smallest value.
    """
    own = space.own()
    if found := _in_proportion(space, own, fits):
        return _raised(space, own, found, fits)
    narrow = {
        name: min(space.parameters[name].values) if name.endswith(".width") else value
        for name, value in own.items()
    }
    found = _in_proportion(space, narrow, fits)
    return found and _raised(space, narrow, found, fits)


def _in_proportion(space: DesignSpace, own: Params, fits: Fits) -> Params | None:
    """The least that is given up, in steps of compound scaling, of what fits."""
    best, least = None, (math.inf, math.inf)
    deepest = len(space.decode(own).modules)
    for drops, dropped in enumerate(_drops(space, own)):
        for shallow in _depths(space, dropped):
            depth = len(space.decode(space.complete(shallow)).modules)
            others = (math.log(deepest / depth) / _DEPTH, drops * math.log(2) / _RESOLUTION)
            tried = None
            for percent in range(100, 0, -1):
                given_up = (-math.log(percent / 100) / _WIDTH, *others)
                rank = (max(given_up), sum(given_up))
                if rank >= least:
                    break
                params = space.complete(_narrowed(space, shallow, percent / 100))
                if params != tried and fits(space.decode(params)):
                    best, least = params, rank
                    break
                tried = params
    return best


def _drops(space: DesignSpace, params: Params) -> Iterator[Params]:
    """The same, then with one after the other of its strides 2, the first first."""
    params = dict(params)
    strides = [name for name in params if name.endswith(".stride")]
    yield params
    for name in strides:
        if params[name] == 1 and 2 in space.parameters[name].values:
            params = {**params, name: 2}
            later = strides[strides.index(name) + 1 :]
            if back := [each for each in later if params[each] == 2]:
                params[back[-1]] = 1
            yield params


def _depths(space: DesignSpace, params: Params) -> Iterator[Params]:
    """The same, then ever fewer modules in all stages together."""
    before = None
    for percent in range(100, -1, -1):
        shallow = {
            name: _at_most(space, name, round(value * percent / 100))
            for name, value in params.items()
            if name.endswith(".modules")
        }
        if shallow != before:
            yield {**params, **shallow}
        before = shallow


def _narrowed(space: DesignSpace, params: Params, factor: float) -> Params:
    """All channel counts times a factor, each the largest value that is no more."""
    return {
        name: _at_most(space, name, value * factor) if _is_width(name) else value
        for name, value in params.items()
    }


def _raised(space: DesignSpace, own: Params, params: Params, fits: Fits) -> Params:
    """Sizes one step up, the one furthest behind first, as long as any of them fits."""
    raised = True
    while raised:
        raised = False
        # Of those as far behind the last: there a step costs parameters more than multiply-adds.
        behind = [(params[n] / own[n], -i, n) for i, n in enumerate(params) if _is_size(own, n)]
        for _, _, name in sorted(behind):
            between = [v for v in space.parameters[name].values if params[name] < v <= own[name]]
            if not between:
                continue
            larger = space.complete({**params, name: min(between)})
            if fits(space.decode(larger)):
                params, raised = larger, True
                break
    return params


def _at_most(space: DesignSpace, name: str, bound: float) -> int:
    values: Sequence[int] = space.parameters[name].values
    return max((value for value in values if value <= bound), default=min(values))


def _is_width(name: str) -> bool:
    return name.endswith((".channels", ".features"))


def _is_size(own: Params, name: str) -> bool:
    return (_is_width(name) or name.endswith(".modules")) and own.get(name, 0) > 0
