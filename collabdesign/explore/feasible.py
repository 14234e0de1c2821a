"""What of a design space keeps the limits: arithmetic and random draws, no training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import Cost, PartCost, cost_of, part_costs
from collabdesign.design.files.units import exact_bytes, exact_count
from collabdesign.design.prototype import Prototype
from collabdesign.design.requirements import LIMITS, Limits, Requirements
from collabdesign.design.space import DesignSpace, Params
from collabdesign.errors import InputError, NothingFits
from collabdesign.explore.front import Scale, wilson_interval

SAMPLES = 2000

# Fewer random proposals than this share, and a search spends its time on rejections.
_ALMOST_NOTHING = 0.01


@dataclass(frozen=True)
class Share:
    """A share of random proposals, 0 to 1, with Wilson's 95 % interval."""

    count: int
    of: int

    @property
    def value(self) -> float:
        return self.count / self.of

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.value, self.of)


@dataclass(frozen=True)
class Feasibility:
    """What ``collabdesign check`` says about a space and its limits.

    Attributes:
        parameters: How many parameters of the space can be active.
        smallest: Cost of the network with the fewest MACs that descent finds.
        median: Of the random proposals, each cost on its own.
        largest: Cost of the network with the most MACs that ascent finds.
        own: The prototype's own values as drawn, part by part.
        default: The same, shrunk to the limits; None where that does not fit.
        fits: Share of random proposals that fits each limit, and ``all`` of them.
        binding: The limit that keeps out most of what the others let in, or None.
        closest: The network that breaks the limits least; a violation of 0 fits.
        violations: Of ``closest``.
        changes: Where nothing or almost nothing fits: what would, in words.
    """

    parameter_sets: int
    parameters: int
    smallest: Cost
    median: Cost
    largest: Cost
    own: tuple[PartCost, ...]
    own_cost: Cost
    default: tuple[PartCost, ...] | None
    default_cost: Cost | None
    fits: Mapping[str, Share]
    binding: str | None
    closest: Cost
    violations: Mapping[str, float]
    changes: tuple[str, ...]

    @property
    def possible(self) -> bool:
        """Whether any network was found that keeps all limits."""
        return all(value <= 0 for value in self.violations.values())


def default_params(space: DesignSpace, requirements: Requirements) -> Params | None:
    """The prototype's default network: its own values, shrunk to the limits.

    Where shrinking alone does not reach them, it goes on by descent to the nearest network that
    fits, and then by random proposals; None where these find nothing either.
    """
    closest = closest_params(space, requirements)
    return closest if _excess(space.decode(closest), requirements) == 0 else None


def closest_params(space: DesignSpace, requirements: Requirements) -> Params:
    """The default network, or what breaks the limits least where nothing fits."""
    shrunk = space.shrink(lambda architecture: _excess(architecture, requirements) == 0)
    return shrunk or _closest(space, requirements)


def require_possible(space: DesignSpace, requirements: Requirements) -> None:
    """Refuse a search that nothing in the space can satisfy.

    Raises:
        NothingFits: With what ``check`` says about it.
    """
    if default_params(space, requirements) is None:
        raise NothingFits(explain(feasibility(space, requirements), requirements))


def scale_of(space: DesignSpace, requirements: Requirements) -> Scale:
    """The objectives' ranges: chance to 1, the space's smallest cost to the limit."""
    lowest, highest = {}, {}
    for name in requirements.objectives[1:]:
        limit = getattr(requirements.limits, name)
        lowest[name] = float(_extreme(space, requirements, name, 1))
        highest[name] = float(limit or _extreme(space, requirements, name, -1))
    return Scale(requirements.objectives, 1 / requirements.data.classes, lowest, highest)


