"""A meta-step of four other learners, beside plain implementations of them: `python -m benchmarks.learners`.

ProtoNet, ANIL (second order), R2-D2 and Reptile by their defaults here, each beside the same as its users write it
(benchmarks/plain_learners.py), from the same weights on the same tasks. What both found is compared first. All rows of
a shape take turns, round after round; the table has medians, and the ratio of each round as median with quartiles.
Reptile needs no queries: the plain one has none, and ours scores one of each class, as few as a training can have.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks import plain_learners
from benchmarks.conditions import Conditions
from benchmarks.rivals import Problem
from benchmarks.step import SHAPES, TOLERANCE, Row, Shape, as_torch_comes, problem_of, relative, step_of, timed
from metalearn_cli.algorithms import anil, protonet, r2d2, reptile
from metalearn_cli.core.tasks import with_each
from metalearn_cli.experiment.blocks import Execution
from metalearn_cli.runtime.machine.execution import usable_cores
from metalearn_cli.settings import Choice

TITLES = ("omniglot 5w1s", "miniimagenet 5w1s")


class Pair(NamedTuple):
    """A learner's module here, its settings, the same in plain torch, and whether training it takes queries."""

    ours: ModuleType
    config: Choice
    plain: Callable[[Problem], plain_learners.Step]
    takes_queries: bool = True


PAIRS = {
    "protonet": Pair(protonet, protonet.Config(), plain_learners.protonet),
    "anil": Pair(anil, anil.Config(), plain_learners.anil),
    "r2d2": Pair(r2d2, r2d2.Config(), plain_learners.r2d2),
    "reptile": Pair(reptile, reptile.Config(), plain_learners.reptile, takes_queries=False),
}


def rows_of(name: str, shape: Shape, stack: ExitStack, dtype: torch.dtype = torch.float32) -> tuple[Row, Row]:
    """The plain learner and ours, on the same tasks."""
    ours, config, plain, takes_queries = PAIRS[name]
    shape = shape._replace(steps=getattr(config, "inner_steps", 0), queries=shape.queries if takes_queries else 1)
    problem = problem_of(shape, second_order=True)._replace(rate=getattr(config, "inner_lr", 0.0))
    problem.module.to(dtype)
    tasks = with_each(problem.tasks, lambda value: value.to(dtype) if value.is_floating_point() else value)
    problem = problem._replace(tasks=tasks)
    step, plan = step_of(partial(ours.build, config), problem, shape, Execution(), stack)
    return (
        _row(f"plain {name}", as_torch_comes(plain(problem)), 1, usable_cores()),
        _row(f"metalearn, {name}", step, shape.tasks, 1 if plan.mode == "threads" else usable_cores()),
    )


def _row(name: str, find: Callable[[], list[Tensor]], divisor: int, threads: int) -> Row:
    last: list[Tensor] = []

    def step() -> None:
        last[:] = find()

    return Row(name, step, lambda: [value / divisor for value in last], threads)


def measure(title: str, only: list[str], rounds: int) -> None:
    """Print the shape's table, and the conditions under it."""
    shape, conditions = SHAPES[title], Conditions()
    print(f"\n### {title}: {shape.tasks} tasks, {shape.shots} shots, {shape.queries} queries\n")
    print("| learner | plain, ms a step | metalearn, ms a step | tasks/s | times the plain loop (quartiles) |")
    print("|---|---|---|---|---|")
    with ExitStack() as stack:
        pairs = {name: rows_of(name, shape, stack) for name in only}
        for name, pair in pairs.items():
            for row in pair:
                timed(row)
            off = relative(*(row.gradient() for row in pair))
            if off > TOLERANCE:
                print(f"{name}: what it finds is {off:.1e} off the plain loop's", file=sys.stderr)
        taken: dict[str, list[list[float]]] = {name: [] for name in only}
        for _ in range(rounds):
            conditions.look()
            for name, pair in pairs.items():
                taken[name].append([timed(row) for row in pair])
        conditions.look()
    for name in only:
        plain, ours = (statistics.median(column) for column in zip(*taken[name], strict=True))
        low, middle, high = statistics.quantiles([theirs / own for theirs, own in taken[name]], n=4)
        cells = f"{plain * 1e3:,.0f} | {ours * 1e3:,.0f} | {shape.tasks / ours:,.1f}"
        print(f"| {name} | {cells} | {middle:.2f} ({low:.2f} to {high:.2f}) |")
    print(f"\n{conditions.line()}", flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="*", default=list(TITLES), choices=TITLES)
    parser.add_argument("--only", nargs="*", default=list(PAIRS), choices=list(PAIRS), help="these learners alone")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    for title in arguments.shapes:
        measure(title, arguments.only, arguments.rounds)


if __name__ == "__main__":
    main()
