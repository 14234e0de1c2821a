"""How good a detector is: average precision as COCO defines it, by pycocotools."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import torch
from torchvision.models.detection import MaskRCNN

from collabdesign.detect.coco import CocoImage
from collabdesign.detect.examples import picture_tensor
from collabdesign.detect.found import Found
from collabdesign.detect.segmentation import area_of, rle_of

# A mask is where its probability is above this.
THRESHOLD = 0.5

MEASURES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
"""The first of what pycocotools tells: mean over IoU 0.50 to 0.95, at 0.50, at 0.75, and of objects
under 32x32, under 96x96 and of at least 96x96 pixels."""


@dataclass(frozen=True)
class Precision:
    """Average precision over the categories, 0 to 1; None where there is nothing to find.

    Attributes:
        box: By the names of ``MEASURES``.
        mask: Likewise.
    """

    box: Mapping[str, float | None]
    mask: Mapping[str, float | None]

    @property
    def mask_ap(self) -> float:
        """Mean over the IoUs; 0 where there is nothing to find."""
        return self.mask["ap"] or 0.0


def detect(network: MaskRCNN, picture: torch.Tensor, device: torch.device) -> list[Found]:
    """What a network finds in a picture, the surest first.

    Args:
        network: In evaluation mode, on the device.
        picture: float32 [3, height, width], from 0 to 1.
        device: Of the network.
    """
    with torch.inference_mode():
        (answer,) = network([picture.to(device)])
    return found_in(*(answer[key].cpu() for key in ("boxes", "labels", "scores", "masks")))


def found_in(
    boxes: torch.Tensor, labels: torch.Tensor, scores: torch.Tensor, masks: torch.Tensor
) -> list[Found]:
    """As the network answers: masks are probabilities [N, 1, height, width]."""
    return [
        Found(int(label), float(score), tuple(box), rle_of(mask[0].numpy() > THRESHOLD))
        for box, label, score, mask in zip(boxes.tolist(), labels, scores, masks, strict=True)
    ]


def detect_all(
    network: MaskRCNN,
    images: Sequence[CocoImage],
    device: torch.device,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[list[Found]]:
    """What a network finds in each picture."""
    network.eval()
    every = []
    for image in images:
        every.append(detect(network, picture_tensor(image), device))
        if on_progress is not None:
            on_progress(len(every), len(images))
    return every


def average_precision(
    images: Sequence[CocoImage],
    categories: Sequence[tuple[int, str]],
    found: Sequence[Sequence[Found]],
) -> Precision:
    """Hold what was found against what is there.

    Args:
        images: The pictures with their objects.
        categories: By label, from 1.
        found: In each picture.
    """
    from pycocotools.coco import COCO

    truth, answer = COCO(), COCO()
    with redirect_stdout(io.StringIO()):
        for each, annotations in (
            (truth, _true_annotations(images, categories)),
            (answer, _found_annotations(images, categories, found)),
        ):
            each.dataset = {
                "images": [
                    {"id": number, "width": image.width, "height": image.height}
                    for number, image in enumerate(images, start=1)
                ],
                "categories": [{"id": each, "name": name} for each, name in categories],
                # From 1: pycocotools takes the id 0 for none.
                "annotations": [{**row, "id": n} for n, row in enumerate(annotations, start=1)],
            }
            each.createIndex()
        return Precision(*(_judge(truth, answer, kind) for kind in ("bbox", "segm")))


def _true_annotations(
    images: Sequence[CocoImage], categories: Sequence[tuple[int, str]]
) -> Iterator[dict[str, Any]]:
    for number, image in enumerate(images, start=1):
        for each in image.objects:
            yield {
                "image_id": number,
                "category_id": categories[each.label - 1][0],
                "bbox": list(each.written_box),
                "segmentation": dict(each.mask),
                "area": each.area,
                "iscrowd": int(each.is_crowd),
            }


def _found_annotations(
    images: Sequence[CocoImage],
    categories: Sequence[tuple[int, str]],
    found: Sequence[Sequence[Found]],
) -> Iterator[dict[str, Any]]:
    for number, (_, objects) in enumerate(zip(images, found, strict=True), start=1):
        for each in objects:
            yield {
                "image_id": number,
                "category_id": categories[each.label - 1][0],
                "bbox": each.written_box,
                "segmentation": dict(each.mask),
                "score": each.score,
                "iscrowd": 0,
            }


def _judge(truth: Any, answer: Any, kind: str) -> dict[str, float | None]:
    from pycocotools.cocoeval import COCOeval

    for row in answer.dataset["annotations"]:
        _, _, width, height = row["bbox"]
        row["area"] = width * height if kind == "bbox" else area_of(row["segmentation"])
    judge = COCOeval(truth, answer, kind)
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    numbers = judge.stats[: len(MEASURES)]
    # -1 stands for: no such object.
    return {
        name: None if number < 0 else float(number)
        for name, number in zip(MEASURES, numbers, strict=True)
    }
