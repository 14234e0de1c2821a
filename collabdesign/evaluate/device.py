"""Where a network is trained and evaluated."""

from __future__ import annotations

import torch

from collabdesign.errors import InputError


def choose_device(name: str | None = None) -> torch.device:
    """The device of that name, or CUDA where there is one, or else the CPU.

    Raises:
        InputError: The name is no device, or CUDA is asked for and not there.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise InputError(f"the device must be cpu or cuda, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"the device must be cpu or cuda, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"the device must be there, got {name!r} and no such CUDA device")
    return device
