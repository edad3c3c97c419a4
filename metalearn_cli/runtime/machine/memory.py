"""How much memory there is, and keeping what is freed in the process, where the C library lets us ask for it."""

import ctypes
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from metalearn_cli.errors import ConfigError

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8  # <malloc.h>
_NEVER, _STEP = 2**31 - 1, 64 << 20
_BYTES_IN_TRAINING = 16  # a float32 each for a weight, its gradient and the two moments of Adam
_CONTAINERS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def machine_memory() -> int:
    """The bytes of memory of this machine, or of its container where that has fewer; endless where nobody says."""
    limits = [int(text) for file in _CONTAINERS if file.is_file() and (text := file.read_text().strip()).isdigit()]
    if hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=sys.maxsize)


def require_memory(needed: int, what: str, cure: str) -> None:
    """Raise ConfigError if `what` alone needs more bytes than there are: such a run would be killed without a word."""
    if needed > (there := machine_memory()):
        raise ConfigError(f"{what} would take {needed / 1e9:,.0f} GB, this machine has {there / 1e9:,.0f}; {cure}")


def require_memory_for_network(name: str, build: Callable[[], nn.Module]) -> None:
    """Raise ConfigError if the network that `build` makes could not be trained here; none is made to find out."""
    with torch.device("meta"), WithoutDraws(), warnings.catch_warnings():
        # Weights that a function loads do not go into a network without memory, of which torch warns for each of them.
        warnings.filterwarnings("ignore", ".*copying from a non-meta parameter")
        try:
            parameters = sum(value.numel() for value in build().parameters())
        except ConfigError:
            return  # somebody's function needs numbers; where it fails with numbers too, its own error comes
    what = f"backbone {name}: {parameters:,} parameters, with their gradient and what Adam remembers,"
    require_memory(parameters * _BYTES_IN_TRAINING, what, "make it smaller")


class WithoutDraws(TorchFunctionMode):
    """Inside it no weight is drawn: on the meta device torch would first import its compiler, which takes seconds."""

    def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if function is torch.Tensor.normal_ else function(*args, **(kwargs or {}))


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
