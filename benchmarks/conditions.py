"""The state of the machine while a table is measured: its peak in matrix products, several times, and its load.

A share of the peak is worth something only if the peak itself did not move: `Conditions.line` says how far it moved,
and when a share cannot be trusted.
"""

import os
import platform
import statistics
import time
from collections.abc import Iterable

import torch

from metalearn_cli.runtime.machine.execution import usable_cores
from metalearn_cli.runtime.machine.matrix_products import products_in

_SIDE, _TRIES = 2048, 6
_WIDEST = 0.15
"""The spread of the peak, (largest - smallest) / median, above which a share of it is no measurement."""


def matmul_peak() -> float:
    """FLOP/s of this machine's best large float32 matrix product at this moment, all cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(usable_cores())
    a, best = torch.rand(_SIDE, _SIDE), 0.0
    with products_in("float32"):
        for _ in range(_TRIES):
            started = time.perf_counter()
            a @ a
            best = max(best, 2 * _SIDE**3 / (time.perf_counter() - started))
    torch.set_num_threads(threads)
    return best


class Conditions:
    """What `look` saw, each time that it was called: before, between and after the rows of a table."""

    def __init__(self) -> None:
        self.peaks: list[float] = []
        self.loads: list[float] = []

    def look(self, peak: bool = True) -> None:
        """Note the load average of the last minute and, with `peak`, the peak at this moment."""
        self.loads.append(os.getloadavg()[0])
        if peak:
            self.peaks.append(matmul_peak())

    @property
    def peak(self) -> float:
        """The median of the peaks, FLOP/s."""
        return statistics.median(self.peaks)

    @property
    def spread(self) -> float:
        """(largest - smallest) / median of the peaks."""
        return (max(self.peaks) - min(self.peaks)) / self.peak

    def line(self, shares: Iterable[float] = ()) -> str:
        """Sentences for below a table, given the shares of the peak that stand in it."""
        said = [f"torch {torch.__version__}, Python {platform.python_version()}, {usable_cores()} cores, load average "
                f"{min(self.loads):.1f} to {max(self.loads):.1f}."]  # fmt: skip
        if self.peaks:
            low, middle, high = (value / 1e9 for value in (min(self.peaks), self.peak, max(self.peaks)))
            said.append(f"Matrix products peaked at {middle:.0f} GFLOP/s ({low:.0f} to {high:.0f}, {len(self.peaks)} "
                        "looks).")  # fmt: skip
            shares = list(shares)
            reasons = [f"the peak moved by {self.spread:.0%} meanwhile"] if self.spread > _WIDEST else []
            reasons += ["a share is above 100 %"] if any(share > 1 for share in shares) else []
            what = "The shares of the peak cannot" if shares else "Milliseconds of different rows cannot"
            if reasons:
                said.append(f"{what} be trusted: {' and '.join(reasons)}.")
        return " ".join(said)