def feasibility(
    space: DesignSpace, requirements: Requirements, samples: int = SAMPLES
) -> Feasibility:
    """Look at the space before any training; takes about a second."""
    precision = requirements.deploy.precision
    proposals = _proposals(space, requirements, samples)
    costs = [cost_of(space.decode(params), precision) for params in proposals]
    excess = [requirements.violations(cost) for cost in costs]
    limits = list(excess[0])
    fits = {name: Share(sum(row[name] <= 0 for row in excess), samples) for name in limits}
    fitting = sum(all(value <= 0 for value in row.values()) for row in excess)
    fits["all"] = Share(fitting, samples)

    smallest = space.descend(space.own(), lambda a: cost_of(a).macs)
    largest = space.descend(space.own(), lambda a: -cost_of(a).macs)
    own = space.decode(space.own())
    nearest = space.decode(closest_params(space, requirements))
    closest = cost_of(nearest, precision)
    default = nearest if requirements.fits(closest) else None
    changes: tuple[str, ...] = ()
    if default is None:
        changes = (*_budget_changes(space, requirements), *_prototype_changes(requirements))
    elif fits["all"].value < _ALMOST_NOTHING:
        changes = _easing(excess)
    return Feasibility(
        parameter_sets=space.size(),
        parameters=len(space.parameters),
        smallest=cost_of(space.decode(smallest), precision),
        median=Cost(*(int(np.median([cost[name] for cost in costs])) for name in LIMITS)),
        largest=cost_of(space.decode(largest), precision),
        own=part_costs(own),
        own_cost=cost_of(own, precision),
        default=None if default is None else part_costs(default),
        default_cost=None if default is None else closest,
        fits=fits,
        binding=_binding(excess),
        closest=closest,
        violations=requirements.violations(closest),
        changes=changes,
    )


def explain(found: Feasibility, requirements: Requirements) -> str:
    """In words: why nothing fits, and what would."""
    broken = [
        f"{name} {_written(found.closest, name)} over the limit "
        f"{_written(requirements.limits, name)}"
        for name, value in found.violations.items()
        if value > 0
    ]
    lines = [
        "some network of the space must fit the limits, and none was found; "
        f"the closest has {', '.join(broken) or 'no violation'}"
    ]
    lines += [f"    {change}" for change in found.changes]
    return "\n".join(lines)


def _excess(architecture: Architecture, requirements: Requirements) -> float:
    """Sum of the relative amounts over each limit; 0 fits."""
    cost = cost_of(architecture, requirements.deploy.precision)
    return sum(max(0.0, value) for value in requirements.violations(cost).values())


def _closest(space: DesignSpace, requirements: Requirements) -> Params:
    """What breaks the limits least of what descents and random proposals find.

    Descents may end on a plateau, where no single change lowers anything; what random proposals
    keep is never called impossible.
    """

    def excess(params: Params) -> float:
        return _excess(space.decode(params), requirements)

    reached = _reach(space, requirements)
    if excess(reached) == 0:
        return reached
    drawn = min(_proposals(space, requirements), key=excess)
    fewer = space.descend(drawn, lambda a: _excess(a, requirements), enough=0)
    return min(reached, drawn, fewer, key=excess)


def _proposals(
    space: DesignSpace, requirements: Requirements, samples: int = SAMPLES
) -> Iterator[Params]:
    """Random proposals, the same each time."""
    rng = np.random.default_rng(requirements.search.seed)
    return (space.sample(rng) for _ in range(samples))


def _reach(space: DesignSpace, requirements: Requirements) -> Params:
    """Two descents, since the walk to the fewest MACs leaves dips that the other cannot."""

    def score(architecture: Architecture) -> float:
        return _excess(architecture, requirements)

    starts = [space.own(), space.descend(space.own(), lambda a: cost_of(a).macs)]
    reached = [space.descend(start, score, enough=0) for start in starts]
    return min(reached, key=lambda params: score(space.decode(params)))


def _extreme(space: DesignSpace, requirements: Requirements, name: str, sign: int) -> int:
    precision = requirements.deploy.precision

    def score(architecture: Architecture) -> float:
        return float(sign * getattr(cost_of(architecture, precision), name))

    params = space.descend(space.own(), score)
    return int(sign * score(space.decode(params)))


def _binding(excess: list[dict[str, float]]) -> str | None:
    """The limit without which the most of what is kept out would fit."""
    let_in = dict.fromkeys(excess[0], 0)
    for row in excess:
        broken = [name for name, value in row.items() if value > 0]
        if len(broken) == 1:
            let_in[broken[0]] += 1
    most = max(let_in, key=lambda name: let_in[name], default=None)
    if most is None or not any(value > 0 for row in excess for value in row.values()):
        return None
    if let_in[most] == 0:  # nothing breaks one limit alone: the one that most break
        return max(let_in, key=lambda name: sum(row[name] > 0 for row in excess))
    return most


