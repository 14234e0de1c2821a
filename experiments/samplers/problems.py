"""What samplers compete on: a table of trained networks, and a large space with a formula."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from build_table import TABLES

from collabdesign import DesignSpace, cost_of, load_requirements
from collabdesign.design.architecture import Architecture
from collabdesign.explore.front import Scale

HERE = Path(__file__).parent
OBJECTIVES = ("accuracy", "macs", "params")
DIRECTIONS = ("maximize", "minimize", "minimize")
Params = Mapping[str, Any]


@dataclass
class Problem:
    """A space, what training would show, and what is true.

    Attributes:
        space: Of networks.
        observe: Architecture and a generator -> accuracy as one training shows it.
        truth: Architecture -> accuracy without the noise of a training.
        scale: For the hypervolume that is judged.
        limit: On the multiply-adds, None for none.
    """

    name: str
    space: DesignSpace
    observe: Callable[[Architecture, np.random.Generator], float]
    truth: Callable[[Architecture], float]
    scale: Scale
    limit: int | None

    @cached_property
    def _known(self) -> dict[frozenset[tuple[str, Any]], tuple[Architecture, int, int]]:
        return {}

    def look(self, params: Params) -> tuple[Architecture, int, int]:
        """Architecture, multiply-adds, parameters."""
        key = frozenset(params.items())
        found = self._known.get(key)
        if found is None:
            architecture = self.space.decode(params)
            cost = cost_of(architecture)
            found = self._known[key] = (architecture, cost.macs, cost.params)
        return found

    def forget(self) -> None:
        """What was looked at: of a large space it takes gigabytes after some searches."""
        self._known.clear()

    def violations(self, params: Params) -> list[float]:
        """Of the limit, at most 0 is met."""
        return [self.look(params)[1] / self.limit - 1] if self.limit else []

    def static_objectives(self, params: Params) -> list[float]:
        """Accuracy is not known."""
        _, macs, count = self.look(params)
        return [math.nan, macs, count]

    def fits(self, params: Params) -> bool:
        """Whether the limit is kept."""
        return all(value <= 0 for value in self.violations(params))


def table_problem(name: str, share: float | None) -> Problem:
    """A trained table; with a share, under a budget that this share of it meets."""
    table = TABLES[name]
    results = table.accuracies()
    costs = [cost_of(architecture) for _, architecture in table.networks.values()]
    limit = None if share is None else int(np.quantile([cost.macs for cost in costs], share))
    return Problem(
        f"{name}, {'no limit' if share is None else f'{share:.0%} fit'}",
        table.space,
        lambda architecture, rng: results[architecture.id][int(rng.integers(2))],
        lambda architecture: float(np.mean(results[architecture.id])),
        _scale([cost.macs for cost in costs], [cost.params for cost in costs], limit),
        limit,
    )


def formula_problem(share: float | None) -> Problem:
    """The shipped prototype for 32x32 pictures with a formula in place of training."""
    space = DesignSpace(
        load_requirements(HERE.parent.parent / "requirements" / "cifar10-torchvision.yaml")
    )
    rng = np.random.default_rng(0)
    sample = [cost_of(space.decode(space.sample(rng))) for _ in range(4000)]
    macs = [cost.macs for cost in sample]
    limit = None if share is None else int(np.quantile(macs, share))
    lightest = space.descend(space.own(), lambda a: cost_of(a).macs)
    smallest = space.descend(space.own(), lambda a: cost_of(a).params)
    heaviest = space.descend(space.own(), lambda a: -cost_of(a).macs)
    largest = space.descend(space.own(), lambda a: -cost_of(a).params)
    return Problem(
        f"formula, {'no limit' if share is None else f'{share:.0%} fit'}",
        space,
        lambda architecture, rng: (
            float(np.clip(stand_in(architecture) + 0.006 * rng.standard_normal(), 0, 1))
            if rng.random() > 0.02
            else 0.1
        ),
        stand_in,
        _scale(
            [cost_of(space.decode(lightest)).macs, cost_of(space.decode(heaviest)).macs],
            [cost_of(space.decode(smallest)).params, cost_of(space.decode(largest)).params],
            limit,
        ),
        limit,
    )


def stand_in(architecture: Architecture) -> float:
    """A formula for accuracy: size with falling returns, what modules are made of, and mixtures.

    0.1 + 0.85 / (1 + exp(-z)), z = 0.55 ln(macs / 3M) + 0.25 ln(params / 60k) + 1.2 + the mean
    over modules of: shortcut +0.25, attention +0.12, smooth activation +0.1, every spatial
    layer +0.15 up to two, pooling only -0.5, groups -0.05 each doubling; one spatial layer of
    kernel 5 in the second half +0.2, in the first -0.1; attention beside pooling -0.2.
    """
    cost = cost_of(architecture)
    z = 0.55 * math.log(cost.macs / 3e6) + 0.25 * math.log(cost.params / 6e4) + 1.2
    parts = []
    for number, module in enumerate(architecture.modules):
        layers = [layer for branch in module.branches for layer in branch.layers]
        spatial = [layer for layer in layers if layer.op == "conv" and layer.kernel > 1]
        pools = [layer for layer in layers if layer.op == "pool"]
        part = 0.25 * (module.shortcut != "none") + 0.1 * (module.activation != "relu")
        attention = module.attention != "none"
        part += 0.12 * attention - 0.2 * (attention and bool(pools))
        part += 0.15 * min(2, len(spatial)) - 0.5 * (not spatial)
        part -= 0.05 * float(
            np.mean([math.log2(layer.groups) for layer in layers if layer.op == "conv"] or [0])
        )
        late = 2 * number >= len(architecture.modules)
        part += (0.2 if late else -0.1) * any(layer.kernel == 5 for layer in spatial)
        parts.append(part)
    z += float(np.mean(parts))
    return 0.1 + 0.85 / (1 + math.exp(-z))


def _scale(macs: Sequence[int], params: Sequence[int], limit: int | None) -> Scale:
    return Scale(
        OBJECTIVES,
        0.1,
        {"macs": min(macs), "params": min(params)},
        {"macs": limit or max(macs), "params": max(params)},
    )
