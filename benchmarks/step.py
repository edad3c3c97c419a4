"""One meta-step, every way to do it, side by side: `python -m benchmarks.step`.

All rows of a shape take turns, round after round, in one process, so that a noisy machine disturbs them alike; the
table has the median over rounds, and the ratio to the plain loop as the median of each round's ratio with its
quartiles. Memory is the peak of a process of its own that does nothing but that row, less that of one that only
imports torch. Every row's gradient is compared with the plain loop's before it is timed.

Rows of learn2learn and higher are left out, and said to be, where these are not installed.
"""

import argparse
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import rivals
from benchmarks.conditions import Conditions
from benchmarks.processes import started
from benchmarks.rivals import Problem
from metalearn_cli.algorithms import maml
from metalearn_cli.backbones import conv4, resnet12
from metalearn_cli.core.meta import Learner
from metalearn_cli.core.meta import Problem as LearningProblem
from metalearn_cli.core.objectives import classification
from metalearn_cli.core.tasks import Examples, Task, count, tasks_between
from metalearn_cli.experiment.blocks import Execution
from metalearn_cli.layers.network import Network
from metalearn_cli.runtime.machine.compiled import kernels_for
from metalearn_cli.runtime.machine.execution import Plan, Runner, plan_for, running, usable_cores
from metalearn_cli.runtime.machine.matrix_products import products_in

Result = TypeVar("Result")


class Shape(NamedTuple):
    """What a meta-step is measured on: random pixels, `ways` classes, and conv4 of that many channels or ResNet-12."""

    ways: int
    shots: int
    queries: int
    steps: int
    tasks: int
    size: tuple[int, int, int] = (1, 28, 28)
    channels: int = 64
    pool: bool = False
    resnet: bool = False

    @property
    def values(self) -> int:
        """Input values of a task."""
        c, h, w = self.size
        return self.ways * (self.shots + self.queries) * c * h * w


PHOTO = (3, 84, 84)
SHAPES = {
    "omniglot 5w1s": Shape(5, 1, 15, 5, 32),
    "omniglot 5w1s, 1 step, 5 queries": Shape(5, 1, 5, 1, 32),
    "omniglot 20w5s": Shape(20, 5, 5, 5, 4),
    "miniimagenet 5w1s": Shape(5, 1, 15, 5, 4, PHOTO, 32, True),
    "miniimagenet 5w5s": Shape(5, 5, 15, 5, 2, PHOTO, 32, True),
    "miniimagenet 5w1s, resnet12, 1 step, 5 queries": Shape(5, 1, 5, 1, 2, PHOTO, resnet=True),
}
RIVALS: dict[str, Callable[[Problem], Callable[[], None]]] = {
    "plain loop, one backward": rivals.plain_loop,
    "plain loop, a backward per task": lambda problem: rivals.plain_loop(problem, backward_per_task=True),
    "plain loop, query set at every step": lambda problem: rivals.plain_loop(problem, query_at_every_step=True),
    "learn2learn": rivals.learn2learn,
    "higher": rivals.higher,
    "naive vmap": rivals.naive_vmap,
}
OURS = ("auto", "auto, torch's kernels", "loop", "vmap", "mixed")
TOLERANCE = 1e-2
"""The relative difference of two gradients that is said: float32 may leave as much; in float64 tests hold 1e-10."""
PROCESSES = "metalearn, a process for each core"
LOOP = "plain loop, one backward"


class Row(NamedTuple):
    """A way to do the step: `step()` does it, `gradient()` is what the last one found, by order of parameters."""

    name: str
    step: Callable[[], None]
    gradient: Callable[[], list[Tensor]]
    intra_op_threads: int


def problem_of(shape: Shape, second_order: bool, norm: type = rivals.BatchNorm) -> Problem:
    """The shape's network and tasks, always the same."""
    torch.manual_seed(0)
    if shape.resnet:
        module = rivals.plain_resnet12(shape.size, shape.ways, norm)
    else:
        module = rivals.plain_conv4(shape.size, shape.channels, shape.pool, shape.ways, norm)

    def examples(each: int) -> Examples:
        targets = torch.arange(shape.ways).repeat_interleave(each).expand(shape.tasks, -1)
        return Examples(torch.rand(shape.tasks, shape.ways * each, *shape.size), targets)

    return Problem(module, Task(examples(shape.shots), examples(shape.queries)), 0.1, shape.steps, second_order)


