"""One training recipe for every network and data set; proxy and full differ in budget only.

The recipe: the whole train part lies on the device; each pass goes through it in a new order,
in batches, shifted or cropped and mirrored at random; cross-entropy with label smoothing; SGD
with Nesterov momentum 0.9, weight decay on convolutions and linear layers only; the learning
rate rises linearly over the first fifth of all steps and falls linearly to zero. Layout is
channels last. On CUDA the forward pass runs in bfloat16; on the CPU in float32, large batches
in parts on several threads (:mod:`collabdesign.evaluate.replicas`).

Same seed, data, recipe and thread count on the CPU: bit-identical weights (with dropout: on
one thread), also when the training was interrupted and went on from its checkpoint. Each epoch
draws from generators seeded by (seed, epoch), so a checkpoint needs no generator state.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from collabdesign.design.requirements import Training
from collabdesign.errors import TrainingFailed
from collabdesign.evaluate.accuracy import evaluate
from collabdesign.evaluate.augment import (
    channel_values,
    largest_shift,
    normalise,
    take_cropped,
    take_shifted,
)
from collabdesign.evaluate.checkpoint import seal, unseal
from collabdesign.evaluate.data.images import ImageData
from collabdesign.evaluate.memory import is_out_of_memory
from collabdesign.evaluate.plan import TrainingPlan, plan_training
from collabdesign.evaluate.replicas import Replicas
from collabdesign.evaluate.seeds import seed_of, seeded
from collabdesign.files import write_bytes

_MOMENTUM = 0.9
_WARM_UP = 0.2


@dataclass(frozen=True)
class EpochRecord:
    """One pass.

    Attributes:
        epoch: Counted from 1.
        loss: Mean training loss of the pass, with label smoothing and augmentation.
        accuracy: Share of the select part that is right after the pass, 0 to 1.
        seconds: Of the pass and its evaluation.
    """

    epoch: int
    loss: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Pass:
    """What a training yields after each pass.

    Attributes:
        record: How it went.
        checkpoint: To go on from later, where that was asked for and the pass is new.
        repeated: Whether it was made before the interruption.
    """

    record: EpochRecord
    checkpoint: bytes | None = None
    repeated: bool = False


@dataclass(frozen=True)
class TrainingResult:
    """A finished training.

    Attributes:
        accuracy: Share of the select part that is right after the last pass, 0 to 1.
        curve: One record a pass.
        steps: Steps of the optimiser.
        images: Images that went through the network in training, repeats included.
        seconds: Of all passes with their evaluations, those before an interruption included.
    """

    accuracy: float
    curve: tuple[EpochRecord, ...]
    steps: int
    images: int
    seconds: float


def _never() -> bool:
    return False


def passes(
    network: nn.Module,
    data: ImageData,
    recipe: Training,
    *,
    seed: int,
    device: torch.device,
    resume: bytes | None = None,
    keep: bool = False,
    should_stop: Callable[[], bool] = _never,
) -> Generator[Pass, None, None]:
    """Train a network in place, one pass over the train part at each step of the iterator.

    After each pass the network is on the device, in evaluation mode. Closing the iterator
    early leaves the network as it is after the pass that was yielded last.

    Args:
        network: Takes float32 [N, C, R, R], gives logits [N, classes]; see
            :func:`collabdesign.evaluate.initialise.initialise`.
        data: On the same device.
        recipe: The budget and what the plan leaves open; see
            :func:`collabdesign.evaluate.plan.plan_training`.
        seed: Of the order of the images and their augmentation.
        device: Where to train.
        resume: A checkpoint of this very training: its passes are yielded again at once, then
            the training goes on. Damaged and foreign bytes are ignored.
        keep: Whether each pass comes with a checkpoint.
        should_stop: Asked after every step; when true, the iterator ends within the pass.

    Raises:
        TrainingFailed: ``diverged`` (the loss or a weight is no finite number) or
            ``out_of_memory``.
    """
    try:
        yield from _passes(network, data, recipe, seed, device, resume, keep, should_stop)
        return
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    # Outside of the handler: there the error would keep the tensors of the step alive.
    network.zero_grad()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    batch = plan_training(len(data.train_labels), recipe).batch
    raise TrainingFailed(
        "out_of_memory",
        f"a training step must fit the memory of {device}, got none left at batch {batch}",
    )


def train(
    network: nn.Module,
    data: ImageData,
    recipe: Training,
    *,
    seed: int,
    device: torch.device,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> TrainingResult:
    """All of :func:`passes`, with the checkpoint in a file.

    Args:
        network: Is trained in place; afterwards it is on the device, in evaluation mode.
        data: On the same device.
        recipe: As for :func:`passes`.
        seed: Likewise.
        device: Where to train.
        checkpoint: Written after each pass, and gone on from where it belongs to this very
            training; a damaged or foreign file is written over. It is left in place.
        on_epoch: Called after each new pass, when its checkpoint is written; may raise to stop.

    Raises:
        TrainingFailed: As for :func:`passes`.
    """
    resume = None
    if checkpoint is not None:
        with suppress(OSError):
            resume = checkpoint.read_bytes()
    keep = checkpoint is not None
    curve: list[EpochRecord] = []
    for done in passes(network, data, recipe, seed=seed, device=device, resume=resume, keep=keep):
        curve.append(done.record)
        if done.repeated:
            continue
        if checkpoint is not None and done.checkpoint is not None:
            write_bytes(checkpoint, done.checkpoint)
        if on_epoch is not None:
            on_epoch(done.record)
    plan = plan_training(len(data.train_labels), recipe)
    return TrainingResult(
        accuracy=curve[-1].accuracy,
        curve=tuple(curve),
        steps=plan.steps,
        images=plan.steps * plan.batch,
        seconds=sum(record.seconds for record in curve),
    )


def _passes(
    network: nn.Module,
    data: ImageData,
    recipe: Training,
    seed: int,
    device: torch.device,
    resume: bytes | None,
    keep: bool,
    should_stop: Callable[[], bool],
) -> Generator[Pass, None, None]:
    images, labels = data.train_images, data.train_labels
    plan = plan_training(len(labels), recipe)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = list(network.parameters())
    # No decay of normalisation and biases: it makes them smaller, not simpler.
    groups: list[dict[str, Any]] = [
        {
            "params": [weight for weight in parameters if weight.ndim > 1],
            "weight_decay": recipe.weight_decay,
        },
        {"params": [weight for weight in parameters if weight.ndim <= 1]},
    ]
    optimizer = torch.optim.SGD(
        groups,
        lr=plan.learning_rate,
        momentum=_MOMENTUM,
        nesterov=True,
        fused=True,
    )
    mean, std = channel_values(data.mean, device), channel_values(data.std, device)
    identity = identity_of(network, data, recipe, plan, seed) if keep or resume else ""
    curve: list[EpochRecord] = []
    if resume and (state := unseal(resume, identity, device)):
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        network.eval()
        curve = [EpochRecord(**record) for record in state["curve"]]
        for record in curve:
            yield Pass(record, repeated=True)

    def loss_of(
        replica: nn.Module, chosen: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        pictures = normalise(_augmented(data, images, chosen, generator), mean, std)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = replica(pictures)
        return F.cross_entropy(
            logits.float(),
            labels[chosen],
            label_smoothing=recipe.label_smoothing,
            reduction="sum",
        )

    replicas = Replicas(network, plan.batch, device)
    for epoch in range(len(curve) + 1, plan.epochs + 1):
        started = time.perf_counter()
        total_loss = torch.zeros((), device=device)
        seeds = [seed_of(f"epoch {epoch} part {part}", seed) for part in range(len(replicas))]
        with seeded(seeds, device) as generators, replicas.running():
            order = torch.randperm(len(labels), device=device, generator=generators[0])
            for number in range(plan.steps_per_epoch):
                chosen = order[number * plan.batch : (number + 1) * plan.batch]
                total_loss += replicas.backward(loss_of, chosen, generators)
                step = (epoch - 1) * plan.steps_per_epoch + number
                for group in optimizer.param_groups:
                    group["lr"] = plan.learning_rate * one_cycle((step + 0.5) / plan.steps)
                optimizer.step()
                optimizer.zero_grad()
                if should_stop():
                    return
        # Once not finite a sum stays so: one look a pass finds it, without waiting at each step.
        mean_loss = total_loss.item() / plan.steps_per_epoch
        if not math.isfinite(mean_loss) or not _all_finite(network):
            raise TrainingFailed(
                "diverged", f"the loss must stay a finite number, got {mean_loss} in pass {epoch}"
            )
        accuracy = evaluate(
            network, data.select_images, data.select_labels, mean=data.mean, std=data.std
        )
        record = EpochRecord(epoch, mean_loss, accuracy, time.perf_counter() - started)
        curve.append(record)
        checkpoint = None
        if keep:
            state = {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "curve": [asdict(past) for past in curve],
            }
            checkpoint = seal(state, identity)
        yield Pass(record, checkpoint)


def one_cycle(progress: float) -> float:
    """Share of the highest learning rate when this share of the steps is done.

    Rises linearly from 0 to 1 over the first fifth, then falls linearly to 0.
    """
    return min(progress / _WARM_UP, (1 - progress) / (1 - _WARM_UP))


def _augmented(
    data: ImageData, images: torch.Tensor, chosen: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    if data.augment == "crop":
        return take_cropped(images, chosen, generator, resolution=data.resolution, flip=data.flip)
    shift = largest_shift(data.resolution) if data.augment == "shift" else 0
    flip = data.flip and data.augment != "none"
    return take_shifted(images, chosen, generator, shift=shift, flip=flip)


def _all_finite(network: nn.Module) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values())


def identity_of(
    network: nn.Module, data: ImageData, recipe: Training, plan: TrainingPlan, seed: int
) -> str:
    """What a checkpoint must have been written by to be gone on from.

    Everything that a training depends on but the code: all keys of the recipe, what it comes to
    on this data, the network's weights at the start, the seed, the images and how they are shown.
    """
    start = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        start.update(f"{name} {tuple(tensor.shape)} ".encode())
        start.update(tensor.cpu().contiguous().numpy().tobytes())
    shown = {
        each.name: value
        for each in fields(data)
        if not isinstance(value := getattr(data, each.name), torch.Tensor)
    }
    what = {
        "start": start.hexdigest(),
        "data": shown,
        "plan": asdict(plan),
        # How many trainings there are does not change any of them.
        "recipe": recipe.model_dump(mode="json", exclude={"seeds"}),
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
