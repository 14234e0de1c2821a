"""What of a design space keeps the limits: arithmetic and random draws, no training.

Where something has to be measured, random draws are judged by what is expected of them, and the
prototype's default network by its measurement. A pricing may be left out where nothing has to be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collabdesign.design.architecture import Architecture
from collabdesign.design.cost import METRICS, QUANTITIES, Cost, PartCost, cost_of, part_costs
from collabdesign.design.files.units import exact_bytes, exact_count
from collabdesign.design.prototype import Prototype
from collabdesign.design.requirements import Limits, Requirements
from collabdesign.design.scaling import scaled_down
from collabdesign.design.space import DesignSpace, Params
from collabdesign.errors import InputError, NothingFits
from collabdesign.explore.front import Scale, wilson_interval
from collabdesign.explore.measurements import DEFAULT
from collabdesign.explore.pricing import Pricing

SAMPLES = 2000

# Fewer random proposals than this share, and a search spends its time on rejections.
_ALMOST_NOTHING = 0.01

# The default network is scaled so often at most until what was measured of it keeps the limits.
_ROUNDS = 8

# An advice leaves so much for what two measurements of one network differ by.
_ROOM = 1.05


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
class Expectation:
    """What is known of a quantity that has to be measured.

    Attributes:
        way: How it is measured, in words.
        networks: How many were measured for this.
        error: By how much a prediction misses, as a share: 0.1 for a tenth.
        median: What is predicted of the random proposals.
    """

    way: str
    networks: int
    error: float
    median: float


@dataclass(frozen=True)
class Feasibility:
    """What ``collabdesign check`` says about a space and its limits.

    What has to be measured is in a cost where it was measured of that network.

    Attributes:
        parameters: How many parameters of the space can be active.
        smallest: Cost of the network with the fewest MACs that descent finds.
        median: Of the random proposals, each cost that is counted on its own.
        largest: Cost of the network with the most MACs that ascent finds.
        own: The prototype's own values as drawn, part by part.
        default: The same, scaled down to the limits; None where that does not fit.
        fits: Share of random proposals that fits each limit, and ``all`` of them; of what has to
            be measured, that is expected to fit.
        binding: The limit that keeps out most of what the others let in, or None.
        closest: The network that breaks the limits least, measured; a violation of 0 fits.
        violations: Of ``closest``.
        changes: Where nothing or almost nothing fits: what would, in words.
        expectations: Of what has to be measured, by its name.
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
    expectations: Mapping[str, Expectation]

    @property
    def possible(self) -> bool:
        """Whether any network was found that keeps all limits."""
        return self.default is not None


def default_params(
    space: DesignSpace, requirements: Requirements, pricing: Pricing | None = None
) -> Params | None:
    """The prototype's default network: its own values, scaled down to the limits.

    Where scaling alone does not reach them, it goes on by descent to the nearest network that
    fits, and then by random proposals; None where these find nothing either.

    Raises:
        NotMeasured: What has to be measured could not be.
    """
    params, cost = _measured_default(space, requirements, pricing or Pricing(requirements))
    return params if requirements.fits(cost) else None


def require_possible(
    space: DesignSpace, requirements: Requirements, pricing: Pricing | None = None
) -> None:
    """Refuse a search that nothing in the space can satisfy.

    Raises:
        NothingFits: With what ``check`` says about it.
        NotMeasured: What has to be measured could not be.
    """
    if default_params(space, requirements, pricing) is None:
        raise NothingFits(explain(feasibility(space, requirements, pricing=pricing), requirements))


def scale_of(
    space: DesignSpace, requirements: Requirements, pricing: Pricing | None = None
) -> Scale:
    """The objectives' ranges: chance to 1, the space's smallest cost to the limit. What has to be
    measured is predicted for that, and its smallest lowered by twice the predictor's error."""
    pricing = (pricing or Pricing(requirements)).at(DEFAULT)
    lowest, highest = {}, {}
    for name in requirements.objectives[1:]:
        limit = getattr(requirements.limits, name)
        lowest[name] = float(_extreme(space, pricing, name, 1)[name])
        if name in pricing.names and pricing.predictor is not None:
            # A share of what can be gained is to stay below 1.
            lowest[name] *= math.exp(-2 * pricing.predictor.fits[name].error)
        highest[name] = float(limit or _extreme(space, pricing, name, -1)[name])
    return Scale(requirements.objectives, 1 / requirements.data.classes, lowest, highest)


