"""Versions, processor and devices of this machine, for `metalearn info` and for bug reports."""

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from metalearn_cli.runtime.machine import compiled
from metalearn_cli.runtime.machine.execution import usable_cores
from metalearn_cli.version import own_version

_LIBRARIES = (
    *("numpy", "pillow", "pyyaml", "pydantic", "typer", "rich", "safetensors"),
    *("tensorboardX", "pyarrow", "matplotlib"),
)


def describe_machine() -> dict[str, Any]:
    """Versions (None: not installed), the platform, the processor, the CUDA devices that torch can use, and kernels.

    The kernels have the `file` of those that have been compiled and the `compiler` that may compile them (None: none).
    """
    kernels = compiled.library_file()
    return {
        "versions": {
            "metalearn": own_version(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            **{name: _version(name) for name in _LIBRARIES},
        },
        "platform": platform.platform(),
        "cpu": {
            "name": _processor(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "cores": usable_cores(),
            "threads": torch.get_num_threads(),
        },
        "cuda": {"version": torch.version.cuda, "devices": _devices()},
        "kernels": {"file": kernels and str(kernels), "compiler": next(iter(compiled.compilers()), None)},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _devices() -> list[dict[str, Any]]:
    devices = []
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        capability = f"{about.major}.{about.minor}"
        devices.append({"name": about.name, "memory_bytes": about.total_memory, "capability": capability})
    return devices
