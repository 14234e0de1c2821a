"""A trained detector as an ONNX model, run by onnxruntime and held against torch.

The model takes one picture, float32 3 x height x width from 0 to 1, of any size, and does all that
the detector does: resizing, normalisation, non-maximum suppression, the pasting of masks. It gives
boxes, labels, scores, and masks as probabilities N x 1 x height x width.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torchvision.models.detection import MaskRCNN

from collabdesign.detect.coco import hold_out
from collabdesign.detect.coco_file import read_coco
from collabdesign.detect.evaluation import detect, found_in
from collabdesign.detect.examples import picture_tensor, to_tensor
from collabdesign.detect.found import Found
from collabdesign.detect.reading import load_detection
from collabdesign.detect.requirements import REQUIREMENTS
from collabdesign.detect.segmentation import iou_of, require_pycocotools
from collabdesign.detect.trained import load_detector_network
from collabdesign.errors import InputError
from collabdesign.evaluate.data.pictures import read_picture
from collabdesign.evaluate.latency import missing_packages
from collabdesign.evaluate.onnx_file import OPSET
from collabdesign.evaluate.onnx_session import session_of
from collabdesign.files import write_bytes

MODEL = "model.onnx"

_INPUT, _OUTPUTS = "image", ("boxes", "labels", "scores", "masks")

MOST_PIXELS, LEAST_IOU = 0.5, 0.99
"""A side of a box may differ by so many pixels; a mask is the same above this IoU."""

# What rounding makes of a score. An object that is left out by so little is not missed.
_SCORE_ROUNDING = 1e-3


@dataclass(frozen=True)
class Parity:
    """How far two forms of a detector agree.

    Attributes:
        pictures: Compared on so many.
        objects: That both found.
        unmatched: Found by one alone with this label and, to half a pixel, this box.
        largest_difference: Of a side of a box in pixels, of those that both found.
        lowest_iou: Of two masks, likewise.
    """

    pictures: int
    objects: int
    unmatched: int
    largest_difference: float
    lowest_iou: float

    @property
    def agrees(self) -> bool:
        """Whether they are the same but for rounding."""
        return (
            self.unmatched == 0
            and self.largest_difference <= MOST_PIXELS
            and self.lowest_iou > LEAST_IOU
        )


@dataclass(frozen=True)
class ExportedDetector:
    """An ONNX file and how it compares.

    Attributes:
        file: Where it lies.
        bytes: Its size.
        parity: With torch on real pictures.
    """

    file: Path
    bytes: int
    parity: Parity


def export(
    folder: Path,
    pictures: Sequence[Path] = (),
    *,
    most: int = 20,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> ExportedDetector:
    """Write ``model.onnx`` into a detector's folder, run it, and compare.

    Args:
        folder: Of a trained detector.
        pictures: To compare on (default: of the held-out part).
        most: So many of them.
        on_progress: Told the pictures compared and their total.

    Raises:
        InputError: A package is missing, the folder holds no detector, or there are no pictures.
    """
    require_pycocotools()
    if missing := missing_packages(["onnx", "onnxruntime"]):
        raise InputError(
            f"to export needs {' and '.join(missing)}, which is not installed: "
            "pip install 'collabdesign[export]'"
        )
    network, description = load_detector_network(folder)
    shown = _pictures(folder, pictures)[:most]
    content = onnx_model(network, shown[0]())
    write_bytes(folder / MODEL, content)
    session = session_of(content)
    limit, pairs = description.detector.detections, []
    for index, show in enumerate(shown, start=1):
        picture = show()
        pairs.append((detect(network, picture, torch.device("cpu")), run_model(session, picture)))
        on_progress(index, len(shown))
    return ExportedDetector(folder / MODEL, len(content), parity(pairs, limit))


def onnx_model(network: MaskRCNN, picture: torch.Tensor) -> bytes:
    """The network as an ONNX model for one picture of any size.

    Args:
        network: Is left in evaluation mode.
        picture: float32 [3, height, width], from 0 to 1: a real one, in which something is found.
    """
    sides = {1: "height", 2: "width"}
    axes = {name: {0: "objects"} for name in _OUTPUTS}
    axes["masks"] |= {2: "height", 3: "width"}
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder) / MODEL
        # torchvision's detectors warn of what tracing fixes, and say themselves what they do about
        # it; the exporter that is to replace this one does not take them.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            ([picture],),
            path,
            input_names=[_INPUT],
            output_names=list(_OUTPUTS),
            dynamic_axes={_INPUT: sides, **axes},
            opset_version=OPSET,
            dynamo=False,
        )
        return path.read_bytes()


def run_model(session: Any, picture: torch.Tensor) -> list[Found]:
    """What the model finds in a picture."""
    answer = session.run(list(_OUTPUTS), {_INPUT: picture.numpy()})
    return found_in(*(torch.from_numpy(each) for each in answer))


def parity(pairs: Sequence[tuple[Sequence[Found], Sequence[Found]]], limit: int) -> Parity:
    """Compare what two forms found, picture by picture.

    Objects are paired by label and nearest box. One that the other form lacks is passed over where
    its score is, to rounding, the lowest that counts.

    Args:
        pairs: What either found in each picture.
        limit: Most objects of a picture.
    """
    objects = unmatched = 0
    largest, lowest = 0.0, 1.0
    for ours, theirs in pairs:
        left = list(theirs)
        lonely = []
        for each in ours:
            alike = [other for other in left if other.label == each.label]
            nearest = min(alike, key=lambda other: _difference(each, other), default=None)
            if nearest is None or _difference(each, nearest) > MOST_PIXELS:
                lonely.append(each)
                continue
            left.remove(nearest)
            objects += 1
            largest = max(largest, _difference(each, nearest))
            lowest = min(lowest, iou_of(each.mask, nearest.mask))
        for all_found, lacking in ((ours, lonely), (theirs, left)):
            is_full = len(all_found) >= limit
            floor = min((each.score for each in all_found), default=0.0) if is_full else _FLOOR
            unmatched += sum(each.score > floor + _SCORE_ROUNDING for each in lacking)
    return Parity(len(pairs), objects, unmatched, largest, lowest)


# torchvision's: an object of a lower score is not given.
_FLOOR = 0.05


def _difference(one: Found, other: Found) -> float:
    return max(abs(a - b) for a, b in zip(one.box, other.box, strict=True))


def _pictures(folder: Path, asked: Sequence[Path]) -> list[Callable[[], torch.Tensor]]:
    """What shows each picture: those asked for, or the held-out part of the run."""
    if asked:
        return [
            lambda path=path: to_tensor(np.asarray(read_picture(path).image.convert("RGB")))  # type: ignore[misc]
            for path in asked
        ]
    data = load_detection(folder / REQUIREMENTS, check_places=False).data
    _, held_out = hold_out(read_coco({"train": data.train})["train"].images, data.select)
    return [lambda image=image: picture_tensor(image) for image in held_out]  # type: ignore[misc]
