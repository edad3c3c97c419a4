"""How a second-order meta-step grows with tasks, inner steps, shots and picture size: `python -m benchmarks.growth`.

One size is varied at a time around Omniglot 5-way 1-shot (32 tasks, 15 queries, 5 inner steps); the plain loop and
this engine take turns, and the table has the medians of five rounds.
"""

import statistics
from contextlib import ExitStack

from benchmarks.step import LOOP, Shape, our_row, rival_row, timed

AROUND = Shape(ways=5, shots=1, queries=15, steps=5, tasks=32)
SWEEPS = {
    "tasks": [AROUND._replace(tasks=tasks, queries=5, steps=1) for tasks in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)],
    "steps": [AROUND._replace(steps=steps, tasks=8) for steps in (0, 1, 2, 5, 10, 20)],
    "shots": [AROUND._replace(shots=shots, tasks=8) for shots in (1, 2, 5, 10, 20)],
    "size": [AROUND._replace(size=(1, side, side), tasks=8) for side in (28, 42, 56, 84)],
}


def main() -> None:
    """The command."""
    for name, shapes in SWEEPS.items():
        fixed = ", ".join(f"{key} {value}" for key, value in shapes[0]._asdict().items() if key != name)
        print(f"\n### {name} ({fixed})\n")
        print(f"| {name} | plain loop, ms | metalearn, ms | times |\n|---|---|---|---|")
        for shape in shapes:
            with ExitStack() as stack:
                rows = [rival_row(LOOP, shape, True), our_row("auto", shape, True, stack)]
                rounds = [[timed(row) for row in rows] for _ in range(6)][1:]
            loop, ours = (statistics.median(column) for column in zip(*rounds, strict=True))
            value = getattr(shape, name)
            times = f"{loop * 1e3:,.0f} | {ours * 1e3:,.0f} | {loop / ours:.2f}"
            print(f"| {value[-1] if name == 'size' else value} | {times} |", flush=True)


if __name__ == "__main__":
    main()
