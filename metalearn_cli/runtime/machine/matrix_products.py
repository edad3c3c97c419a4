"""How float32 numbers are multiplied: how exactly, and on a CPU by which library.

On a CPU torch asks MKL for matrix products, which does not use all of an AMD processor. oneDNN, which torch has too, is
more than twice as fast there (benchmarks/RESULTS.md). Torch takes it where it is allowed to round to bfloat16 first,
which oneDNN does where the processor has matrix units for that, and nowhere else. So it is allowed to on an AMD
processor where it does not.
"""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["float32", "tf32", "bfloat16"]

_ASKED = {"float32": "highest", "tf32": "high", "bfloat16": "medium"}
_SHAPES = ((1, 128, 128, 128), (2, 100, 576, 64), (2, 64, 100, 576), (8, 31, 17, 65))
_ROUNDING = 1e-5  # float32 is 100 times closer than that, bfloat16 100 times farther off


@contextmanager
def products_in(precision: Precision) -> Iterator[None]:
    """Inside the block float32 matrix products, and on a GPU convolutions, are as exact as `precision` says."""
    before, in_convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("medium" if precision == "float32" and by_onednn() else _ASKED[precision])
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32 = in_convolutions


def rounds(precision: Precision, device: torch.device) -> bool:
    """Whether products are less exact than float32's on this device where `precision` is asked for."""
    if device.type == "cpu":
        return not products_are_exact(_ASKED[precision])
    return precision != "float32" and torch.cuda.get_device_capability(device) >= (8, 0)


@lru_cache(maxsize=1)
def by_onednn() -> bool:
    """Whether exact products are asked of oneDNN here."""
    return not torch.cuda.is_available() and is_amd(_processor()) and products_are_exact("medium")


def is_amd(processor: str) -> bool:
    """Whether what a system says about its processors names AMD as their maker."""
    return "AuthenticAMD" in processor


def products_are_exact(asked: str) -> bool:
    """Whether products are those of float32 here where torch is asked for this float32_matmul_precision."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(asked)
    try:
        return all(_error(*shape) < _ROUNDING for shape in _SHAPES)
    finally:
        torch.set_float32_matmul_precision(before)


def _error(batch: int, rows: int, inner: int, columns: int) -> float:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(batch, rows, inner, generator=generator)
    b = torch.randn(batch, inner, columns, generator=generator)
    expected = a.double() @ b.double()
    return float(((a @ b).double() - expected).norm() / expected.norm())


def _processor() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
