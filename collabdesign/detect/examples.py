"""A picture with its objects as the tensors that torchvision's detectors take."""

from __future__ import annotations

import numpy as np
import torch

from collabdesign.detect.coco import CocoImage, coco_picture
from collabdesign.detect.segmentation import pixels_of

Target = dict[str, torch.Tensor]


def picture_tensor(image: CocoImage) -> torch.Tensor:
    """float32 [3, height, width], from 0 to 1."""
    return to_tensor(np.asarray(coco_picture(image)))


def to_tensor(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> torch.Tensor:
    """From [height, width, 3], 0 to 255."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


def example(image: CocoImage, *, is_mirrored: bool) -> tuple[torch.Tensor, Target]:
    """A picture, and what is to be found in it.

    Args:
        image: Its crowds and what has no pixels are left out.
        is_mirrored: Whether left becomes right.

    Returns:
        As :func:`picture_tensor`, and boxes float32 [N, 4], labels int64 [N], masks uint8
        [N, height, width].
    """
    picture, objects = picture_tensor(image), image.learnt
    boxes = torch.tensor([each.box for each in objects], dtype=torch.float32).reshape(-1, 4)
    masks = torch.zeros((len(objects), image.height, image.width), dtype=torch.uint8)
    for index, each in enumerate(objects):
        masks[index] = torch.from_numpy(pixels_of(each.mask))
    if is_mirrored:
        picture, masks = picture.flip(-1), masks.flip(-1)
        boxes[:, [0, 2]] = image.width - boxes[:, [2, 0]]
    labels = torch.tensor([each.label for each in objects], dtype=torch.int64)
    return picture, {"boxes": boxes, "labels": labels, "masks": masks}