def feasibility(
    space: DesignSpace,
    requirements: Requirements,
    samples: int = SAMPLES,
    pricing: Pricing | None = None,
) -> Feasibility:
    """Look at the space before any training; takes about a second.

    Raises:
        NotMeasured: What has to be measured could not be.
    """
    pricing = (pricing or Pricing(requirements)).at(DEFAULT)
    proposals = map(space.decode, _proposals(space, requirements, samples))
    costs = [pricing.expected(each) for each in proposals]
    violations = [requirements.violations(cost) for cost in costs]
    limits = list(violations[0])
    excess = np.array([list(row.values()) for row in violations])  # samples x limits
    met = excess <= 0
    columns = zip((*limits, "all"), (*met.T, met.all(axis=1)), strict=True)
    fits = {name: Share(int(column.sum()), samples) for name, column in columns}
    own = space.decode(space.own())
    params, closest = _measured_default(space, requirements, pricing)
    nearest = space.decode(params)
    possible = requirements.fits(closest)
    changes: list[str] = []
    if not possible:
        changes = [
            *_budget_changes(space, requirements, pricing),
            *_prototype_changes(requirements),
        ]
    elif fits["all"].value < _ALMOST_NOTHING:
        changes = [_easing(excess)]

    def median(name: str) -> float:
        return float(np.median([cost[name] for cost in costs]))

    expectations = {}
    if pricing.predictor is not None and pricing.measurements is not None:
        for name, fit in pricing.predictor.fits.items():
            way, error = pricing.measurements.ways[name], math.expm1(fit.error)
            expectations[name] = Expectation(way, fit.networks, error, median(name))
    smallest, largest = (_extreme_network(space, pricing, "macs", sign) for sign in (1, -1))
    return Feasibility(
        parameter_sets=space.size(),
        parameters=len(space.parameters),
        smallest=pricing.noted(smallest),
        median=Cost(*(int(median(name)) for name in METRICS)),
        largest=pricing.noted(largest),
        own=part_costs(own),
        own_cost=pricing.noted(own),
        default=part_costs(nearest) if possible else None,
        default_cost=closest if possible else None,
        fits=fits,
        binding=_binding(limits, ~met),
        closest=closest,
        violations=requirements.violations(closest),
        changes=tuple(changes),
        expectations=expectations,
    )


def explain(found: Feasibility, requirements: Requirements) -> str:
    """In words: why nothing fits, and what would."""
    broken = [
        f"{name} {_written(found.closest, name)} over the limit "
        f"{_written(requirements.limits, name)}"
        for name, value in found.violations.items()
        if value > 0
    ]
    why = (
        "some network of the space must fit the limits, and none was found; the closest "
        f"{'was measured and ' * bool(requirements.measured)}has "
        f"{', '.join(broken) or 'no violation'}"
    )
    return "\n    ".join([why, *found.changes])


def _measured_default(
    space: DesignSpace, requirements: Requirements, pricing: Pricing
) -> tuple[Params, Cost]:
    """The default network or what comes nearest to the limits, with its cost as it was measured.

    It is scaled to what is expected. Where it is over a limit then, the expectation is raised for
    all other networks by as much as it missed this one, and it is scaled again.
    """
    pricing = pricing.at(DEFAULT)  # the same network whenever it is asked for
    raised = dict.fromkeys(pricing.names, 1.0)
    tried: dict[str, tuple[Params, Cost]] = {}

    def priced(network: Architecture) -> Mapping[str, float]:
        if network.id in tried:
            return tried[network.id][1]
        cost = pricing.cautious(network)
        return {name: value * raised.get(name, 1.0) for name, value in cost.items()}

    for _ in range(_ROUNDS):
        params = _closest(space, requirements, priced if pricing.names else pricing.counted)
        network = space.decode(params)
        expected = pricing.cautious(network)
        cost = pricing.known(network)
        if requirements.fits(cost):
            return params, cost
        if network.id in tried:
            break
        tried[network.id] = params, cost
        over = requirements.violations(cost)
        for name in raised:
            if over.get(name, 0.0) > 0:
                raised[name] = max(raised[name], cost[name] / expected[name])
        if not any(over.get(name, 0.0) > 0 for name in raised):
            break  # it is over a limit that is counted: nothing there is to be learnt
    if pricing.names:  # What was expected of them may be wrong, of the smallest too.
        params = space.descend(space.own(), lambda net: cost_of(net).macs)
        tried[""] = params, pricing.known(space.decode(params))

    def excess(row: tuple[Params, Cost]) -> float:
        return sum(max(0.0, value) for value in requirements.violations(row[1]).values())

    return min(tried.values(), key=excess)


