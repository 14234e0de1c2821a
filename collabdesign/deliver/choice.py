"""Who is in the family: a function of the candidates and of what full trainings came to.

Nothing is trained here, and test is not known. :mod:`collabdesign.deliver.family` trains what
:meth:`Choice.next_to_train` asks for, until it asks for nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from collabdesign.explore.front import Scale, difference_error, netscore
from collabdesign.explore.record import Candidate

# The report numbers its lines.
RULE = """\
The first member is the most accurate network. To find it, the best proxies whose difference may \
be noise (at most family.finalists) and the prototype's default network are each trained fully \
once. The one with the highest select accuracy is taken. With family.finalists: 1 it is the best \
proxy.
The others come from the front. The range of cost from the first member to the smallest network \
is cut into equal parts, one for each other member. Cost is the product of the costs that are \
objectives, on a log scale.
From each part the network that adds most hypervolume is taken. If two add the same, the one with \
the higher NetScore (accuracy for its cost) is taken.
If a part is empty, its place goes to the network of the whole front that adds most hypervolume.
If the front has fewer networks than the family, all of them are taken. The front of the \
candidates that are left fills the other places in the same way.
With goals.accuracy a network that misses the goal on the held-out part (mean over seeds) is no \
member if another one meets it: it is a near miss. The last part's place goes to the smallest \
network that meets the goal, and the range of cost ends there. If no network meets the goal, the \
members are chosen as without one.
To find the smallest, the smallest network of the front that is expected to meet the goal is \
trained fully, again and again: a larger one if it misses, a smaller one if it meets the goal and \
that is expected of a smaller one too. Expected is the proxy accuracy and what full training added \
to the network of the nearest cost. At most family.size networks are trained to find it, and at \
most twice as many in all, finalists not counted.
The members are named A, B and so on, from the highest select accuracy (mean over seeds) down."""

# Standard errors within which two proxies are about as good: on so many held-out images the
# worse of two is further ahead by chance in one case of forty.
_ABOUT_AS_GOOD = 1.96

# Less than one image more or less makes of any accuracy.
_TRIFLE = 1e-9


@dataclass(frozen=True)
class Choice:
    """What the family is chosen from, and by what.

    Attributes:
        candidates: Trained as proxies, within the limits.
        scale: Of their objectives.
        size: Of the family, at most.
        goal: ``goals.accuracy``, if it is set.
        finalists: Numbers of those that were trained once for the first place.
        reached: The accuracies of these trainings, without those that failed.
        anchor: The candidate that the search aimed by and its accuracy after full training.
    """

    candidates: Sequence[Candidate]
    scale: Scale
    size: int
    goal: float | None = None
    finalists: Collection[int] = ()
    reached: Mapping[int, float] = field(default_factory=dict)
    anchor: tuple[int, float] | None = None

    def next_to_train(self, judged: Mapping[int, float | None]) -> list[Candidate]:
        """The candidates to train fully now, with all seeds; empty where the members are known.

        Args:
            judged: By the numbers of those that were trained with all seeds, the mean accuracy on
                the held-out part; None where every training failed.
        """
        left = self._left(judged)
        if not left:
            return []
        room = self._room(judged)
        if room and self.goal is not None:
            first = max(left, key=lambda each: (each.proxy_accuracy, -each.number))
            if first.number not in judged:
                return [self._as_trained(first)]
            smallest = self._smallest(left, judged)
            if room > self.size and (self.size > 1 or smallest is None):
                smaller = [
                    each
                    for each in self.scale.front(left)
                    if each.number not in judged
                    and self._may_meet(each, judged)
                    and (smallest is None or _size(self.scale, each) < _size(self.scale, smallest))
                ]
                if smaller:
                    return [self._as_trained(min(smaller, key=self._smallest_first))]
        new = [each for each in self.members(judged) if each.number not in judged]
        return new[:room]

    def members(self, judged: Mapping[int, float | None]) -> list[Candidate]:
        """The family by :data:`RULE` as far as is known, the most accurate first; some may not be
        trained yet."""
        left = self._left(judged)
        if not self._room(judged):
            left = [each for each in left if each.number in judged]
        smallest = self._smallest(left, judged)
        if smallest is not None:
            left = [
                each
                for each in left
                if self._meets(each, judged)
                or (
                    each.number not in judged
                    and self._may_meet(each, judged)
                    and _size(self.scale, each) >= _size(self.scale, smallest)
                )
            ]
        return [
            self._as_trained(each) for each in choose_family(left, self.scale, self.size, smallest)
        ]

    def near_misses(self, judged: Mapping[int, float | None]) -> dict[int, float]:
        """Of those that miss the goal while another one meets it, by their numbers, the accuracy
        on the held-out part; those with the highest first."""
        if self.goal is None or self._smallest(self._left(judged), judged) is None:
            return {}
        known = {**self.reached, **{number: it for number, it in judged.items() if it is not None}}
        missed = [(number, it) for number, it in known.items() if it < self.goal]
        return dict(sorted(missed, key=lambda row: (-row[1], row[0])))

    def _room(self, judged: Mapping[int, float | None]) -> int:
        """How many more may be trained, finalists not counted."""
        return 2 * self.size - sum(number not in self.finalists for number in judged)

    def _left(self, judged: Mapping[int, float | None]) -> list[Candidate]:
        """Those that did not fail, in the order that the finalists' trainings settled."""
        failed = {number for number, accuracy in judged.items() if accuracy is None}
        left = [each for each in self.candidates if each.number not in failed]
        return rank_finalists(left, self.reached)

    def _as_trained(self, decided: Candidate) -> Candidate:
        return next(each for each in self.candidates if each.number == decided.number)

    def _meets(self, candidate: Candidate, judged: Mapping[int, float | None]) -> bool:
        accuracy = judged.get(candidate.number)
        return self.goal is not None and accuracy is not None and accuracy >= self.goal

    def _smallest(
        self, left: Sequence[Candidate], judged: Mapping[int, float | None]
    ) -> Candidate | None:
        """Of those that meet the goal; None where none is known to."""
        met = [each for each in left if self._meets(each, judged)]
        return min(met, key=self._smallest_first, default=None)

    def _smallest_first(self, candidate: Candidate) -> tuple[float, float, int]:
        return _size(self.scale, candidate), -candidate.proxy_accuracy, candidate.number

    def _may_meet(self, candidate: Candidate, judged: Mapping[int, float | None]) -> bool:
        """Whether it is expected to meet the goal: by its proxy, and by what full training added
        to the network of the nearest cost."""
        assert self.goal is not None
        fully = dict([self.anchor] if self.anchor else [])
        fully |= self.reached
        fully |= {number: it for number, it in judged.items() if it is not None}
        known = [each for each in self.candidates if each.number in fully]
        own = _size(self.scale, candidate)
        nearest = min(
            known,
            key=lambda each: (abs(_size(self.scale, each) - own), each.number),
            default=None,
        )
        gain = 0.0 if nearest is None else fully[nearest.number] - nearest.proxy_accuracy
        return self._as_trained(candidate).proxy_accuracy + gain >= self.goal - _TRIFLE


