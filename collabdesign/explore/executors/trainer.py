"""One task's training as events: what every executor runs, wherever it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from collabdesign.errors import TrainingFailed
from collabdesign.evaluate.build import build
from collabdesign.evaluate.checkpoint import load_weights, weights_bytes
from collabdesign.evaluate.data.images import ImageData
from collabdesign.evaluate.inherit import inherit
from collabdesign.evaluate.initialise import initialise
from collabdesign.evaluate.network import AttoNet, build_network
from collabdesign.evaluate.training import passes
from collabdesign.explore.executors.executor import Event, Failed, PassEnded, Task, Trained


def events_of(
    task: Task,
    data: ImageData,
    device: torch.device,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Train as the iterator is advanced; ends without a last event where it is stopped.

    ``should_stop`` is asked after each step.

    Raises:
        InputError: The weights that it is to begin with are damaged.
    """
    network = build(task.network)
    initialise(network, task.seed)
    if task.start is not None:
        assert isinstance(network, AttoNet)
        trained = build_network(task.start.architecture)
        load_weights(trained, task.start.weights)
        inherit(network, task.architecture, trained, task.start.architecture)
    try:
        for each in passes(
            network,
            data,
            task.recipe,
            seed=task.seed,
            device=device,
            resume=task.checkpoint,
            keep=task.keeps,
            should_stop=should_stop,
        ):
            yield PassEnded(task.key, each.record, each.checkpoint)
    except TrainingFailed as error:
        yield Failed(task.key, f"{error.reason}: {error}")
        return
    if not should_stop():
        keeps = task.keeps or task.keeps_weights
        yield Trained(task.key, weights_bytes(network) if keeps else None)
