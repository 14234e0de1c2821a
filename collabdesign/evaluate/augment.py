"""Random shifts, crops and mirror images of a whole batch at once, on the device.

Every image of a batch draws its own shift or crop. A batch is taken straight out of the data
set: choosing the images, shifting and mirroring them is one gather.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional as F

# A crop covers this share of the picture's area, and is up to a third wider or higher than a
# square. Milder than the usual 0.08: a small network is short of capacity, not of data.
_CROP_AREA = (0.35, 1.0)
_CROP_ASPECT = (3 / 4, 4 / 3)

_SHIFT_SHARE = 8
"""Shifts reach up to this part of the side, at least one pixel: 4 at 32, 1 at 8."""


def largest_shift(resolution: int) -> int:
    """Pixels that a random shift moves an image by at most, in each direction."""
    return max(1, round(resolution / _SHIFT_SHARE))


def channel_values(values: Sequence[float], device: torch.device) -> torch.Tensor:
    """One number a channel as a tensor [1, C, 1, 1]; made once, since CUDA waits for it."""
    return torch.tensor(values, device=device).view(1, -1, 1, 1)


def normalise(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """From pixels of 0 to 255 to what the network takes: ``(x / 255 - mean) / std``.

    Args:
        images: [N, C, H, W], uint8 or float.
        mean: [1, C, 1, 1], pixels running from 0 to 1; see :func:`channel_values`.
        std: Likewise.
    """
    return images.float().div_(255).sub_(mean).div_(std)


def take_shifted(
    images: torch.Tensor, indices: torch.Tensor, generator: torch.Generator, shift: int, flip: bool
) -> torch.Tensor:
    """Take images, each shifted by up to ``shift`` pixels, half of them mirrored.

    What a shift uncovers is filled with the mirror image of what lies beside it, as by
    reflection padding.

    Args:
        images: uint8 [N, C, S, S], channels last in memory; so is the result [B, C, S, S], on the
            device of the indices.
        indices: int64 [B], of the images to take.
        generator: Of the same device.
        shift: Below S, 0 for none.
        flip: Whether to mirror left to right, with probability one half.
    """
    side, device, batch = images.shape[-1], indices.device, len(indices)
    offsets = torch.randint(-shift, shift + 1, (2, batch, 1), device=device, generator=generator)
    places = torch.arange(side, device=device)
    rows, columns = _reflect(places + offsets[0], side), _reflect(places + offsets[1], side)
    if flip:
        mirrored = torch.rand((batch, 1), device=device, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    images, indices = _at_hand(images, indices)
    # One index a pixel instead of three: a third of the time.
    lines = (indices[:, None] * side + rows) * side
    pixels = images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])
    taken = pixels.index_select(0, (lines[:, :, None] + columns[:, None, :]).flatten())
    return taken.view(batch, side, side, -1).permute(0, 3, 1, 2)


def take_cropped(
    images: torch.Tensor,
    indices: torch.Tensor,
    generator: torch.Generator,
    *,
    resolution: int,
    flip: bool,
) -> torch.Tensor:
    """Take a random crop of each image, resized to a square, half of them mirrored.

    Args:
        images: uint8 [N, C, S, S], channels last in memory.
        indices: int64 [B], of the images to take.
        generator: Of the device of the indices.
        resolution: Side of the result in pixels.
        flip: Whether to mirror left to right, with probability one half.

    Returns:
        float32 [B, C, resolution, resolution] from 0 to 255, channels last in memory, bilinear
        without antialiasing (with S of 8/7 ``resolution`` a crop shrinks by at most a seventh).
    """
    device, batch = indices.device, len(indices)
    draws = torch.rand((5, batch), device=device, generator=generator)
    area = _CROP_AREA[0] + (_CROP_AREA[1] - _CROP_AREA[0]) * draws[0]
    low, high = (math.log(aspect) for aspect in _CROP_ASPECT)
    aspect = (low + (high - low) * draws[1]).exp()
    # Half sides and centre in units of half the picture, which runs from -1 to 1.
    half_width = (area * aspect).sqrt().clamp(max=1)
    half_height = (area / aspect).sqrt().clamp(max=1)
    centre_x = (2 * draws[2] - 1) * (1 - half_width)
    centre_y = (2 * draws[3] - 1) * (1 - half_height)
    if flip:
        half_width = torch.where(draws[4] < 0.5, -half_width, half_width)
    steps = (torch.arange(resolution, device=device) * 2 + 1) / resolution - 1
    x = centre_x[:, None] + half_width[:, None] * steps
    y = centre_y[:, None] + half_height[:, None] * steps
    square = (batch, resolution, resolution)
    grid = torch.stack((x[:, None, :].expand(square), y[:, :, None].expand(square)), dim=-1)
    images, indices = _at_hand(images, indices)
    pictures = images[indices].float()
    taken = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    return taken.contiguous(memory_format=torch.channels_last)


def _at_hand(images: torch.Tensor, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and indices into them on one device: of images that lie elsewhere only those that are
    to be taken go there."""
    if images.device == indices.device:
        return images, indices
    taken = images[indices.to(images.device)].contiguous(memory_format=torch.channels_last)
    return taken.to(indices.device), torch.arange(len(indices), device=indices.device)


def _reflect(places: torch.Tensor, side: int) -> torch.Tensor:
    """Bring positions outside of 0 to side - 1 back by mirroring at the edge pixels."""
    return (side - 1) - ((side - 1) - places.abs()).abs()
