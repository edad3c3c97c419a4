"""The precision of float32 matrix products, and on a CPU the library that computes them.

On a CPU torch computes matrix products with MKL, which is slow on AMD processors. oneDNN, which torch contains too, is
more than twice as fast there (benchmarks/RESULTS.md). Torch uses oneDNN only if it is allowed to round to bfloat16. But
oneDNN rounds only on processors with matrix units for bfloat16; on any other AMD processor the permission changes the
library and not the numbers, so it is given there.
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
    """Inside the block float32 matrix products, and convolutions on a GPU, have this `precision`."""
    before, in_convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("medium" if precision == "float32" and by_onednn() else _ASKED[precision])
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32 = in_convolutions


def rounds(precision: Precision, device: torch.device) -> bool:
    """Whether `precision` makes products on this device less exact than float32."""
    if device.type == "cpu":
        return not products_are_exact(_ASKED[precision])
    return precision != "float32" and torch.cuda.get_device_capability(device) >= (8, 0)


@lru_cache(maxsize=1)
def by_onednn() -> bool:
    """Whether oneDNN computes exact products on this machine."""
    return not torch.cuda.is_available() and is_amd(_processor()) and products_are_exact("medium")


def is_amd(processor: str) -> bool:
    """Whether the system's description of its `processor` names AMD as its maker."""
    return "AuthenticAMD" in processor


def products_are_exact(asked: str) -> bool:
    """Whether products keep float32's precision here with torch's float32_matmul_precision set to `asked`."""
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