def rival_row(name: str, shape: Shape, second_order: bool) -> Row:
    """A way that is not ours."""
    norm = rivals.NormThenAffine if name == "naive vmap" else rivals.BatchNorm
    problem = problem_of(shape, second_order, norm)
    step = RIVALS[name](problem)

    def gradient() -> list[Tensor]:
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in problem.module.parameters()]

    return Row(name, as_torch_comes(step), gradient, usable_cores())


def as_torch_comes(step: Callable[[], Result]) -> Callable[[], Result]:
    """The same step with the matrix products that torch takes by itself."""

    def run() -> Result:
        torch.set_float32_matmul_precision("highest")
        return step()

    return run


def our_step(
    mode: str, shape: Shape, second_order: bool, stack: ExitStack, share: Callable[[Task], Task] = lambda tasks: tasks
) -> tuple[Callable[[], list[Tensor]], Plan]:
    """The meta-gradient, summed over a share of the tasks, by an execution mode or by auto with gradient: mixed.

    Compiled kernels are used as a training uses them, but for the mode that names torch's.
    """
    config = maml.Config(
        inner_lr=0.1, inner_steps=shape.steps, second_order=second_order,
        gradient="mixed" if mode == "mixed" else "reverse",
    )  # fmt: skip
    settings = Execution(
        mode=mode if mode in ("loop", "vmap") else "auto", kernels="torch" if "torch" in mode else "auto"
    )
    problem = problem_of(shape, second_order)
    problem = problem._replace(tasks=share(problem.tasks))
    return step_of(partial(maml.build, config), problem, shape, settings, stack)


def step_of(
    build: Callable[[LearningProblem], Learner], problem: Problem, shape: Shape, settings: Execution, stack: ExitStack
) -> tuple[Callable[[], list[Tensor]], Plan]:
    """The meta-gradient of a learner of ours, summed over the problem's tasks, from the weights of its module."""
    if shape.resnet:
        module = resnet12.build(resnet12.Config(), shape.size, shape.ways)
    else:
        module = conv4.build(conv4.Config(channels=shape.channels, pool=shape.pool), shape.size, shape.ways)
    inputs = problem.tasks.support.inputs
    module.to(inputs.dtype)
    with torch.no_grad():
        for ours, theirs in zip(module.parameters(), problem.module.parameters(), strict=True):
            ours.copy_(theirs)
    kernels = kernels_for(module, settings.kernels, lambda line: print(line, file=sys.stderr))
    network = Network(module, kernels=None if settings.mode == "loop" else kernels)
    learner = build(LearningProblem(network, classification, "transductive", shape.ways))
    helped = network.kernels is not None
    plan = plan_for(torch.device("cpu"), settings, shape.values, count(problem.tasks), helped)
    runner: Runner = stack.enter_context(running(plan))
    meta = learner.init()
    meta = meta._replace(coefficients={name: value.to(inputs) for name, value in meta.coefficients.items()})

    def step() -> list[Tensor]:
        with products_in("float32"):  # again at every step, as other rows take turns with it
            gradient = runner.total(learner.meta_gradient, meta, problem.tasks)[0]
            return [*gradient.params.values(), *gradient.coefficients.values()]

    return step, plan


def our_row(mode: str, shape: Shape, second_order: bool, stack: ExitStack) -> Row:
    """One of our ways, in this process."""
    find, plan = our_step(mode, shape, second_order, stack)
    last: list[Tensor] = []

    def step() -> None:
        last[:] = find()

    threaded = plan.mode == "threads"
    name = f"metalearn, {mode}" + (f" ({plan.threads} threads, chunks of {plan.chunk})" if threaded else "")
    alone = threaded or plan.compiled  # torch has one thread then, and ours or the kernels the others
    return Row(name, step, lambda: [value / shape.tasks for value in last], 1 if alone else usable_cores())


def row_of_processes(name: str, second_order: bool, stack: ExitStack) -> Row:
    """Our way in a process for each core, which torchrun starts where it is not for measuring."""
    processes = stack.enter_context(started(name, second_order, usable_cores()))
    tasks = SHAPES[name].tasks
    title = f"{PROCESSES} ({usable_cores()}, by torchrun)"
    return Row(title, processes.step, lambda: [value / tasks for value in processes.gradient()], 1)


def rows_of(title: str, second_order: bool, stack: ExitStack) -> Iterator[Row]:
    """All rows that can run here."""
    shape = SHAPES[title]
    for name in RIVALS:
        if name == "higher" and not second_order:
            continue  # without higher-order tracking it leaves the initial parameters without a gradient
        try:
            yield rival_row(name, shape, second_order)
        except ImportError as error:
            print(f"left out: {name} ({error})", file=sys.stderr)
    for mode in OURS:
        yield our_row(mode, shape, second_order, stack)
    yield row_of_processes(title, second_order, stack)


