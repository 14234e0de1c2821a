"""On what a run ran: the versions and the machine that its numbers come from."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

# Chosen on a busy two-core machine, where two threads were slower at every size tried.
_ONE_THREAD_MACS = 1_000_000

_PACKAGES = ("collabdesign", "torch", "torchvision", "optuna", "numpy", "pillow")


def environment(device: torch.device) -> dict[str, str]:
    """Versions of what computes, the device, and how many threads it may use."""
    found = {"python": platform.python_version(), "system": platform.platform(terse=True)}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
    else:
        found["device"] = f"cpu ({platform.machine()}, {os.cpu_count()} cores)"
    found["threads"] = str(torch.get_num_threads())
    return found


def threads_for(macs: int | None) -> int:
    """CPU threads for training networks of up to so many MACs.

    A small network's layers take less time than waking a second thread for each of them, and
    on a busy machine two threads that wait for each other are many times slower than one.

    Args:
        macs: The limit, None where there is none.
    """
    return 1 if macs is not None and macs <= _ONE_THREAD_MACS else torch.get_num_threads()
