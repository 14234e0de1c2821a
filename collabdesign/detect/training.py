"""The training of a detector: one flat loop, which goes on from its last epoch after any end.

Every epoch draws from generators seeded by (seed, epoch), torch's global ones included, from which
torchvision samples: the same seed, data and thread count on the CPU give the same weights, also
where the training was interrupted. Pictures are read again in each epoch.

A body with a member's weights keeps the statistics of its normalisation: a batch of a few pictures
tells them worse than the member's training did.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torchvision.models.detection import MaskRCNN

from collabdesign.detect.coco import CocoImage
from collabdesign.detect.evaluation import average_precision, detect_all
from collabdesign.detect.examples import Target, example
from collabdesign.detect.recipe import optimizer_of, rate_at
from collabdesign.detect.requirements import DetectionTraining
from collabdesign.detect.trained import BEST
from collabdesign.errors import InputError, TrainingFailed
from collabdesign.evaluate.checkpoint import seal, unseal, weights_bytes
from collabdesign.evaluate.memory import is_out_of_memory
from collabdesign.evaluate.seeds import seed_of, seeded
from collabdesign.files import write_bytes, write_text

CHECKPOINT, CURVE = "checkpoint.pt", "curve.jsonl"

# Of the gradient; above it a step is shortened. Losses of fresh heads may jump.
_LARGEST_NORM = 10.0


@dataclass(frozen=True)
class Epoch:
    """One pass.

    Attributes:
        epoch: Counted from 1.
        loss: Mean of the pass, summed over the parts.
        box_ap: Of the held-out part after it, 0 to 1.
        mask_ap: Likewise; by it the best weights are chosen.
        mask_ap50: At IoU 0.50.
        seconds: Of the pass and its evaluation.
    """

    epoch: int
    loss: float
    box_ap: float
    mask_ap: float
    mask_ap50: float
    seconds: float


@dataclass(frozen=True)
class DetectProgress:
    """Where a training stands.

    Attributes:
        epoch: Under way, from 1.
        epochs: In all.
        step: Done in this epoch; all of them while the held-out part is looked at.
        steps: Of an epoch.
        loss: Of the last step; None before the first.
        mask_ap: The best so far on the held-out part; None before the first epoch's end.
        seconds_left: About; None where nothing is known.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None
    mask_ap: float | None
    seconds_left: float | None


@dataclass(frozen=True)
class Task:
    """What a detector is trained on and chosen by.

    Attributes:
        learn: Pictures to learn from.
        held: The held-out part.
        categories: By label, from 1.
        flip: Whether pictures may be mirrored.
        keeps_statistics: Whether the body's normalisation keeps its statistics.
        identity: Of the data, the detector and the training, for the checkpoint.
    """

    learn: Sequence[CocoImage]
    held: Sequence[CocoImage]
    categories: Sequence[tuple[int, str]]
    flip: bool
    keeps_statistics: bool
    identity: str


def train_detector(
    network: MaskRCNN,
    task: Task,
    written: DetectionTraining,
    run_dir: Path,
    device: torch.device,
    on_progress: Callable[[DetectProgress], None] = lambda at: None,
) -> tuple[Epoch, ...]:
    """Train in place; after each epoch ``best.pt`` and the checkpoint in the folder are whole.

    The folder has passed :func:`require_own_checkpoint`.

    Returns:
        Every epoch, those of earlier processes included.

    Raises:
        TrainingFailed: ``diverged`` or ``out_of_memory``.
    """
    try:
        return _train(network, task, written, run_dir, device, on_progress)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    raise TrainingFailed(
        "out_of_memory",
        f"a training step must fit the memory of {device}, got none left at batch {written.batch}",
    )


