"""Parameter sets as rows of numbers, for predictors and distances.

Numbers are coordinates from 0 to 1, other categories one coordinate each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

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
        self.names = sorted(distributions)
        kinds: dict[tuple[str, bool], list[str]] = {}
        for name in self.names:
            is_number = _categories(distributions[name]) is None
            kinds.setdefault((kind_of(name), is_number), []).append(name)
        shared = [names for names in kinds.values() if len(names) > 1]
        # A slot for a number, one for each of other categories.
        self._slots: dict[str, _Slots] = {}
        count = 0
        for name in self.names:
            slots = _Slots(count, distributions[name])
            self._slots[name] = slots
            count += len(slots.categories)
        groups = [*([name] for name in self.names), *shared]
        group_of: list[int] = []
        in_column: list[tuple[int, int]] = []
        in_group: list[tuple[int, int]] = []
        for group, names in enumerate(groups):
            columns: dict[str, int] = {}
            for slots in (self._slots[name] for name in names):
                for slot, category in enumerate(slots.categories, start=slots.first):
                    column = columns.setdefault(repr(category), len(group_of) + len(columns))
                    in_column.append((slot, column))
                    in_group.append((slot, group))
            group_of += [group] * len(columns)
        self._column_of = _incidence(in_column, (count, len(group_of)))
        self._group_of = _incidence(in_group, (count, len(groups)))
        self._groups = np.array(group_of, dtype=np.int64)
        sizes = [len(self.names)] * len(self.names) + [len(shared)] * len(shared)
        #: Of the rows.
        self.columns = Columns(tuple(group_of), tuple(sizes))

    def rows(self, many: Sequence[Mapping[str, Any]]) -> Floats:
        """[n, d], one row a parameter set; what is not active lies in the middle."""
        slots = self._column_of.shape[0]
        places: list[int] = []
        found: list[float] = []
        for number, params in enumerate(many):
            first = number * slots
            for name, value in params.items():
                known = self._slots.get(name)
                if known is None:
                    continue
                try:
                    here = known.amounts.get(value) or known.find(value)
                except TypeError:  # a list has no hash
                    here = known.find(value)
                if here is not None:
                    places.append(first + here[0])
                    found.append(here[1])
        amounts = np.zeros((len(many), slots))
        active = np.zeros((len(many), slots))
        amounts.flat[places] = found
        active.flat[places] = 1.0
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
        categories: What has a slot; of a number the number itself, as ``None``.
        amounts: Of values met so far the slot and how much goes there.
    """

    def __init__(self, first: int, distribution: BaseDistribution) -> None:
        self.first = first
        self._distribution = distribution
        self.amounts: dict[Any, tuple[int, float]] = {}
        self._amounts: dict[str, tuple[int, float]] = {}  # by text, as a list has no hash
        categories = _categories(distribution)
        self.categories: tuple[Any, ...] = categories or (None,)
        if categories is not None:
            # Two different categories are as far apart as the two ends of a number.
            far = math.sqrt(0.5)
            self._amounts = {repr(value): (first + at, far) for at, value in enumerate(categories)}
        elif isinstance(distribution, CategoricalDistribution):
            ranked = sorted(cast(Sequence[float], distribution.choices))
            last = max(1, len(ranked) - 1)
            self.amounts = {value: (first, rank / last) for rank, value in enumerate(ranked)}

    def find(self, value: Any) -> tuple[int, float] | None:
        """Likewise of a new value; None of a category that the distribution does not have."""
        if isinstance(self._distribution, CategoricalDistribution):
            found = self._amounts.get(repr(value))
            if found is not None and isinstance(value, str | int | float | None):
                self.amounts[value] = found
            return found
        found = self.first, share(self._distribution, value)
        if isinstance(value, int):  # of which there are few
            self.amounts[value] = found
        return found


def _categories(distribution: BaseDistribution) -> tuple[Any, ...] | None:
    """Its choices, None where all are numbers."""
    if not isinstance(distribution, CategoricalDistribution):
        return None
    choices = distribution.choices
    numbers = {each for each in choices if isinstance(each, int | float)}
    return None if len(numbers) == len(choices) else choices
