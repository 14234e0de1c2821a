"""Which choices mattered: permutation importance, on candidates held out of the fit.

Extremely randomised trees predict the proxy_accuracy of candidates that they were not fitted to,
in five folds. The error grows when a choice is shuffled among these candidates. The importance
of a choice is its share of the growth of all choices. Choices that change together share their
importance; a choice that was never varied has none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collabdesign.explore.record import Candidate

FEWEST = 20
LEAST_R2 = 0.1

_FOLDS, _REPEATS, _TREES = 5, 5, 100

# Of single choices so many are named, and none with less than this share.
_CHOICES_NAMED, _LEAST_NAMED = 5, 0.01

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Importance:
    """Which choices mattered for proxy_accuracy.

    Attributes:
        candidates: Trained ones that it was estimated from.
        r2: Share of the variance of proxy_accuracy that the forest explains of candidates that it
            was not fitted to; ``None`` where there are too few candidates to tell.
        modules: Label to importance, the sum over its choices, the most important first; all
            together 1; empty where nothing can be said.
        choices: The most important single choices, likewise.
    """

    candidates: int
    r2: float | None = None
    modules: tuple[tuple[str, float], ...] = ()
    choices: tuple[tuple[str, float], ...] = ()


def importance(trained: Sequence[Candidate], seed: int = 0) -> Importance:
    """Estimate it from the trained candidates; empty for fewer than 20, or with too small an r2.

    Args:
        trained: All with a proxy_accuracy.
        seed: Of the folds, the forests and the shuffles.
    """
    count = len(trained)
    if count < FEWEST:
        return Importance(count)
    # Late: a report of a short search needs none of it.
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.model_selection import KFold

    columns = encode([each.params for each in trained])
    accuracy = np.array([each.accuracy for each in trained], dtype=np.float64)
    variance = float(((accuracy - accuracy.mean()) ** 2).sum())
    if not columns or variance == 0:
        return Importance(count, 0.0)
    matrix = np.concatenate(list(columns.values()), axis=1)
    choices = range(len(columns))
    choice_of = np.repeat(choices, [each.shape[1] for each in columns.values()])  # each column's
    rng = np.random.default_rng(seed)
    error, shuffled = 0.0, np.zeros(len(choices))
    for fitted, held_out in KFold(_FOLDS, shuffle=True, random_state=seed).split(matrix):
        forest = ExtraTreesRegressor(_TREES, min_samples_leaf=2, random_state=seed)
        forest.fit(matrix[fitted], accuracy[fitted])
        rows, measured = matrix[held_out], accuracy[held_out]
        error += float(((forest.predict(rows) - measured) ** 2).sum())
        for _ in range(_REPEATS):
            # All choices in one call: a call costs more than its rows.
            stacked = np.tile(rows, (len(choices), 1, 1))
            for choice in choices:
                other = rows[rng.permutation(len(rows))]
                stacked[choice] = np.where(choice_of == choice, other, rows)
            predicted = forest.predict(stacked.reshape(-1, rows.shape[1]))
            missed = (predicted.reshape(len(choices), -1) - measured) ** 2
            shuffled += missed.sum(axis=1) / _REPEATS
    r2 = 1 - error / variance
    if r2 <= LEAST_R2:
        return Importance(count, r2)
    worse = np.maximum(0.0, shuffled - error)
    lost = dict(zip(columns, (worse / (worse.sum() or 1.0)).tolist(), strict=True))
    modules: Counter[str] = Counter()
    for name, value in lost.items():
        modules[module_label(name)] += value
    single = {choice_label(name): value for name, value in lost.items() if value >= _LEAST_NAMED}
    return Importance(count, r2, _sorted(modules), _sorted(single)[:_CHOICES_NAMED])


def encode(params: Sequence[Any]) -> dict[str, Matrix]:
    """Each choice that varied as columns of numbers, a row a candidate.

    A number is itself, with -1 where it is not active; anything else is a column for each of its
    values, all 0 where it is not active.
    """
    names = dict.fromkeys(name for each in params for name in each)
    columns = {}
    for name in names:
        values = [each.get(name) for each in params]
        known = sorted({value for value in values if value is not None}, key=str)
        if len({*values}) < 2:
            continue
        if all(isinstance(value, int | float) for value in known):
            rows = [[-1.0 if value is None else float(value)] for value in values]
        else:
            rows = [[float(value == each) for each in known] for value in values]
        columns[name] = np.array(rows, dtype=np.float32)
    return columns


def module_label(name: str) -> str:
    """The module of a parameter: ``stage 2, module 1`` of ``stage2.module1.attention``."""
    first, second, *_ = [*name.split("."), ""]
    if not first.startswith("stage"):
        return first
    stage = f"stage {first.removeprefix('stage')}"
    if second.startswith("module") and second != "modules":
        return f"{stage}, module {second.removeprefix('module')}"
    return f"{stage}, module design" if second == "design" else f"{stage} as a whole"


def choice_label(name: str) -> str:
    """A parameter in words: ``stage 2, module 1: branch 1 layer 2 width``."""
    parts = name.split(".")
    inner = " ".join(parts[2:] or parts[1:])
    words = re.sub(r"(?<=[a-z_])(\d+)\b", r" \1", inner).replace("_", " ")
    return f"{module_label(name)}: {words}"


def _sorted(found: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(found.items(), key=lambda item: (-item[1], item[0])))
