"""The facts besides its settings on which the last bits of a run depend, so that a resumed run can name changes."""

import platform
from collections.abc import Mapping

import torch

from metalearn_cli.runtime.machine.execution import Plan
from metalearn_cli.runtime.machine.matrix_products import by_onednn


def ground(plan: Plan, device: torch.device, processes: int, compiled: bool) -> dict[str, str | int]:
    """The facts on which rounding depends: torch's version, the instruction set, numbers of processes and threads."""
    found: dict[str, str | int] = {"torch": torch.__version__, "device": device.type, "processes": processes}
    if device.type == "cpu":
        found |= {"processor": platform.machine(), "instructions": torch.backends.cpu.get_cpu_capability()}
        found |= {"products": "oneDNN" if by_onednn() else "torch's choice"}
        found |= {"kernels": "compiled" if compiled else "torch's"}
        of_torch = plan.threads if plan.compiled else torch.get_num_threads()
        found |= {} if plan.mode == "threads" else {"threads of torch": of_torch}
    return found


def differences(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    """The changed facts as "torch: 2.12 before, 2.13 now; ..."; empty if none changed, or if none are known."""
    changed = [key for key in before if key in now and before[key] != now[key]]
    return "; ".join(f"{key}: {before[key]} before, {now[key]} now" for key in changed)
