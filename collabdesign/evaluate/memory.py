"""The memory of this process: kept for the next tensors, or all used."""

from __future__ import annotations

import ctypes
import sys

import torch

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed tensors for the next ones.

    By default glibc hands it back, and each step pays a page fault for every 4 KiB that it
    takes again: with depthwise networks at 32x32 this was a quarter of the time on the CPU.
    It holds for the whole process, whose memory then never shrinks, so it is for a program
    to call once at its start, and no function here calls it. Without glibc it does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # The most that glibc takes.
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch says that no memory is left."""
    # The CPU's allocators raise a bare RuntimeError: only the words tell it from a bug.
    words = ("can't allocate memory", "DefaultCPUAllocator", "bad allocation", "bad_alloc")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        word in str(error) for word in words
    )
