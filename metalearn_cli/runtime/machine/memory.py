"""The size of the memory, checks against it, and a setting of the C library that keeps freed memory."""

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
    """The bytes of memory of this machine, or of its container if that has fewer; very many if they are not known."""
    limits = [int(text) for file in _CONTAINERS if file.is_file() and (text := file.read_text().strip()).isdigit()]
    if hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=sys.maxsize)


def require_memory(needed: int, what: str, cure: str) -> None:
    """Raise ConfigError if `what` alone needs more bytes than there are; the system would kill such a run silently."""
    if needed > (there := machine_memory()):
        raise ConfigError(f"{what} would take {needed / 1e9:,.0f} GB, this machine has {there / 1e9:,.0f}; {cure}")


def require_memory_for_network(name: str, build: Callable[[], nn.Module]) -> None:
    """Raise ConfigError if training the network of `build` needs more memory than there is. Allocates no weights."""
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
    """Inside the block no weight is drawn: on the meta device torch would import its compiler for that, for seconds."""

    def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if function is torch.Tensor.normal_ else function(*args, **(kwargs or {}))


def keep_freed_memory() -> bool:
    """Make this process keep freed memory for its next allocations; False if the C library has no such setting.

    A meta-step allocates and frees hundreds of megabytes. By default glibc returns them to the system each time, and
    the system has to provide zeroed pages again, which costs up to a third of the step. The cost of this setting: the
    process keeps its largest use of memory until it ends.
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
    """The peak memory of this process in bytes, of the GPU for a CUDA device; None if the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