def choose_family(
    trained: Sequence[Candidate], scale: Scale, size: int, smallest: Candidate | None = None
) -> list[Candidate]:
    """Up to ``size`` of the trained candidates by :data:`RULE`, the most accurate first.

    Args:
        trained: With an accuracy each.
        scale: Of their objectives.
        size: Of the family.
        smallest: One of them that is a member, where there is more than one, and that none is
            smaller than; None where there is none.
    """
    left = list(trained)
    if size < 2:
        smallest = None
    pool: list[Candidate] = []
    while left and len(pool) < size:
        layer = list(scale.front(left))
        if smallest is not None and not pool and smallest not in layer:
            layer.append(smallest)
        room = size - len(pool)
        pool += layer if len(layer) <= room else _spread(layer, pool, scale, room, smallest)
        left = [each for each in left if each not in layer]
    return sorted(pool, key=lambda each: (-each.proxy_accuracy, each.number))


def finalists(trained: Sequence[Candidate], images: int, most: int) -> list[Candidate]:
    """The most accurate proxies, as far as they are about as good, and the prototype's default
    network, which is to be beaten; the most accurate first.

    Args:
        trained: With an accuracy each.
        images: On which it was counted.
        most: So many at most, the default not counted.
    """
    ranked = sorted(trained, key=lambda each: (-each.proxy_accuracy, each.cost.macs, each.number))
    if not ranked:
        return []
    best = ranked[0].proxy_accuracy
    enough = best - _ABOUT_AS_GOOD * difference_error(best, images)
    some = [each for each in ranked[:most] if each.proxy_accuracy >= enough]
    return some + [each for each in ranked if each.proposed_by == "prototype" and each not in some]


def rank_finalists(trained: Sequence[Candidate], reached: Mapping[int, float]) -> list[Candidate]:
    """The candidates, with the finalists' accuracies replaced so that their order is that of their
    full trainings.

    The best finalist gets the best proxy's accuracy and a trifle more: it stands before others of
    this accuracy. Each other finalist gets as much less as it is behind after full training.

    Args:
        trained: With an accuracy each.
        reached: By the number of the candidate, the accuracy after full training.
    """
    if not reached:
        return list(trained)
    first = max(reached.values())
    proxy = max(each.proxy_accuracy for each in trained if each.number in reached)
    return [
        replace(each, accuracy=max(0.0, proxy + _TRIFLE - (first - reached[each.number])))
        if each.number in reached
        else each
        for each in trained
    ]


def _spread(
    layer: list[Candidate],
    chosen: Sequence[Candidate],
    scale: Scale,
    room: int,
    smallest: Candidate | None,
) -> list[Candidate]:
    """``room`` members of one front, spread by :data:`RULE`."""
    first = max(layer, key=lambda c: (c.proxy_accuracy, -c.number))
    parts = room - 1
    picked, to_fill = [first], parts
    if smallest in layer and smallest not in (first, None):
        picked.append(smallest)
        to_fill -= 1  # the last part is its own

    def gain(candidate: Candidate) -> tuple[float, float]:
        held = [scale.values(each) for each in (*chosen, *picked, candidate)]
        score = netscore(candidate.proxy_accuracy, candidate.cost.params, candidate.cost.macs)
        return scale.hypervolume(held), score

    depths = {each.number: _size(scale, first) - _size(scale, each) for each in layer}
    deepest = max(depths.values())
    for number in range(to_fill):
        # The smallest alone is not a part: one that costs hardly more may be far better.
        low, high = number * deepest / parts, (number + 1) * deepest / parts
        some = [c for c in layer if c not in picked and low < depths[c.number] <= high]
        if some:
            picked.append(max(some, key=gain))
    while len(picked) < room:
        picked.append(max((each for each in layer if each not in picked), key=gain))
    return picked


def _size(scale: Scale, candidate: Candidate) -> float:
    """Logarithm of the product of the costs among the objectives."""
    # A count of 0 has no logarithm; milliseconds below 1 have.
    return sum(math.log(value if value > 0 else 1) for value in scale.values(candidate)[1:])