def _budget_changes(space: DesignSpace, requirements: Requirements) -> Iterator[str]:
    """Each limit alone, raised until something fits; else all of them together."""
    precision = requirements.deploy.precision
    reached = _reach(space, requirements)
    alone = []
    for name in (limit for limit in LIMITS if getattr(requirements.limits, limit)):
        without = requirements.limits.model_copy(update={name: None})
        others = requirements.model_copy(update={"limits": without})

        def score(net: Architecture, name: str = name, others: Requirements = others) -> float:
            own: float = cost_of(net, precision)[name] / getattr(requirements.limits, name)
            return 1e6 * _excess(net, others) + own

        best = cost_of(space.decode(space.descend(reached, score)), precision)
        if others.fits(best):
            alone.append(f"raise limits.{name} to {_written(best, name)}: then something fits")
    if alone:
        yield from alone
        return
    best = cost_of(space.decode(reached), precision)
    needed = [
        f"limits.{name} to {_written(best, name)}"
        for name, value in requirements.violations(best).items()
        if value > 0
    ]
    yield f"raise {' and '.join(needed)}: then something fits"


def _written(of: Cost | Limits, name: str) -> str:
    """A cost or a limit as a person writes it in the file."""
    value = getattr(of, name)
    return exact_bytes(value) if name.endswith("_bytes") else exact_count(value)


class _Edit(NamedTuple):
    """A change of a written prototype, in words, and what then stands at a path in it."""

    words: str
    path: tuple[str | int, ...]
    value: Any


def _prototype_changes(requirements: Requirements) -> Iterator[str]:
    """Each freedom alone, opened towards the small; else all of them together."""
    edits = list(_smaller(requirements.prototype.model_dump(mode="json")))
    alone = [edit.words for edit in edits if _possible_with(requirements, [edit])]
    if alone:
        yield from (f"or in the prototype, {words}: then something fits" for words in alone)
    elif _possible_with(requirements, edits):
        together = "; ".join(edit.words for edit in edits)
        yield f"or in the prototype, all of: {together}: then something fits"


def _smaller(written: dict[str, Any]) -> Iterator[_Edit]:
    """Edits that make the smallest network smaller."""
    places: list[tuple[str, tuple[str | int, ...], Any]] = [("stem", ("stem",), written["stem"])]
    for index, stage in enumerate(written["stages"]):
        name, path = f"stages[{index}]", ("stages", index)
        places.append((name, path, stage))
        least = _least(stage["modules"])
        if least > 1:
            words = f"let {name}.modules be 1 (at least {least} now)"
            yield _Edit(words, (*path, "modules"), [*_all(stage["modules"]), 1])
    for name, place, part in places:
        least = _least(part["channels"])
        if least > 4:
            smaller = max(4, least // 2)
            words = f"let {name}.channels fall to {smaller} (at least {least} now)"
            yield _Edit(words, (*place, "channels"), [*_all(part["channels"]), smaller])
    features = written["head"]["features"]
    if _least(features) > 0:
        yield _Edit("let head.features be 0", ("head", "features"), [*_all(features), 0])
    if _all(written["stem"]["stride"]) == [1]:
        yield _Edit("let stem.stride be 2 (1 now)", ("stem", "stride"), [1, 2])


def _all(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(range(value["low"], value["high"] + 1, value["step"]))
    return value if isinstance(value, list) else [value]


def _least(value: Any) -> int:
    return int(min(_all(value)))


def _possible_with(requirements: Requirements, edits: list[_Edit]) -> bool:
    written = requirements.prototype.model_dump(mode="json")
    for _, (*path, last), value in edits:
        here: Any = written
        for key in path:
            here = here[key]
        here[last] = value
    changed = requirements.model_copy(update={"prototype": Prototype.model_validate(written)})
    try:
        space = DesignSpace(changed)
    except InputError:
        return False  # such as a stride too many for the resolution
    return _excess(space.decode(_reach(space, changed)), changed) == 0


def _easing(excess: list[dict[str, float]]) -> tuple[str, ...]:
    """By how much all limits must rise together for a twentieth of the proposals to fit."""
    worst = sorted(max(row.values()) for row in excess)
    factor = 1 + worst[len(worst) // 20]
    return (
        f"almost nothing fits: with every limit times {factor:.2g}, about 5 % of random "
        "proposals would; a search finds what fits all the same, but rejects many",
    )
