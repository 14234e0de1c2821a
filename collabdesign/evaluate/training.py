"""The training of one network: the same loop for every recipe, proxy or full.

The whole train part lies on the device; each pass goes through it in a new order, in batches, or
through the part of it that proxies are trained on.
What is done with a batch says :mod:`collabdesign.evaluate.recipe`, how many there are
:mod:`collabdesign.evaluate.plan`. Layout is channels last. On CUDA the forward pass runs in
bfloat16; on the CPU in float32, large batches in parts on several threads
(:mod:`collabdesign.evaluate.replicas`).

Same seed, data, recipe and thread count on the CPU: bit-identical weights (with dropout: on
one thread), also when the training was interrupted and went on from its checkpoint. Each epoch
draws from generators seeded by (seed, epoch), so a checkpoint needs no generator state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from collabdesign.design.requirements import Training
from collabdesign.errors import TrainingFailed
from collabdesign.evaluate.accuracy import evaluate
from collabdesign.evaluate.augment import channel_values, normalise
from collabdesign.evaluate.checkpoint import seal, unseal
from collabdesign.evaluate.data.images import ImageData
from collabdesign.evaluate.data.split import proxy_part
from collabdesign.evaluate.identity import identity_of
from collabdesign.evaluate.memory import is_out_of_memory
from collabdesign.evaluate.plan import plan_training, trained_images
from collabdesign.evaluate.recipe import RECIPES, last_passes
from collabdesign.evaluate.replicas import Replicas
from collabdesign.evaluate.seeds import seed_of, seeded


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
        checkpoint: To go on from later; None where it was not asked for, or the pass was made
            before the interruption.
    """

    record: EpochRecord
    checkpoint: bytes | None = None


def passes(
    network: nn.Module,
    data: ImageData,
    recipe: Training,
    *,
    seed: int,
    device: torch.device,
    resume: bytes | None = None,
    keep: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Pass, None, None]:
    """Train a network in place, one pass over its images at each step of the iterator.

    After each pass the network is on the device, in evaluation mode. Closing the iterator
    early leaves the network as it is after the pass that was yielded last.

    Args:
        network: Takes float32 [N, C, R, R], gives logits [N, classes].
        data: On the device.
        recipe: As a person wrote it; see :func:`collabdesign.evaluate.plan.plan_training`.
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


def _passes(
    network: nn.Module,
    data: ImageData,
    written: Training,
    seed: int,
    device: torch.device,
    resume: bytes | None,
    keep: bool,
    should_stop: Callable[[], bool],
) -> Iterator[Pass]:
    recipe, labels = RECIPES[written.recipe], data.train_labels
    plan = plan_training(len(labels), written)
    part = _part(data, written, device)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    identity = identity_of(network, data, written, plan, seed) if keep or resume else ""
    optimizer = recipe.optimizer(network, written, plan.learning_rate)
    average = recipe.average(network) if recipe.average else None
    teacher = recipe.teacher(data, device).eval() if recipe.teacher else None
    saved: dict[str, Any] = {"network": network, "optimizer": optimizer}
    if average is not None:
        saved["average"] = average
    evaluated: nn.Module = network if average is None else average.module
    curve: list[EpochRecord] = []
    if resume and (state := unseal(resume, identity, device)):
        for name, each in saved.items():
            each.load_state_dict(state[name])
        network.eval()
        curve = [EpochRecord(**record) for record in state["curve"]]
        if len(curve) == plan.epochs and average is not None:
            network.load_state_dict(average.module.state_dict())
        yield from map(Pass, curve)

    mean, std = channel_values(data.mean, device), channel_values(data.std, device)

    def logits_of(shown: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits: torch.Tensor = shown(pictures)
        return logits.float()

    augment = recipe.augment

    def loss_of(
        replica: nn.Module, chosen: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        pictures = normalise(augment(data, chosen, generator), mean, std)
        teacher_logits = None
        if teacher is not None:
            with torch.no_grad():
                teacher_logits = logits_of(teacher, pictures)
        return recipe.loss(logits_of(replica, pictures), labels[chosen], teacher_logits, written)

    replicas = Replicas(network, plan.batch, device)
    for epoch in range(len(curve) + 1, plan.epochs + 1):
        started = time.perf_counter()
        if recipe.last_augment and epoch > plan.epochs - last_passes(plan.epochs):
            augment = recipe.last_augment
        total_loss = torch.zeros((), device=device)
        seeds = [seed_of(f"epoch {epoch} part {part}", seed) for part in range(len(replicas))]
        with seeded(seeds, device) as generators, replicas.training():
            order = torch.randperm(len(part), device=device, generator=generators[0])
            order = part[order]
            for number in range(plan.steps_per_epoch):
                chosen = order[number * plan.batch : (number + 1) * plan.batch]
                total_loss += replicas.backward(loss_of, chosen, generators)
                step = (epoch - 1) * plan.steps_per_epoch + number
                for group in optimizer.param_groups:
                    group["lr"] = plan.learning_rate * recipe.schedule((step + 0.5) / plan.steps)
                optimizer.step()
                optimizer.zero_grad()
                if average is not None:
                    average.update_parameters(network)
                if should_stop():
                    return
        # Once not finite a sum stays so: one look a pass finds it, without waiting at each step.
        mean_loss = total_loss.item() / plan.steps_per_epoch
        if not math.isfinite(mean_loss) or not _all_finite(network):
            raise TrainingFailed(
                "diverged", f"the loss must stay a finite number, got {mean_loss} in pass {epoch}"
            )
        accuracy = evaluate(
            evaluated, data.select_images, data.select_labels, mean=data.mean, std=data.std
        )
        network.eval()
        record = EpochRecord(epoch, mean_loss, accuracy, time.perf_counter() - started)
        curve.append(record)
        checkpoint = None
        if keep:
            state = {name: each.state_dict() for name, each in saved.items()}
            checkpoint = seal({**state, "curve": [asdict(past) for past in curve]}, identity)
        if epoch == plan.epochs and average is not None:
            network.load_state_dict(average.module.state_dict())
        yield Pass(record, checkpoint)


def _part(data: ImageData, recipe: Training, device: torch.device) -> torch.Tensor:
    """Indices of the images to train on."""
    count = trained_images(len(data.train_labels), recipe)
    if count == len(data.train_labels):
        return torch.arange(count, device=device)
    indices = proxy_part(data.train_labels.cpu().numpy(), count, len(data.class_names))
    return torch.from_numpy(indices).to(device)


def _all_finite(network: nn.Module) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values())
