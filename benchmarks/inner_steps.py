"""Time and memory of a second-order meta-step against inner steps: `python -m benchmarks.inner_steps`.

Reverse mode keeps the whole inner loop until the backward pass; mixed mode does each step again. Each figure is from a
process of its own: the median time of five steps, and the peak memory above what importing torch takes.
"""

import argparse
import subprocess
import sys
from contextlib import ExitStack

import torch

from benchmarks.step import Shape, most_used, our_row, relative, timed

SHAPE = Shape(ways=5, shots=1, queries=15, steps=1, tasks=8)
STEPS = (1, 5, 20, 100)


def one(mode: str, steps: int) -> None:
    """Print the seconds and the MB of one figure."""
    shape = SHAPE._replace(steps=steps)
    with ExitStack() as stack:
        torch.rand(8, 8) @ torch.rand(8, 8)
        before = most_used()
        row = our_row(mode, shape, True, stack)
        seconds = sorted(timed(row) for _ in range(5))[2]
        print(seconds, most_used() - before)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one[0], int(arguments.one[1]))
        return
    with ExitStack() as stack:
        rows = [our_row(mode, SHAPE._replace(steps=5), True, stack) for mode in ("auto", "mixed")]
        for row in rows:
            timed(row)
        apart = relative(rows[1].gradient(), rows[0].gradient())
        print(f"mixed against reverse mode, float32, 5 steps: {apart:.0e} apart\n")
    print("| inner steps | reverse, ms | mixed, ms | reverse, MB | mixed, MB |\n|---|---|---|---|---|")
    for steps in STEPS:
        figures = []
        for mode in ("auto", "mixed"):
            command = [sys.executable, "-m", "benchmarks.inner_steps", "--one", mode, str(steps)]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            figures.append([float(value) for value in output.split()])
        (reverse, reverse_mb), (mixed, mixed_mb) = figures
        times = f"{reverse * 1e3:,.0f} | {mixed * 1e3:,.0f}"
        print(f"| {steps} | {times} | {reverse_mb:,.0f} | {mixed_mb:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