def timed(row: Row) -> float:
    """Seconds of one step."""
    torch.set_num_threads(row.intra_op_threads)
    started = time.perf_counter()
    row.step()
    return time.perf_counter() - started


def flops(shape: Shape, second_order: bool) -> int:
    """FLOPs of the matrix products and convolutions of one meta-step of the plain loop, as torch counts them."""
    one = problem_of(shape, second_order)
    one = one._replace(tasks=tasks_between(one.tasks, 0, 1))
    with FlopCounterMode(display=False) as counter:
        rivals.plain_loop(one)()
    return counter.get_total_flops() * shape.tasks


def relative(found: list[Tensor], expected: list[Tensor]) -> float:
    """The norm of the difference of two gradients, relative to that of the second."""
    off, size = (torch.cat([value.flatten() for value in part]).norm() for part in (
        [a - b for a, b in zip(found, expected, strict=True)], expected
    ))  # fmt: skip
    return float(off / size)


def measure(name: str, second_order: bool, rounds: int) -> None:
    """Print the shape's table, and the conditions under it."""
    shape, conditions, shares = SHAPES[name], Conditions(), []
    work = flops(shape, second_order)
    size = f"{shape.tasks} tasks, {shape.shots} shots, {shape.queries} queries, {shape.steps} inner steps"
    order = "second" if second_order else "first"
    print(f"\n### {name}: {size}, {order} order, {work / 1e9:.1f} GFLOP a step\n")
    print("| way | ms a step | tasks/s | times the plain loop (quartiles) | share of matmul peak | peak memory |")
    print("|---|---|---|---|---|---|")
    with ExitStack() as stack:
        rows = list(rows_of(name, second_order, stack))
        for row in rows:
            timed(row)
        expected = [value.clone() for value in rows[0].gradient()]
        for row in rows:
            off = relative(row.gradient(), expected)
            if off > TOLERANCE:
                print(f"{row.name}: its gradient is {off:.1e} off the plain loop's", file=sys.stderr)
        seconds: dict[str, list[float]] = {row.name: [] for row in rows}
        for _ in range(rounds):
            conditions.look()
            for row in rows:
                seconds[row.name].append(timed(row))
        conditions.look()
    for row in rows:
        mine = seconds[row.name]
        ratios = [loop / own for loop, own in zip(seconds[LOOP], mine, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        median = statistics.median(mine)
        times = f"{median * 1e3:,.0f} | {shape.tasks / median:,.1f} | {middle:.2f} ({low:.2f} to {high:.2f})"
        shares.append(work / median / conditions.peak)
        most = memory(name, row.name, second_order)
        print(f"| {row.name} | {times} | {shares[-1]:.0%} | {most:,.0f} MB |", flush=True)
    print(f"\n{conditions.line(shares)}", flush=True)


def memory(shape: str, row: str, second_order: bool) -> float:
    """MB that a process of its own needs at most for two steps of a row, above what importing torch takes."""
    command = [sys.executable, "-m", "benchmarks.step", "--only", row, "--shapes", shape]
    result = subprocess.run(
        [*command, *([] if second_order else ["--first-order"])], capture_output=True, text=True, check=True
    )
    return float(result.stdout.split()[-1])


def most_used() -> float:
    """MB that this process has had in memory at most (getrusage would count what its parent had, too)."""
    status = Path("/proc/self/status").read_text()
    return float(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


def peak_of(row_name: str, title: str, second_order: bool) -> float:
    """The same in this process, or in those that it starts."""
    if row_name.startswith(PROCESSES):
        with started(title, second_order, usable_cores()) as processes:
            for _ in range(2):
                processes.step()
            return processes.memory()
    shape, before = SHAPES[title], most_used()
    with ExitStack() as stack:
        mode = row_name.removeprefix("metalearn, ").partition(" (")[0]
        ours = row_name.startswith("metalearn")
        row = our_row(mode, shape, second_order, stack) if ours else rival_row(row_name, shape, second_order)
        for _ in range(2):
            timed(row)
    return most_used() - before


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--first-order", action="store_true", help="first-order MAML for all rows")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    second_order = not arguments.first_order
    if arguments.only:
        print(peak_of(arguments.only, arguments.shapes[0], second_order))
        return
    for name in arguments.shapes:
        measure(name, second_order, arguments.rounds)


if __name__ == "__main__":
    main()
