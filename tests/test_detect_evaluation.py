"""Average precision and parity: what each number is, on squares drawn here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collabdesign.detect.coco import CocoImage, CocoObject
from collabdesign.detect.evaluation import average_precision
from collabdesign.detect.export import Parity, parity
from collabdesign.detect.found import Found
from collabdesign.detect.segmentation import pixels_of, rle_of


def square(left: int, top: int, side: int = 40) -> np.ndarray[Any, Any]:
    pixels = np.zeros((100, 100), dtype=np.uint8)
    pixels[top : top + side, left : left + side] = 1
    return pixels


def truth(*squares: tuple[int, int], is_crowd: bool = False) -> CocoImage:
    objects = tuple(
        CocoObject(
            label=1,
            box=(left, top, left + 40, top + 40),
            written_box=(left, top, 40, 40),
            mask=rle_of(square(left, top)),
            area=1600,
            is_crowd=is_crowd,
            has_pixels=True,
        )
        for left, top in squares
    )
    return CocoImage(5, "a.png", Path("a.png"), 100, 100, objects)


def seen(left: int, top: int, score: float, side: int = 40) -> Found:
    mask = rle_of(square(left, top, side))
    return Found(1, score, (left, top, left + side, top + side), mask)


ONE = ((18, "dog"),)


def test_what_is_found_whole_is_one() -> None:
    found = average_precision(
        [truth((0, 0), (50, 50))], ONE, [[seen(0, 0, 0.9), seen(50, 50, 0.8)]]
    )
    for numbers in (found.box, found.mask):
        assert (numbers["ap"], numbers["ap50"], numbers["ap75"]) == (1, 1, 1)
        # 40x40 pixels is between 32x32 and 96x96.
        assert (numbers["ap_small"], numbers["ap_medium"], numbers["ap_large"]) == (None, 1, None)


def test_one_of_two_is_half() -> None:
    found = average_precision([truth((0, 0), (50, 50))], ONE, [[seen(0, 0, 0.9)]])
    # Recall up to 0.5 has precision 1: 51 of the 101 points of pycocotools.
    assert found.mask["ap"] == pytest.approx(51 / 101)


def test_the_overlap_that_counts() -> None:
    # 40x32 of 40x40 pixels: an IoU of 0.8 counts at 0.50 to 0.80, 7 of 10.
    mask = square(0, 0)
    mask[32:] = 0
    found = average_precision([truth((0, 0))], ONE, [[Found(1, 0.9, (0, 0, 40, 32), rle_of(mask))]])
    assert found.box["ap"] == pytest.approx(0.7)
    assert found.mask["ap"] == pytest.approx(0.7)


def test_nothing_found_and_nothing_there() -> None:
    assert average_precision([truth((0, 0))], ONE, [[]]).mask["ap"] == 0
    nothing = average_precision([truth()], ONE, [[seen(0, 0, 0.9)]])
    assert nothing.mask["ap"] is None and nothing.mask_ap == 0


def test_what_lies_in_a_crowd_is_not_held_against_it() -> None:
    image = truth((0, 0))
    crowd = truth((50, 50), is_crowd=True).objects
    both = replace(image, objects=(*image.objects, *crowd))
    found = [[seen(50, 50, 0.95), seen(0, 0, 0.9)]]
    assert average_precision([both], ONE, found).mask["ap"] == pytest.approx(1)
    assert average_precision([image], ONE, found).mask["ap"] == pytest.approx(0.5)


# -- parity --------------------------------------------------------------------------------------


def test_parity_is_told_object_by_object() -> None:
    one, two = seen(0, 0, 0.9), seen(50, 50, 0.6)
    near = replace(two, box=(50.25, 50, 90, 90))
    # Whatever their order.
    assert parity([([one, two], [near, one])], 10) == Parity(1, 2, 0, 0.25, 1.0)
    assert parity([([one, two], [one])], 10).unmatched == 1
    assert parity([([one], [one, two])], 10).unmatched == 1
    assert parity([([one], [replace(one, label=2)])], 10).unmatched == 2
    far = replace(one, box=(0.6, 0, 40, 40))
    assert not parity([([one], [far])], 10).agrees
    smaller = replace(one, mask=seen(0, 0, 0.9, side=39).mask)
    assert parity([([one], [smaller])], 10).lowest_iou == pytest.approx(39 * 39 / 1600)
    assert not parity([([one], [smaller])], 10).agrees
    # At the lowest score that counts, rounding decides whether an object is told.
    assert parity([([one, replace(two, score=0.0505)], [one])], 10).unmatched == 0
    assert parity([([one, two], [one, replace(two, score=0.5995, box=(0, 0, 9, 9))])], 2).agrees


def test_masks_are_pixels_again() -> None:
    assert np.array_equal(pixels_of(rle_of(square(3, 9))), square(3, 9))
