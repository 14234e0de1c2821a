"""Shifts, mirrors, crops and normalisation of training images."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from collabdesign.evaluate.augment import largest_shift, normalise, take_cropped, take_shifted


def noise(count: int, side: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(
        0, 256, (count, side, side, channels), dtype=torch.uint8, generator=generator
    )
    return pixels.permute(0, 3, 1, 2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_shift_of_zero_is_the_identity() -> None:
    images, chosen = noise(20, 8), torch.tensor([3, 1, 19, 3])
    taken = take_shifted(images, chosen, generator(), shift=0, flip=False)
    assert torch.equal(taken, images[chosen])
    assert taken.is_contiguous(memory_format=torch.channels_last)


def test_mirror_only_mirrors_and_does_so_half_of_the_time() -> None:
    images, chosen = noise(400, 6), torch.arange(400)
    taken = take_shifted(images, chosen, generator(), shift=0, flip=True)
    same = (taken == images).flatten(1).all(1)
    mirrored = (taken == images.flip(3)).flatten(1).all(1)
    assert torch.equal(same, ~mirrored)
    assert 150 < int(same.sum()) < 250


@settings(max_examples=30, deadline=None)
@given(
    side=st.integers(4, 12),
    shift=st.integers(1, 3),
    channels=st.sampled_from([1, 3]),
    flip=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_image_is_a_shifted_version_of_its_own(
    side: int, shift: int, channels: int, flip: bool, seed: int
) -> None:
    images = noise(6, side, channels, seed)
    chosen = torch.tensor([5, 0, 2, 2])
    taken = take_shifted(images, chosen, generator(seed), shift=shift, flip=flip)
    padded = nn.functional.pad(images.float(), (shift,) * 4, mode="reflect").to(torch.uint8)
    for index, image in zip(chosen.tolist(), taken, strict=True):
        possible = [
            padded[index, :, y : y + side, x : x + side]
            for y in range(2 * shift + 1)
            for x in range(2 * shift + 1)
        ]
        if flip:
            possible += [candidate.flip(2) for candidate in possible]
        assert any(torch.equal(image, candidate) for candidate in possible)


def test_shifts_reach_every_offset_evenly() -> None:
    # One column of steps: the first value tells the offset.
    ramp = torch.arange(8, dtype=torch.uint8).view(1, 1, 8, 1).expand(1, 1, 8, 8)
    taken = take_shifted(
        ramp, torch.zeros(5000, dtype=torch.int64), generator(), shift=2, flip=False
    )
    counts = torch.bincount(taken[:, 0, 4, 0].long(), minlength=7)
    assert counts[:2].sum() == 0
    assert counts[2:].min() > 900  # 1000 each, deviation 28


def test_largest_shift() -> None:
    assert [largest_shift(side) for side in (8, 32, 64)] == [1, 4, 8]


def test_crops_stay_inside_and_keep_the_layout() -> None:
    images, chosen = noise(30, 16), torch.arange(30)
    taken = take_cropped(images, chosen, generator(), resolution=14, flip=True)
    assert taken.shape == (30, 3, 14, 14)
    assert taken.dtype == torch.float32
    assert taken.is_contiguous(memory_format=torch.channels_last)
    flat = torch.full((2, 3, 16, 16), 130, dtype=torch.uint8)
    crops = take_cropped(flat, torch.tensor([0, 1]), generator(), resolution=14, flip=True)
    assert crops.sub(130).abs().max() < 1e-3  # Nothing from outside of the picture.


def test_a_crop_of_a_ramp_is_a_straight_part_of_it() -> None:
    ramp = (torch.arange(32) * 8).to(torch.uint8).view(1, 1, 1, 32).expand(1, 1, 32, 32)
    chosen = torch.zeros(200, dtype=torch.int64)
    for flip in (False, True):
        rows = take_cropped(ramp, chosen, generator(), resolution=28, flip=flip)[:, 0, 14]
        inner = rows[:, 1:-1]  # The outermost may touch the picture's edge.
        slopes = inner.diff(dim=1)
        assert (slopes - slopes[:, :1]).abs().max() < 0.05
        rising = slopes[:, 0] > 0
        # The width of a crop: from sqrt(0.35 * 3 / 4) = 0.51 of the picture to all of it.
        widths = slopes[:, 0].abs() * 28 / (8 * 32)
        assert 0.51 <= widths.min() < 0.6 and 0.95 < widths.max() <= 1.001
        assert rising.all() if not flip else 70 < int(rising.sum()) < 130


def test_normalise_by_arithmetic() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    assert normalise(
        images, torch.tensor(0.2), torch.tensor(0.4)
    ).flatten().tolist() == pytest.approx([-0.5, 0, 2])
