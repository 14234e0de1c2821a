"""How a network that is compared with is trained, so that it is no straw man."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

#: The recipe's own learning rate times these are tried; of equal ones the first is kept.
RATES = (1.0, 0.5, 2.0)

#: Of these rates, where none of them trains a network: some have no normalisation.
SCALES = (1.0, 0.1, 0.01)

LENGTHEN = 1.5
MOST_EXTENSIONS = 4

# The report numbers its lines.
RULE = f"""\
Each baseline is trained once with the learning rate of family.training, once with half of it and \
once with double. The rate with the highest accuracy on the held-out part of train is kept. \
Where none of the three is better than guessing, a tenth of each is tried, then a hundredth.
With it, it is trained from the start with half as many epochs more. If the accuracy on the \
held-out part is then higher, these epochs are kept and half as many more are tried, at most \
{MOST_EXTENSIONS} times.
Better and higher mean: by more than one standard error of the difference of two independent \
shares of the held-out images. All these trainings have one seed.
With what was kept it is trained with every seed. Test is read once for each of these trainings. \
Nothing is chosen by test.
The members keep the learning rate and the epochs of family.training. They are not tuned, so the \
comparison favours the baselines."""


@dataclass(frozen=True)
class Setting:
    """What is tuned: the highest learning rate, and the passes over the train part."""

    learning_rate: float
    epochs: int


@dataclass(frozen=True)
class Tuned:
    """Where the tuning of one network stands.

    Attributes:
        best: The setting to keep, as far as is known; None where no training came to its end.
        wanted: Trainings that have to tell before it is decided; empty where it is.
    """

    best: Setting | None
    wanted: tuple[Setting, ...]


def tune(own: Setting, known: Mapping[Setting, float | None], images: int, classes: int) -> Tuned:
    """What :data:`RULE` says of a network, from the trainings so far.

    Args:
        own: The recipe's.
        known: Accuracies on the held-out part, None where a training failed.
        images: Of the held-out part.
        classes: Of the data.
    """
    reached: dict[Setting, float] = {}
    best = None
    for scale in SCALES:
        rates = [Setting(own.learning_rate * scale * factor, own.epochs) for factor in RATES]
        reached |= {each: found for each in rates if (found := known.get(each)) is not None}
        best = max(reached, key=lambda each: reached[each], default=None)
        if wanted := tuple(each for each in rates if each not in known):
            return Tuned(best, wanted)
        if best is not None and is_higher(reached[best], 1 / classes, images):
            break
    for _ in range(MOST_EXTENSIONS):
        if best is None:
            break
        longer = Setting(best.learning_rate, math.ceil(LENGTHEN * best.epochs))
        if longer not in known:
            return Tuned(best, (longer,))
        before, after = known[best], known[longer]
        assert before is not None
        if after is None or not is_higher(after, before, images):
            break
        best = longer
    return Tuned(best, ())


def is_higher(after: float, before: float, images: int) -> bool:
    """Whether one accuracy is higher than another by more than one standard error of their
    difference, taken as shares of independent draws.

    On the same images the error is smaller than that; but one seed's luck comes to it.
    """
    error = math.sqrt((after * (1 - after) + before * (1 - before)) / images)
    return after - before > error
