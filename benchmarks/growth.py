"""How a second-order meta-step grows with tasks, inner steps, shots and picture size: `python -m benchmarks.growth`.

One size is varied at a time around Omniglot 5-way 1-shot (32 tasks, 15 queries, 5 inner steps); the plain loop and
this engine take turns, each with a step that does not count before the one that does. The table has medians over
rounds, and the ratio of each round as median with quartiles.
`--only tasks` measures one table, `--largest 8` leaves out larger values of it.
"""

import argparse
import statistics
from contextlib import ExitStack

from benchmarks.conditions import Conditions
from benchmarks.step import LOOP, Row, Shape, our_row, rival_row, timed

AROUND = Shape(ways=5, shots=1, queries=15, steps=5, tasks=32)
SWEEPS = {
    "tasks": [AROUND._replace(tasks=tasks, queries=5, steps=1) for tasks in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)],
    "steps": [AROUND._replace(steps=steps, tasks=8) for steps in (0, 1, 2, 5, 10, 20)],
    "shots": [AROUND._replace(shots=shots, tasks=8) for shots in (1, 2, 5, 10, 20)],
    "size": [AROUND._replace(size=(1, side, side), tasks=8) for side in (28, 42, 56, 84)],
}


def value_of(name: str, shape: Shape) -> int:
    """The value of the size that is varied."""
    return int(shape.size[-1] if name == "size" else getattr(shape, name))


def settled(row: Row) -> float:
    """Seconds of a step after one of the same row, as in a training: threads of the other row may still spin."""
    timed(row)
    return timed(row)


def row_of(shape: Shape, rounds: int) -> str:
    """The cells of a shape: milliseconds of the loop and of this engine, and the ratio."""
    with ExitStack() as stack:
        rows = [rival_row(LOOP, shape, True), our_row("auto", shape, True, stack)]
        taken = [[settled(row) for row in rows] for _ in range(rounds + 1)][1:]
    loop, ours = (statistics.median(column) for column in zip(*taken, strict=True))
    low, middle, high = statistics.quantiles([theirs / own for theirs, own in taken], n=4)
    return f"{loop * 1e3:,.0f} | {ours * 1e3:,.0f} | {middle:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(SWEEPS), choices=list(SWEEPS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--largest", type=int, default=1_000)
    arguments = parser.parse_args()
    for name in arguments.only:
        shapes, conditions = SWEEPS[name], Conditions()
        fixed = ", ".join(f"{key} {value}" for key, value in shapes[0]._asdict().items() if key != name)
        print(f"\n### {name} ({fixed})\n")
        print(f"| {name} | plain loop, ms | metalearn, ms | times (quartiles) |\n|---|---|---|---|")
        for shape in shapes:
            if value_of(name, shape) <= arguments.largest:
                conditions.look()
                print(f"| {value_of(name, shape)} | {row_of(shape, arguments.rounds)} |", flush=True)
        conditions.look()
        print(f"\n{conditions.line()}", flush=True)


if __name__ == "__main__":
    main()
