"""Trainings as tasks of an existing Ray cluster (``pip install collabdesign[ray]``).

Ray schedules, brings the images to each node once and notices what dies; a training that was lost
is submitted again by the driver. Nothing but the package has to be on the nodes.
"""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from collabdesign.errors import InputError
from collabdesign.evaluate.data.images import ImageData
from collabdesign.evaluate.data.shared import as_arrays, from_arrays
from collabdesign.explore.executors.executor import Died, Event, Task
from collabdesign.explore.executors.trainer import events_of
from collabdesign.explore.faults import death_of, reported

_ANSWER_SECONDS = 10.0

# Between two looks at how large the cluster is.
_LOOK_SECONDS = 2.0


class ClusterExecutor:
    """Trains on the GPUs of a cluster, or on its CPUs where it has none or these are asked for.

    Args:
        address: Of the cluster, or ``auto``.
        device: ``cpu``, ``cuda``, or what the cluster has where None.
        threads: CPU threads of each training.
        workers: Trainings at a time, as many as fit where None.

    Raises:
        InputError: Ray is not installed, or no cluster answers there.
    """

    def __init__(
        self, data: ImageData, address: str, device: str | None, threads: int, workers: int | None
    ) -> None:
        try:
            import ray
        except ImportError:
            raise InputError(
                "--cluster needs Ray, and it is not installed: pip install collabdesign[ray]"
            ) from None
        self._ray = ray
        try:
            _require_answer(address)
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"--cluster must name a Ray cluster that runs, got {address}: {error}; "
                "`ray start --head` begins one"
            ) from None
        self._unit = "CPU" if device == "cpu" or not self._has("GPU") else "GPU"
        if device is not None and device.startswith("cuda") and self._unit == "CPU":
            ray.shutdown()
            raise InputError(f"the cluster {address} has no GPU for --device {device}")
        self._share = threads if self._unit == "CPU" else 1
        self._threads = threads
        self._workers = workers
        needs = {f"num_{self._unit.lower()}s": self._share}
        self._train = ray.remote(num_returns="streaming", max_retries=0, **needs)(_train)
        self._images = ray.put(as_arrays(data))
        self._looked = 0.0
        self._slots = 1
        self._running: dict[Any, str] = {}  # streams of events to keys
        self._nodes: dict[str, str] = {}  # keys to the nodes that train them

    @property
    def slots(self) -> int:
        """As many trainings as the cluster has room for, at least one."""
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._looked = time.monotonic()
            self._slots = max(1, int(self._has(self._unit) // self._share))
        return min(self._slots, self._workers or self._slots)

    @property
    def ahead(self) -> int:
        """See :class:`Executor`, like the other methods."""
        return 1 + self.slots // 4

    @property
    def where(self) -> str:
        return f"a Ray cluster, {self.slots} trainings at a time on {self._unit}s"

    def submit(self, task: Task) -> None:
        # In a list, so that Ray hands over where the images are, and a process looks once.
        stream = self._train.remote(task, [self._images], self._unit, self._threads)
        self._running[stream] = task.key

    def wait(self, seconds: float) -> Event | None:
        if not self._running:
            return None
        ready, _ = self._ray.wait(
            list(self._running), num_returns=1, timeout=seconds, fetch_local=False
        )
        return self._next(ready[0]) if ready else None

    def cancel(self, key: str) -> None:
        for stream, running in list(self._running.items()):
            if running == key:
                del self._running[stream]
                self._ray.cancel(stream)

    def close(self) -> None:
        for stream in self._running:
            with suppress(Exception):  # whatever has become of the cluster
                self._ray.cancel(stream, force=True)
        self._running.clear()
        self._ray.shutdown()

    def _has(self, unit: str) -> float:
        return float(self._ray.cluster_resources().get(unit, 0))

    def _next(self, stream: Any) -> Event | None:
        errors = self._ray.exceptions
        key = self._running[stream]
        try:
            event: Event | str = self._ray.get(next(stream))
        except StopIteration:
            del self._running[stream]
            return None
        except errors.RayTaskError:
            raise  # an error of ours
        except errors.RayError as error:
            del self._running[stream]
            how = f"a process on {self._nodes.get(key, 'the cluster')}"
            return Died(key, f"{how} ({type(error).__name__})", self._fault(key))
        if isinstance(event, str):
            self._nodes[key] = event
            return None
        return event

    def _fault(self, key: str) -> str:
        """What the process of a training died of by itself, as its node knows, if that lives."""
        node = self._nodes.pop(key, None)
        alive = {each["NodeID"] for each in self._ray.nodes() if each["Alive"]}
        if node not in alive:
            return ""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node, soft=False)
        look = self._ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(_death)
        try:
            return str(self._ray.get(look.remote(key), timeout=30))
        except (self._ray.exceptions.RayError, TimeoutError):
            return ""


def _require_answer(address: str) -> None:
    """Ray itself tries for minutes where nobody listens.

    Raises:
        OSError: Nobody does.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()


# -- on a node --------------------------------------------------------------------------------


def _train(task: Task, images: list[Any], unit: str, threads: int) -> Iterator[Event | str]:
    """The node's name, then the events of a training."""
    import ray

    yield ray.get_runtime_context().get_node_id()
    # Ray has faults written into its own log.
    with reported(_report(task.key), take_over=True):
        torch.set_num_threads(threads)
        device = torch.device("cuda" if unit == "GPU" else "cpu")
        yield from events_of(task, _images_on(images[0], device), device)


@lru_cache(maxsize=1)
def _images_on(reference: Any, device: torch.device) -> ImageData:
    import ray

    return from_arrays(ray.get(reference), device)


def _report(key: str) -> Path:
    import ray

    job = ray.get_runtime_context().get_job_id()
    return Path(tempfile.gettempdir()) / f"collabdesign-{job}-{key.replace(' ', '-')}.faults"


def _death(key: str) -> str:
    return death_of(_report(key))[1]