def _train(
    network: MaskRCNN,
    task: Task,
    written: DetectionTraining,
    run_dir: Path,
    device: torch.device,
    on_progress: Callable[[DetectProgress], None],
) -> tuple[Epoch, ...]:
    network.to(device)
    optimizer = optimizer_of(network, written)
    curve = _resumed(run_dir, task.identity, network, optimizer, device)
    steps = math.ceil(len(task.learn) / written.batch)
    for epoch in range(len(curve) + 1, written.epochs + 1):
        started, total = time.perf_counter(), 0.0
        best = max((each.mask_ap for each in curve), default=None)

        def tell(step: int, loss: float | None) -> None:
            on_progress(
                DetectProgress(
                    epoch,  # noqa: B023  # told within the epoch
                    written.epochs,
                    step,
                    steps,
                    loss,
                    best,  # noqa: B023
                    _seconds_left(curve, written.epochs),
                )
            )

        tell(0, None)
        with seeded([seed_of(f"detection epoch {epoch}", written.seed)], device) as (generator,):
            _training_mode(network, task.keeps_statistics)
            for step, (pictures, targets) in enumerate(
                _batches(task, written.batch, device, generator)
            ):
                at = (epoch - 1) * steps + step
                for group in optimizer.param_groups:
                    group["lr"] = rate_at(at, steps * written.epochs, written)
                loss = _step(network, optimizer, pictures, targets)
                total += loss
                tell(step + 1, loss)
        found = detect_all(network, task.held, device)
        precision = average_precision(task.held, task.categories, found)
        curve.append(
            Epoch(
                epoch,
                total / steps,
                precision.box["ap"] or 0.0,
                precision.mask_ap,
                precision.mask["ap50"] or 0.0,
                time.perf_counter() - started,
            )
        )
        # A kill between the two repeats this epoch, which gives the same weights again.
        if best is None or precision.mask_ap > best:
            write_bytes(run_dir / BEST, weights_bytes(network))
        state = {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "curve": [asdict(each) for each in curve],
        }
        write_bytes(run_dir / CHECKPOINT, seal(state, task.identity))
        lines = (json.dumps(asdict(each)) + "\n" for each in curve)
        write_text(run_dir / CURVE, "".join(lines))
    return tuple(curve)


def require_own_checkpoint(run_dir: Path, identity: str) -> None:
    """Refuse a folder with the checkpoint of another training, before anything is written there.

    Raises:
        InputError: It has one.
    """
    path = run_dir / CHECKPOINT
    if path.is_file() and unseal(path.read_bytes(), identity, torch.device("cpu")) is None:
        raise InputError(
            f"the checkpoint must be of this training, and {path} is of another, of other "
            "pictures, or damaged: choose another --run-dir, or remove the file to begin anew"
        )


def _resumed(
    run_dir: Path,
    identity: str,
    network: MaskRCNN,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> list[Epoch]:
    """Go on from the folder's checkpoint, where there is one; the epochs before it."""
    path = run_dir / CHECKPOINT
    if not path.is_file():
        return []
    state = unseal(path.read_bytes(), identity, device)
    assert state is not None, "a folder with another training's checkpoint is refused before"
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return [Epoch(**each) for each in state["curve"]]


def _training_mode(network: MaskRCNN, keeps_statistics: bool) -> None:
    network.train()
    if keeps_statistics:
        for module in network.backbone.body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


def _batches(
    task: Task, batch: int, device: torch.device, generator: torch.Generator
) -> Iterator[tuple[list[torch.Tensor], list[Target]]]:
    """The pictures in a new order, some of them mirrored."""
    count = len(task.learn)
    order = torch.randperm(count, device=device, generator=generator).tolist()
    mirrored = torch.rand(count, device=device, generator=generator).tolist()
    for first in range(0, count, batch):
        chosen = order[first : first + batch]
        examples = [
            example(task.learn[each], is_mirrored=task.flip and mirrored[each] < 0.5)
            for each in chosen
        ]
        yield (
            [picture.to(device) for picture, _ in examples],
            [{key: each.to(device) for key, each in target.items()} for _, target in examples],
        )


def _step(
    network: MaskRCNN,
    optimizer: torch.optim.Optimizer,
    pictures: list[torch.Tensor],
    targets: list[Target],
) -> float:
    loss = torch.stack(list(network(pictures, targets).values())).sum()
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingFailed(
            "diverged",
            f"the loss must be a finite number, got {value}: lower training.learning_rate",
        )
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), _LARGEST_NORM)
    optimizer.step()
    return value


def _seconds_left(curve: Sequence[Epoch], epochs: int) -> float | None:
    if not curve:
        return None
    return (epochs - len(curve)) * sum(each.seconds for each in curve) / len(curve)