def _excess_by(
    requirements: Requirements, cost: Callable[[Architecture], Mapping[str, float]], but: str = ""
) -> Callable[[Architecture], float]:
    """What sums up the relative amounts over each limit but one; 0 fits."""

    def excess(architecture: Architecture) -> float:
        over = requirements.violations(cost(architecture))
        return sum(max(0.0, value) for name, value in over.items() if name != but)

    return excess


def _closest(
    space: DesignSpace,
    requirements: Requirements,
    cost: Callable[[Architecture], Mapping[str, float]],
) -> Params:
    """The default network, or what breaks the limits least of what is found.

    Descents may end on a plateau, where no single change lowers anything; what random proposals
    keep is never called impossible.
    """
    excess = _excess_by(requirements, cost)
    if scaled := scaled_down(space, lambda architecture: excess(architecture) == 0):
        return scaled

    def over(params: Params) -> float:
        return excess(space.decode(params))

    reached = _reach(space, excess)
    if over(reached) == 0:
        return reached
    drawn = min(_proposals(space, requirements), key=over)
    return min(reached, drawn, space.descend(drawn, excess, enough=0), key=over)


def _proposals(
    space: DesignSpace, requirements: Requirements, samples: int = SAMPLES
) -> Iterator[Params]:
    """Random proposals, the same each time."""
    rng = np.random.default_rng(requirements.search.seed)
    return (space.sample(rng) for _ in range(samples))


def _reach(space: DesignSpace, excess: Callable[[Architecture], float]) -> Params:
    """Two descents, since the walk to the fewest MACs leaves dips that the other cannot."""
    starts = [space.own(), space.descend(space.own(), lambda net: cost_of(net).macs)]
    reached = [space.descend(start, excess, enough=0) for start in starts]
    return min(reached, key=lambda params: excess(space.decode(params)))


def _extreme(space: DesignSpace, pricing: Pricing, name: str, sign: int) -> Cost:
    """Of the network with the least of a quantity that descent finds; with the most for -1."""
    return pricing.expected(_extreme_network(space, pricing, name, sign))


def _extreme_network(space: DesignSpace, pricing: Pricing, name: str, sign: int) -> Architecture:
    cost = pricing.counted if name in METRICS else pricing.expected
    return space.decode(space.descend(space.own(), lambda net: sign * cost(net)[name]))


def _binding(limits: Sequence[str], broken: NDArray[np.bool_]) -> str | None:
    """The limit without which the most of what is kept out (samples x limits) would fit."""
    if not broken.any():
        return None
    alone = broken[broken.sum(axis=1) == 1].sum(axis=0)
    # Where nothing breaks one limit alone: the one that most break.
    kept_out = alone if alone.any() else broken.sum(axis=0)
    return limits[int(kept_out.argmax())]


