"""How T tasks run at once. Every way gives the same numbers to rounding; a float64 test holds them together.

Legend: T tasks, c tasks in a chunk.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from metalearn_cli.core.meta import Meta, Scores
from metalearn_cli.core.tasks import Task, count, task_at, tasks_between
from metalearn_cli.experiment import Execution

_TINY, _SMALL = 4096, 250_000

Result = TypeVar("Result")
OneTask = Callable[[Meta, Task], Result]
"""A pure function of one task; its result is a tree of tensors."""


class Plan(NamedTuple):
    """`loop`: one task after the other (the reference). `vmap`: `chunk` tasks as one batch, chunk after chunk.

    `threads`: the same chunks, shared out among `threads` threads of one intra-op thread each. The numbers depend
    on `chunk` (to rounding) but not on `threads`, nor on how many cores the machine has.
    """

    mode: Literal["loop", "vmap", "threads"]
    chunk: int
    threads: int


def plan_for(device: torch.device, settings: Execution, values_per_task: int) -> Plan:
    """The plan that the settings mean on a device for tasks of that many input values.

    `auto` is vmap on an accelerator and threads on a CPU: tiny tasks, whose dispatch costs more than their
    arithmetic, in one chunk, small ones in chunks that stay near a core's cache, large ones (84 x 84 colour) one by
    one. It does not measure: the same experiment takes the same plan, and so the same numbers, every time.
    """
    on_cpu = device.type == "cpu"
    mode = settings.mode if settings.mode != "auto" else "threads" if on_cpu else "vmap"
    chunk = 64 if values_per_task <= _TINY or not on_cpu else 4 if values_per_task <= _SMALL else 1
    return Plan(mode, settings.chunk or chunk, settings.threads or usable_cores())


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Runner:
    """Runs a function of one task on many, by a plan; owns the threads. Made by `running(plan)`."""

    def __init__(self, plan: Plan, pool: ThreadPoolExecutor | None) -> None:
        self.plan = plan
        self._pool = pool

    def chunks(self, function: OneTask[Result], meta: Meta, tasks: Task) -> list[Result]:
        """The function's results, in chunks of c tasks in order, each stacked to [c, ...]."""
        if self.plan.mode == "loop":
            return [_with_leading_one(function(meta, task_at(tasks, i))) for i in range(count(tasks))]
        vectorised = torch.func.vmap(function, in_dims=(None, 0))
        starts = range(0, count(tasks), self.plan.chunk)

        def run(start: int) -> Result:
            result: Result = vectorised(meta, tasks_between(tasks, start, start + self.plan.chunk))
            return result

        return list(self._pool.map(run, starts)) if self._pool else [run(start) for start in starts]

    def each(self, function: OneTask[Scores], meta: Meta, tasks: Task) -> Scores:
        """The scores of every task, [T, ...]."""
        results = self.chunks(function, meta, tasks)
        return Scores(torch.cat([one.loss for one in results]), torch.cat([one.score for one in results]))

    def mean(self, function: OneTask[tuple[Meta, Scores]], meta: Meta, tasks: Task) -> tuple[Meta, Scores]:
        """The mean over tasks of what a meta-gradient gives, summed in the order of the tasks."""
        sums = [pytree.tree_map(lambda leaf: leaf.sum(0), one) for one in self.chunks(function, meta, tasks)]
        total = sums[0]
        for other in sums[1:]:
            total = pytree.tree_map(torch.add, total, other)
        mean: tuple[Meta, Scores] = pytree.tree_map(lambda leaf: leaf / count(tasks), total)
        return mean


@contextmanager
def running(plan: Plan) -> Iterator[Runner]:
    """A Runner whose threads end with the block."""
    if plan.mode != "threads":
        yield Runner(plan, None)
        return
    with ThreadPoolExecutor(plan.threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield Runner(plan, pool)


def _with_leading_one(result: Result) -> Result:
    def lead(leaf: Tensor) -> Tensor:
        return leaf.unsqueeze(0)

    led: Result = pytree.tree_map(lead, result)
    return led
