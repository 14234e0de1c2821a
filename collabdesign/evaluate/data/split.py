"""Which pictures of a source are to train on, to choose by and to test on.

The split depends on the labels alone, never on a search's seed: the test part is put aside
first (where the source has none of its own), then the subset of ``train_images`` is taken,
then the select part; of what is left, the train part, proxies may be trained on a part. Each
step keeps the proportions of the classes. No picture is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from collabdesign.design.draft import proportional
from collabdesign.design.sources import DEFAULT_TEST, Data
from collabdesign.errors import InputError
from collabdesign.evaluate.data.source import Integers
from collabdesign.evaluate.data.sources import Sources

# The split's own seed: one data set is split the same way in every search.
_SPLIT_SEED = 1903_07209


class Split(NamedTuple):
    """Indices of the parts.

    Attributes:
        train: To learn from, into the train source; ``select``, to choose by, likewise.
        test: Into the test source where that is one of its own, else into the train source.
    """

    train: Integers
    select: Integers
    test: Integers


def split(sources: Sources, data: Data) -> Split:
    """Share the pictures out; opens none.

    Raises:
        InputError: A class has too few images, or the source fewer than are asked for.
    """
    labels, names = sources.train.labels, sources.train.class_names
    everything = np.arange(len(labels))
    if sources.test is not None:
        test, chosen = np.arange(len(sources.test.labels)), everything
    else:
        assert not isinstance(data.test, Path)
        fraction = DEFAULT_TEST if data.test is None else data.test
        count = round(fraction * len(everything))
        test, chosen = stratified_split(labels, everything, count, names, "data.test")
    if data.train_images is not None and data.train_images != len(chosen):
        if data.train_images > len(chosen):
            raise InputError(
                f"data.train_images must be at most the {len(chosen)} images there are, "
                f"got {data.train_images}"
            )
        chosen, _ = stratified_split(labels, chosen, data.train_images, names, "data.train_images")
    count = round(data.select * len(chosen))
    select, train = stratified_split(labels, chosen, count, names, "data.select")
    return Split(train, select, test)


def stratified_split(
    labels: Integers, indices: Integers, count: int, class_names: Sequence[str], what: str
) -> tuple[Integers, Integers]:
    """Draw a part in the proportions of the classes, the same part each time.

    Every class leaves at least one image in both halves. What proportional shares leave
    over goes to the classes with the largest remainders.

    Args:
        labels: Of all images of the source.
        indices: Of the images to split, into ``labels``.
        count: Images to draw.
        class_names: For the message.
        what: The key that asks for this split, for the message.

    Returns:
        The indices drawn and those left, each sorted.

    Raises:
        InputError: A class has too few images, or ``count`` is fewer than the classes.
    """
    groups = [indices[labels[indices] == label] for label in range(len(class_names))]
    sizes = zip(class_names, map(len, groups), strict=True)
    if small := [f"{name} ({size})" for name, size in sizes if size < 2]:
        raise InputError(
            f"{what} needs at least two images of each class to split, got {', '.join(small)}: "
            "add images or take out the class"
        )
    if not len(groups) <= count <= len(indices) - len(groups):
        raise InputError(
            f"{what} must draw between {len(groups)} and {len(indices) - len(groups)} of "
            f"{len(indices)} images, so that every class is in both parts, got {count}"
        )
    lengths = [len(group) for group in groups]
    shares = proportional(count, lengths, [length - 1 for length in lengths])
    rng = np.random.default_rng(_SPLIT_SEED)
    halves = [
        np.split(rng.permutation(group), [share])
        for group, share in zip(groups, shares, strict=True)
    ]
    drawn, left = (np.sort(np.concatenate(half)) for half in zip(*halves, strict=True))
    return drawn, left


def proxy_part(labels: Integers, count: int, classes: int) -> Integers:
    """Draw the images that proxies are trained on, in the proportions of the classes.

    The same ones each time, at least one of each class.

    Args:
        labels: Of the train part, which has every class.
        count: Images to draw, from ``classes`` to all of them.
        classes: How many there are.

    Returns:
        Their indices into ``labels``, sorted.
    """
    assert classes <= count <= len(labels), (classes, count, len(labels))
    lengths = np.bincount(labels, minlength=classes).tolist()
    groups = np.split(np.argsort(labels, kind="stable"), np.cumsum(lengths)[:-1])
    rng = np.random.default_rng(_SPLIT_SEED)
    shares = proportional(count, lengths, lengths)
    drawn = [rng.permutation(group)[:share] for group, share in zip(groups, shares, strict=True)]
    return np.sort(np.concatenate(drawn))
