"""Parameter sets as rows of numbers, for predictors and distances.

Numbers are coordinates from 0 to 1, other categories one coordinate each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from scipy.sparse import csr_array

from collabdesign.sampler.proposal_space import Floats, kind_of, share


@dataclass(frozen=True)
class Columns:
    """Which columns of a row belong together.

    Attributes:
        group_of: [d], of each column the number of its group: a parameter, a kind of parameters
            or a known cost. A group's columns share one relevance.
        sort_size: [groups], how many groups there are of a group's sort: parameters, kinds or
            costs. The prior on relevance falls with it, so that each sort as a whole weighs the
            same.
    """

    group_of: tuple[int, ...]
    sort_size: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.group_of)

    def beside(self, others: int) -> Columns:
        """With so many columns more, each a group, these a sort of their own."""
        number = len(self.sort_size)
        return Columns(
            (*self.group_of, *range(number, number + others)),
            (*self.sort_size, *[others] * others),
        )


class Encoding:
    """Parameter sets as rows of numbers.

    A parameter has its columns, and so has each kind (:func:`kind_of`): the mean over its active
    parameters, as parameters of a kind mostly have the same effect.

    Args:
        distributions: The parameters that have a column; others are passed over.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        names = sorted(distributions)
        self._slots: dict[str, _Slots] = {}
        kinds: dict[tuple[str, bool], list[str]] = {}
        count = 0
        for name in names:
            slots = self._slots[name] = _Slots(count, distributions[name])
            count += len(slots.categories)
            kinds.setdefault((kind_of(name), slots.is_number), []).append(name)
        shared = [its for its in kinds.values() if len(its) > 1]
        groups = [*([name] for name in names), *shared]
        group_of: list[int] = []
        in_column: list[tuple[int, int]] = []
        in_group: list[tuple[int, int]] = []
        for group, members in enumerate(groups):
            columns: dict[str, int] = {}
            for slots in (self._slots[name] for name in members):
                for slot, category in enumerate(slots.categories, start=slots.first):
                    column = columns.setdefault(repr(category), len(group_of) + len(columns))
                    in_column.append((slot, column))
                    in_group.append((slot, group))
            group_of += [group] * len(columns)
        self._column_of = _incidence(in_column, (count, len(group_of)))
        self._group_of = _incidence(in_group, (count, len(groups)))
        self._groups = np.array(group_of, dtype=np.int64)
        sizes = [len(names)] * len(names) + [len(shared)] * len(shared)
        #: Of the rows.
        self.columns = Columns(tuple(group_of), tuple(sizes))

    def rows(self, many: Sequence[Mapping[str, Any]]) -> Floats:
        """[n, d], one row a parameter set; what is not active lies in the middle."""
        amounts = np.zeros((len(many), self._column_of.shape[0]))
        active = np.zeros_like(amounts)
        places: list[tuple[int, int]] = []
        found: list[float] = []
        for number, params in enumerate(many):
            for name, value in params.items():
                slots = self._slots.get(name)
                here = None if slots is None else slots.find(value)
                if here is not None:
                    places.append((number, here[0]))
                    found.append(here[1])
        if places:
            at = tuple(np.array(places).T)
            amounts[at] = found
            active[at] = 1.0
        counts = (active @ self._group_of)[:, self._groups]
        totals = amounts @ self._column_of
        out: Floats = np.where(counts > 0, totals / np.maximum(counts, 1), 0.5)
        return out


def _incidence(pairs: Sequence[tuple[int, int]], shape: tuple[int, int]) -> csr_array:
    """1 where a pair says so; sparse, as a category may have thousands of choices."""
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)


class _Slots:
    """Where a parameter's values go.

    Args:
        first: Of its slots among all.
        distribution: Of the parameter.

    Attributes:
        is_number: Whether the values are numbers, which have one slot; a category of numbers
            counts their ranks.
        categories: What has a slot; of a number the number itself, as ``None``.
    """

    def __init__(self, first: int, distribution: BaseDistribution) -> None:
        self.first = first
        self._distribution = distribution
        choices: tuple[Any, ...] = ()
        if isinstance(distribution, CategoricalDistribution):
            choices = distribution.choices
        numbers = {each for each in choices if isinstance(each, int | float)}
        self.is_number = len(numbers) == len(choices)
        self.categories = (None,) if self.is_number else choices
        self._ranked = sorted(numbers)
        # By text, as a list has no hash.
        self._slot_of = {repr(each): at for at, each in enumerate(choices, start=first)}

    def find(self, value: Any) -> tuple[int, float] | None:
        """The slot and how much goes there; None of a category that the distribution does not
        have."""
        if not self.is_number:
            slot = self._slot_of.get(repr(value))
            # Two different categories are as far apart as the two ends of a number.
            return None if slot is None else (slot, math.sqrt(0.5))
        if not self._ranked:
            return self.first, share(self._distribution, value)
        if value not in self._ranked:
            return None
        return self.first, self._ranked.index(value) / max(1, len(self._ranked) - 1)
