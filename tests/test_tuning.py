"""How the setting of a baseline is chosen, on made-up accuracies."""

from __future__ import annotations

import math

import pytest

from collabdesign.deliver.tuning import (
    MOST_EXTENSIONS,
    RATES,
    RULE,
    Setting,
    Tuned,
    is_higher,
    tune,
)

OWN = Setting(0.4, 10)
HALF, DOUBLE = Setting(0.2, 10), Setting(0.8, 10)
IMAGES, CLASSES = 1000, 10


def test_three_rates_first() -> None:
    assert tune(OWN, {}, IMAGES, CLASSES) == Tuned(None, (OWN, HALF, DOUBLE))
    assert tune(OWN, {HALF: 0.5}, IMAGES, CLASSES) == Tuned(HALF, (OWN, DOUBLE))


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [
        ((0.7, 0.6, 0.65), OWN),
        ((0.7, 0.71, 0.65), HALF),
        ((0.7, 0.6, 0.9), DOUBLE),
        ((0.7, 0.7, 0.7), OWN),  # of equal ones the recipe's own
        ((None, 0.6, 0.6), HALF),
    ],
)
def test_the_best_rate_goes_on(accuracies: tuple[float | None, ...], best: Setting) -> None:
    known = dict(zip((OWN, HALF, DOUBLE), accuracies, strict=True))
    # From the start, with half as many epochs more.
    assert tune(OWN, known, IMAGES, CLASSES) == Tuned(best, (Setting(best.learning_rate, 15),))


def test_smaller_rates_where_none_trains() -> None:
    known: dict[Setting, float | None] = {OWN: None, HALF: 0.11, DOUBLE: None}  # 0.1 is guessing
    tenth = tuple(Setting(OWN.learning_rate * 0.1 * factor, 10) for factor in RATES)
    assert tune(OWN, known, IMAGES, CLASSES) == Tuned(HALF, tenth)
    known |= {tenth[0]: 0.6, tenth[1]: 0.5, tenth[2]: None}
    best = tenth[0]
    assert tune(OWN, known, IMAGES, CLASSES) == Tuned(best, (Setting(best.learning_rate, 15),))


def test_no_rate_trains() -> None:
    known: dict[Setting, float | None] = {}
    while wanted := tune(OWN, known, IMAGES, CLASSES).wanted:
        known |= dict.fromkeys(wanted)
    assert len(known) == 9
    assert tune(OWN, known, IMAGES, CLASSES) == Tuned(None, ())


def test_longer_while_it_helps() -> None:
    known: dict[Setting, float | None] = {OWN: 0.7, HALF: 0.6, DOUBLE: 0.6}
    # One standard error at 0.7 is about sqrt(2 x 0.21 / 1000) = 0.0205.
    assert tune(OWN, {**known, Setting(0.4, 15): 0.71}, IMAGES, CLASSES) == Tuned(OWN, ())
    assert tune(OWN, {**known, Setting(0.4, 15): None}, IMAGES, CLASSES) == Tuned(OWN, ())
    known[Setting(0.4, 15)] = 0.73
    assert tune(OWN, known, IMAGES, CLASSES) == Tuned(Setting(0.4, 15), (Setting(0.4, 23),))
    known[Setting(0.4, 23)] = 0.74
    assert tune(OWN, known, IMAGES, CLASSES) == Tuned(Setting(0.4, 15), ())


def test_longer_has_an_end() -> None:
    known: dict[Setting, float | None] = {OWN: 0.15, HALF: 0.0, DOUBLE: 0.0}
    for extension in range(1, MOST_EXTENSIONS + 1):
        (wanted,) = tune(OWN, known, IMAGES, CLASSES).wanted
        known[wanted] = 0.15 + 0.2 * extension
    assert tune(OWN, known, IMAGES, CLASSES) == Tuned(Setting(0.4, 53), ())  # 15, 23, 35, 53


def test_higher_by_more_than_a_standard_error() -> None:
    error = math.sqrt((0.9 * 0.1 + 0.91 * 0.09) / 1000)
    assert error > 0.01
    assert not is_higher(0.91, 0.9, 1000)
    assert is_higher(0.91, 0.9, 10_000)
    assert not is_higher(0.9, 0.9, 10**9)
    assert not is_higher(0.8, 0.9, 10**9)


def test_the_rule_says_how_often() -> None:
    assert f"at most {MOST_EXTENSIONS} times" in RULE
