"""A detection from its file to its result: check everything, train, judge once.

The run folder::

    requirements.yaml   as it was understood, all defaults written out
    detector.json       all that is needed to build the detector again, without weights
    curve.jsonl         an epoch a line
    checkpoint.pt       to go on from
    best.pt             weights of the epoch with the highest mask AP on the held-out part
    result.json         what these come to on val, read once, and what they cost
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from collabdesign.detect.bodies import WEIGHTS, Body, read_body
from collabdesign.detect.coco import CocoData, hold_out
from collabdesign.detect.coco_file import read_coco
from collabdesign.detect.cost import detector_cost
from collabdesign.detect.detector import Detector
from collabdesign.detect.evaluation import Precision, average_precision, detect_all
from collabdesign.detect.network import build_detector
from collabdesign.detect.reading import load_detection
from collabdesign.detect.requirements import REQUIREMENTS, DetectionRequirements, resolved_yaml
from collabdesign.detect.segmentation import require_pycocotools
from collabdesign.detect.trained import Description, load_detector_network, write_description
from collabdesign.detect.training import (
    DetectProgress,
    Epoch,
    Task,
    require_own_checkpoint,
    train_detector,
)
from collabdesign.errors import InputError, Problem
from collabdesign.evaluate.device import choose_device
from collabdesign.explore.environment import environment
from collabdesign.explore.lock import DETECTING, held
from collabdesign.files import write_json, write_text

RESULT = "result.json"


@dataclass(frozen=True)
class PicturesRead:
    """How many pictures of a part were looked at."""

    what: str
    done: int
    total: int


DetectEvent = PicturesRead | DetectProgress


@dataclass(frozen=True)
class DetectionResult:
    """What a training came to.

    Attributes:
        run_dir: Its folder.
        curve: Of its epochs, on the held-out part.
        best_epoch: Whose weights are kept.
        pictures: Learnt from, held out, judged on.
        precision: On val.
    """

    run_dir: Path
    curve: tuple[Epoch, ...]
    best_epoch: int
    pictures: tuple[int, int, int]
    precision: Precision


def train(
    requirements: DetectionRequirements,
    run_dir: Path,
    *,
    device: str | None = None,
    on_event: Callable[[DetectEvent], None] = lambda event: None,
) -> DetectionResult:
    """Train a detector and judge it on val; goes on where an earlier process ended.

    Raises:
        InputError: Something of the files, the pictures or the folder is not as it must be.
        TrainingFailed: It cannot be trained.
    """
    require_pycocotools()
    where = choose_device(device)
    detector, body = requirements.detector.own(), read_body(requirements.detector.body)
    detector.maps_of(body.maps)
    _refuse_changes(run_dir, requirements)
    data = read_coco(
        {"train": requirements.data.train, "val": requirements.data.val},
        lambda part, done, total: on_event(
            PicturesRead(f"reading pictures of {part}", done, total)
        ),
    )
    task = _task(requirements, detector, body, data["train"])
    require_own_checkpoint(run_dir, task.identity)
    with held(run_dir, DETECTING):
        write_text(run_dir / REQUIREMENTS, resolved_yaml(requirements))
        description = Description(detector, body, data["train"].categories)
        write_description(run_dir, description)
        network = build_detector(
            detector,
            body,
            description.classes,
            seed=requirements.training.seed,
            regions=requirements.training.regions,
        )
        curve = train_detector(network, task, requirements.training, run_dir, where, on_event)
        return _judged(run_dir, task, curve, data, where, on_event)


def evaluate(
    run_dir: Path,
    *,
    annotations: Path | None = None,
    images: Path | None = None,
    device: str | None = None,
    on_event: Callable[[DetectEvent], None] = lambda event: None,
) -> Precision:
    """Judge the trained detector in a folder on its val file, or on another one.

    Raises:
        InputError: The folder holds no trained detector, or the pictures cannot be used.
    """
    require_pycocotools()
    where = choose_device(device)
    network, description = load_detector_network(run_dir)
    files = load_detection(run_dir / REQUIREMENTS, check_places=False).data.val
    changes = {"annotations": annotations, "images": images}
    files = files.model_copy(update={key: each for key, each in changes.items() if each})
    (data,) = read_coco(
        {"val": files},
        lambda part, done, total: on_event(
            PicturesRead(f"reading pictures of {part}", done, total)
        ),
        categories=description.categories,
    ).values()
    found = detect_all(
        network.to(where),
        data.images,
        where,
        lambda done, total: on_event(PicturesRead("judging val", done, total)),
    )
    return average_precision(data.images, description.categories, found)


def _task(
    requirements: DetectionRequirements, detector: Detector, body: Body, train_data: CocoData
) -> Task:
    if len(train_data.images) < 2:
        raise InputError(
            f"data.train must have at least 2 pictures, one to hold out, got "
            f"{len(train_data.images)}"
        )
    learn, held_out = hold_out(train_data.images, requirements.data.select)
    for part, images in (("to learn from", learn), ("held out", held_out)):
        if not any(image.learnt for image in images):
            raise InputError(
                f"the pictures {part} must show objects, got none in {len(images)} of data.train"
            )
    said = {
        "requirements": requirements.model_dump(mode="json", exclude={"data": {"train", "val"}}),
        "detector": asdict(detector),
        "body": body.architecture.id,
        "weights": body.folder and hashlib.sha256((body.folder / WEIGHTS).read_bytes()).hexdigest(),
        "data": train_data.fingerprint,
    }
    return Task(
        learn=learn,
        held=held_out,
        categories=train_data.categories,
        flip=requirements.data.flip,
        keeps_statistics=body.folder is not None,
        identity=hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest(),
    )


def _refuse_changes(run_dir: Path, requirements: DetectionRequirements) -> None:
    path = run_dir / REQUIREMENTS
    if not path.is_file():
        return
    try:
        changes = load_detection(path, check_places=False).changes(requirements)
    except InputError:
        raise InputError(
            f"the run folder must be new or of a detector, and {run_dir} is of something else: "
            "choose another --run-dir"
        ) from None
    if changes:
        raise InputError(
            [
                Problem(f"{run_dir} was begun with another value of {each}", "choose another "
                        "--run-dir, or ask for what it was begun with")
                for each in changes
            ]
        )  # fmt: skip


def _judged(
    run_dir: Path,
    task: Task,
    curve: tuple[Epoch, ...],
    data: dict[str, CocoData],
    where: torch.device,
    on_event: Callable[[DetectEvent], None],
) -> DetectionResult:
    """Judge the best weights on val, once: an earlier result is read, not made again."""
    best = max(curve, key=lambda each: each.mask_ap)
    pictures = len(task.learn), len(task.held), len(data["val"].images)
    path = run_dir / RESULT
    if path.is_file():
        written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if written["identity"] == task.identity and written["val"] == data["val"].fingerprint:
            precision = Precision(written["box"], written["mask"])
            return DetectionResult(run_dir, curve, best.epoch, pictures, precision)
    network, description = load_detector_network(run_dir)
    started = time.perf_counter()
    found = detect_all(
        network.to(where),
        data["val"].images,
        where,
        lambda done, total: on_event(PicturesRead("judging val", done, total)),
    )
    seconds = time.perf_counter() - started
    precision = average_precision(data["val"].images, description.categories, found)
    cost = detector_cost(
        "detector", description.detector, description.body, classes=description.classes
    )
    write_json(
        path,
        {
            "identity": task.identity,
            "best_epoch": best.epoch,
            "held_out_mask_ap": best.mask_ap,
            "pictures": dict(zip(("learnt", "held_out", "val"), pictures, strict=True)),
            "box": precision.box,
            "mask": precision.mask,
            "seconds_a_picture": seconds / len(data["val"].images),
            "training_seconds": sum(each.seconds for each in curve),
            "macs": cost.macs,
            "params": cost.params,
            "train": data["train"].fingerprint,
            "val": data["val"].fingerprint,
            "environment": environment(where),
        },
    )
    return DetectionResult(run_dir, curve, best.epoch, pictures, precision)