def _budget_changes(space: DesignSpace, requirements: Requirements, pricing: Pricing) -> list[str]:
    """Each limit alone, raised until something fits; else all of them together."""
    limits = requirements.limits
    reached = _reach(space, _excess_by(requirements, pricing.cautious))

    def alone(name: str) -> list[str]:
        limit, excess = getattr(limits, name), _excess_by(requirements, pricing.cautious, but=name)
        least = space.descend(
            reached, lambda net: 1e6 * excess(net) + pricing.cautious(net)[name] / limit
        )
        return raised([name], least) if excess(space.decode(least)) == 0 else []

    def raised(names: Iterable[str], params: Params) -> list[str]:
        cost = pricing.known(space.decode(params))
        words = " and ".join(f"limits.{name} to {_enough(cost, name)}" for name in names)
        return [f"raise {words}: then something fits"]

    one = [change for name in limits.model_dump(exclude_none=True) for change in alone(name)]
    over = requirements.violations(pricing.cautious(space.decode(reached)))
    return one or raised((name for name, value in over.items() if value > 0), reached)


def _enough(cost: Cost, name: str) -> str:
    """A limit that lets a network in, as a person writes it."""
    if name in METRICS:
        return _written(cost, name)
    return _as_written(name, math.ceil(_ROOM * 100 * cost[name]) / 100)


def _written(of: Cost | Limits, name: str) -> str:
    """A cost or a limit as a person writes it in the file."""
    return _as_written(name, getattr(of, name))


def _as_written(name: str, value: float) -> str:
    unit = QUANTITIES[name].unit
    if unit == "ms":
        return f"{value:.3g}" if value < 100 else f"{value:.0f}"
    return exact_bytes(math.ceil(value)) if unit == "bytes" else exact_count(math.ceil(value))


def _prototype_changes(requirements: Requirements) -> Iterator[str]:
    """Each freedom alone, opened towards the small; else all of them together. None where something
    has to be measured: that is known of this space only."""
    if requirements.measured:
        return
    edits = [words for words, *_ in _smaller(requirements.prototype.model_dump(mode="json"))]
    alone = [words for words in edits if _possible_with(requirements, [words])]
    if alone:
        yield from (f"or in the prototype, {words}: then something fits" for words in alone)
    elif _possible_with(requirements, edits):
        yield f"or in the prototype, all of: {'; '.join(edits)}: then something fits"


def _smaller(written: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str, int]]:
    """Edits that make the smallest network smaller: in words, and part, key and value to add."""
    stem, head = written["stem"], written["head"]
    stages = {f"stages[{index}]": stage for index, stage in enumerate(written["stages"])}
    for name, stage in stages.items():
        if (least := min(_all(stage["modules"]))) > 1:
            yield f"let {name}.modules be 1 (at least {least} now)", stage, "modules", 1
    for name, part in {"stem": stem, **stages}.items():
        if (least := min(_all(part["channels"]))) > 4:
            fewer = max(4, least // 2)
            words = f"let {name}.channels fall to {fewer} (at least {least} now)"
            yield words, part, "channels", fewer
    if min(_all(head["features"])) > 0:
        yield "let head.features be 0", head, "features", 0
    if _all(stem["stride"]) == [1]:
        yield "let stem.stride be 2 (1 now)", stem, "stride", 2


def _all(value: Any) -> list[int]:
    if isinstance(value, dict):
        return list(range(value["low"], value["high"] + 1, value["step"]))
    return value if isinstance(value, list) else [value]


def _possible_with(requirements: Requirements, edits: Sequence[str]) -> bool:
    """Whether something fits once these edits, named by their words, are made."""
    written = requirements.prototype.model_dump(mode="json")
    for words, part, key, value in list(_smaller(written)):
        if words in edits:
            part[key] = [*_all(part[key]), value]
    changed = requirements.model_copy(update={"prototype": Prototype.model_validate(written)})
    try:
        space = DesignSpace(changed)
    except InputError:
        return False  # such as a stride too many for the resolution
    excess = _excess_by(changed, Pricing(changed).counted)
    return excess(space.decode(_reach(space, excess))) == 0


def _easing(excess: NDArray[np.float64]) -> str:
    """By how much all limits must rise together for a twentieth of the proposals to fit."""
    worst = np.sort(excess.max(axis=1))
    factor = 1 + worst[len(worst) // 20]
    return (
        f"almost nothing fits: with every limit times {factor:.2g}, about 5 % of random "
        "proposals would; a search finds what fits all the same, but rejects many"
    )
