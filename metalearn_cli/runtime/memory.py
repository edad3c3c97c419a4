"""Keeping freed memory in the process, where the C library lets us ask for it."""

import ctypes
import sys

import torch

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8  # <malloc.h>
_NEVER, _STEP = 2**31 - 1, 64 << 20


def keep_freed_memory() -> bool:
    """From now on this process keeps what it frees for its next allocations; False where that cannot be asked for.

    A meta-step allocates and frees hundreds of megabytes. By default glibc gives them back to the system each time,
    and each time the system has to hand out zeroed pages again, which costs up to a third of the step. What the
    process has once used stays its own until it ends.
    """
    if not sys.platform.startswith("linux"):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return False
    options = {_MMAP_THRESHOLD: 1 << 30, _TRIM_THRESHOLD: _NEVER, _TOP_PAD: _STEP, _ARENA_MAX: 1}
    accepted = [set_option(option, value) == 1 for option, value in options.items()]
    return all(accepted)


def peak_bytes(device: torch.device) -> int | None:
    """The most memory that this process has held at once: on a GPU the GPU's; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
