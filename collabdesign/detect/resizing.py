"""How a picture of any size becomes the network's input, in torch and in ONNX alike."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F
from torch.onnx.operators import shape_as_tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from collabdesign.detect.examples import Target


class Resizing(GeneralizedRCNNTransform):  # type: ignore[misc]
    """torchvision's, with sides rounded to the nearest pixel.

    torchvision rounds them down, in torch from double and in ONNX from single precision: a side
    that comes to 256 pixels is 255 in one of the two, and all boxes lie elsewhere.
    """

    def resize(
        self, image: torch.Tensor, target: Target | None = None
    ) -> tuple[torch.Tensor, Target | None]:
        """Bring the shorter side to ``min_size``, the longer one to ``max_size`` at most.

        Args:
            image: float32 [3, height, width].
            target: As :func:`collabdesign.detect.examples.example` gives it.
        """
        before = image.shape[-2:]
        # While it is traced the size is computed as every other tensor is, for any picture.
        shape: torch.Tensor = shape_as_tensor(image)[-2:].float()
        scale = torch.minimum(self.min_size[-1] / shape.min(), self.max_size / shape.max())
        sides = torch.floor(shape * scale + 0.5).to(torch.int64)
        is_traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
        size: list[Any] = list(sides) if is_traced else sides.tolist()
        image = F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0]
        if target is not None:
            masks = F.interpolate(target["masks"][:, None].float(), size=size)[:, 0].byte()
            boxes = resize_boxes(target["boxes"], before, image.shape[-2:])
            target = {**target, "boxes": boxes, "masks": masks}
        return image, target
