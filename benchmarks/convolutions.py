"""A convolution's three forms by compiled kernels and by torch, on one thread: `python -m benchmarks.convolutions`.

Kernels of 3 x 3 for pictures of one task, channels last, float32. GFLOP/s count the multiplications and additions of a
plain convolution, also where a way needs fewer. Rows take turns; medians of CPU time. The kernels are those that an
earlier training has compiled.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from benchmarks.conditions import Conditions
from metalearn_cli.layers.cpu.bilinear import Forms, Window
from metalearn_cli.layers.cpu.by_kernels import ByKernels
from metalearn_cli.layers.cpu.direct import Direct
from metalearn_cli.layers.cpu.forms import forms
from metalearn_cli.layers.cpu.kernels import Kernels
from metalearn_cli.runtime.machine.compiled import loaded

ROUNDS = 9


class Shape(NamedTuple):
    """Pictures of `side` x `side` with as many channels in as out."""

    pictures: int
    side: int
    channels: int
    stride: int


SHAPES = [
    *(Shape(pictures, side, 64, 2) for side in (14, 7) for pictures in (5, 75)),
    *(Shape(pictures, 14, 64, 1) for pictures in (5, 75)),
    *(Shape(pictures, side, 32, 1) for side in (42, 21, 10) for pictures in (5, 75)),
]


def calls(way: Forms, shape: Shape) -> list[Callable[[], object]]:
    """Forward, to the inputs and to the weight."""
    inputs = torch.randn(1, shape.pictures, shape.side, shape.side, shape.channels)
    weight = torch.randn(1, shape.channels, 9 * shape.channels)
    outputs = torch.randn(1, shape.pictures * way.h * way.w, shape.channels)
    of_inputs, of_weight = torch.empty_like(inputs), torch.empty_like(weight)
    return [
        lambda: way.see(inputs).forward(weight, outputs),
        lambda: way.to_inputs(outputs, weight, of_inputs),
        lambda: way.see(inputs).to_weight(outputs, of_weight),
    ]


def seconds(call: Callable[[], object], times: int) -> float:
    """CPU seconds of a call."""
    started = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - started) / times


def row_of(shape: Shape, kernels: Kernels) -> str:
    """The cells of a shape: GFLOP/s of each form by torch and by kernels, and how many times as fast these are."""
    window = Window((3, 3), (shape.stride, shape.stride), (1, 1))
    size = (1, shape.pictures, shape.side, shape.side, shape.channels)
    ours = forms(size, shape.channels, 4, window, kernels)
    assert isinstance(ours, ByKernels)
    flop = 2 * shape.pictures * ours.h * ours.w * 9 * shape.channels**2
    times = max(1, int(1e8 / flop))
    cells = []
    for pair in zip(calls(Direct(size, 4, window), shape), calls(ours, shape), strict=True):
        taken = [[seconds(call, times) for call in pair] for _ in range(ROUNDS + 1)][1:]
        torchs, own = (flop / statistics.median(column) / 1e9 for column in zip(*taken, strict=True))
        cells.append(f"{torchs:,.0f}, {own:,.0f} ({statistics.median(a / b for a, b in taken):.2f})")
    return " | ".join(cells)


def main() -> None:
    """The command."""
    torch.set_num_threads(1)
    kernels, conditions = loaded(), Conditions()
    if kernels is None:
        sys.exit("no kernels: run `metalearn train quickstart` once, with a C++ compiler")
    heads = " | ".join(f"{form}: torch, kernels (times)" for form in ("forward", "to the inputs", "to the weight"))
    print(f"| pictures | size | channels | steps of | {heads} |\n|---|---|---|---|---|---|---|")
    for shape in SHAPES:
        conditions.look()
        size = f"{shape.side} x {shape.side}"
        print(
            f"| {shape.pictures} | {size} | {shape.channels} | {shape.stride} | {row_of(shape, kernels)} |", flush=True
        )
    conditions.look()
    print(f"\n{conditions.line()}")


if __name__ == "__main__":
    main()
