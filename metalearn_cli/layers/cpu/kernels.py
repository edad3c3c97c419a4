"""Kernels: the compiled functions of cpp/kernels.cpp, called with tensors.

They do in few passes over memory what torch does in many. Where there is no compiler, the layers compute the same with
torch alone (runtime/machine/compiled.py decides; `Pass.kernels` is None then).

Legend: N examples, H x W size of a map, C channels, O output channels, M = N * H * W places, P places after the pool.
"""

import ctypes
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

_ALONE_BELOW = 1 << 20
"""Values below which one thread does the work, as starting another would take a good part of the time."""

_NO_MEMORY = 1  # status_of in cpp/kernels.cpp

_KINDS = {torch.float32: "float", torch.float64: "double"}

_THREADS: ContextVar[int | None] = ContextVar("threads of the kernels; None: as many as torch has", default=None)


@contextmanager
def threads_of_torch(threads: int) -> Iterator[None]:
    """Let torch have so many threads here."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def threads_of_kernels(threads: int) -> Iterator[None]:
    """Let kernels, and what does a convolution in their place, have so many threads here, and torch one for the rest.

    Torch's own threads wait for work in a busy loop, on the cores that the kernels need.
    """
    token = _THREADS.set(threads)
    try:
        with threads_of_torch(1):
            yield
    finally:
        _THREADS.reset(token)


def torch_in_their_place() -> AbstractContextManager[None]:
    """Let torch have the threads of the kernels, for a convolution that it computes in their place."""
    threads = _THREADS.get()
    return nullcontext() if threads is None else threads_of_torch(threads)


class Maps(NamedTuple):
    """The size of one task's maps [N, H, W, O] and the side of the max-pool after them: 1 (none) or 2."""

    examples: int
    height: int
    width: int
    channels: int
    pool: int

    @property
    def pooled(self) -> int:
        """P, the number of places after the pool; rows and columns that fill no window are left out."""
        return self.examples * (self.height // self.pool) * (self.width // self.pool)


class Kernels:
    """The functions of a compiled cpp/kernels.cpp. All tensors must be contiguous, on the CPU, float32 or float64."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._functions: dict[str, Callable[..., int]] = {}

    def takes(self, inputs: Tensor) -> bool:
        """Whether these functions can compute with a tensor like `inputs`: no wrapper, no subclass, right dtype."""
        wrapped = torch._C._functorch.is_functorch_wrapped_tensor(inputs)
        return type(inputs) in (Tensor, torch.nn.Parameter) and inputs.dtype in _KINDS and not wrapped

    def call(self, function: str, sizes: tuple[int, ...], arguments: Sequence[Any]) -> None:
        """Call a function of cpp/kernels.cpp: `sizes` are those of its maps or window, `arguments` all others.

        An int is passed as long, a float as double, a tensor as the address of its values, None as no address. The
        number of threads is that of `threads_of_kernels`, else torch's, or one for a little work.

        Raises MemoryError if there is not enough memory for what the function keeps beside its arguments, and
        RuntimeError if it fails in another way.
        """
        kind, passed = "", list[Any]()
        for argument in arguments:
            if isinstance(argument, Tensor):
                assert argument.is_contiguous(), "a kernel reads dense memory"
                # Bytes (uint8) are indices of places; all other tensors of a call have one dtype, which names it.
                kind = kind or _KINDS.get(argument.dtype, "")
                passed.append(argument.data_ptr())
            else:
                passed.append(argument)
        name = f"{function}_{kind}"
        found = self._functions.get(name) or self._found(name, arguments)
        # The first six sizes are those of maps and pool, or of pictures and kernel: their product is near the work.
        threads = (_THREADS.get() or torch.get_num_threads()) if math.prod(sizes[:6]) >= _ALONE_BELOW else 1
        if status := found(_dense(sizes), *passed, threads):
            if status == _NO_MEMORY:
                raise MemoryError(f"out of memory in the kernel {name}")
            raise RuntimeError(f"the kernel {name} failed with sizes {sizes}")

    def _found(self, name: str, arguments: Sequence[Any]) -> Callable[..., int]:
        """The function of this name in the library, with the types of its arguments, which are always the same."""
        function: Any = getattr(self._library, name)
        types = [
            ctypes.c_double if isinstance(argument, float) else ctypes.c_long if isinstance(argument, int)
            else ctypes.c_void_p for argument in arguments
        ]  # fmt: skip
        function.argtypes = [ctypes.c_void_p, *types, ctypes.c_int]
        function.restype = ctypes.c_int
        self._functions[name] = found = cast(Callable[..., int], function)
        return found


@lru_cache(maxsize=1024)
def _dense(sizes: tuple[int, ...]) -> Any:
    """The sizes as an array of long."""
    return (ctypes.c_long * len(sizes))(*sizes)
