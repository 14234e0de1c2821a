"""On what a run ran: the versions and the machine that its numbers come from."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

# Chosen on a busy two-core machine, where two threads were slower at every size tried.
_ONE_THREAD_MACS = 1_000_000

# What a worker may need beside the shared images: the libraries' own memory, and a network of
# some million MACs with its batch.
_WORKER_BYTES = 1 << 30

# A small network leaves a GPU idle while Python prepares the next layers; a second process
# fills the gaps, and a third finds few.
_WORKERS_ON_ONE_GPU = 2

_CGROUP = Path("/sys/fs/cgroup")

_PACKAGES = ("collabdesign", "torch", "torchvision", "optuna", "numpy", "pillow")


def environment(device: torch.device) -> dict[str, str]:
    """Versions of what computes, the device, and how many threads it may use."""
    found = {"python": platform.python_version(), "system": platform.platform(terse=True)}
    for package in _PACKAGES:
        found[package] = "not installed"
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
    else:
        found["device"] = f"cpu ({platform.machine()}, {os.cpu_count()} cores)"
    found["threads"] = str(torch.get_num_threads())
    return found


def threads_for(macs: int | None) -> int:
    """CPU threads for training networks of up to so many MACs, None where there is no limit.

    A small network's layers take less time than waking a second thread for each of them, and
    on a busy machine two threads that wait for each other are many times slower than one.
    """
    return 1 if macs is not None and macs <= _ONE_THREAD_MACS else torch.get_num_threads()


def workers_for(device: torch.device, threads: int) -> int:
    """How many workers this machine supports.

    One for so many CPU threads as each takes, as far as memory reaches; one a GPU, or two on a
    single one.
    """
    if device.type == "cuda":
        gpus = torch.cuda.device_count() if device.index is None else 1
        count = min(gpus if gpus > 1 else _WORKERS_ON_ONE_GPU, usable_cores())
    else:
        count = usable_cores() // threads
    memory = _free_bytes()
    if memory is not None:
        count = min(count, memory // _WORKER_BYTES)
    return max(1, count)


def devices_for(device: torch.device, count: int) -> list[str]:
    """The device of each worker: all GPUs in turn where none is named by its number."""
    if device.type == "cuda" and device.index is None:
        return [f"cuda:{worker % torch.cuda.device_count()}" for worker in range(count)]
    return [str(device)] * count


def usable_cores() -> int:
    """CPU cores that this process may use, which in a container may be fewer than there are."""
    tells = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if tells else os.cpu_count() or 1
    quota, _, period = _read(_CGROUP / "cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


def _free_bytes() -> int | None:
    """Memory that can be had, None where the system does not tell."""
    available = re.findall(r"^MemAvailable: +(\d+)", _read(Path("/proc/meminfo")), re.MULTILINE)
    found = [1024 * int(kibibytes) for kibibytes in available]
    limit, used = _read(_CGROUP / "memory.max"), _read(_CGROUP / "memory.current")
    if limit.strip().isdigit() and used.strip().isdigit():
        # Files that were read lie in it too, and make room when memory is asked for.
        stat = _read(_CGROUP / "memory.stat")
        files = re.findall(r"^(?:in)?active_file (\d+)$", stat, re.MULTILINE)
        found.append(int(limit) - int(used) + sum(map(int, files)))
    return min(found, default=None)


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text()
    return ""
