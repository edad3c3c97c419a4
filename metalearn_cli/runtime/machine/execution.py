"""Ways to run T tasks at once. All give the same numbers up to rounding; tests compare them in float64.

Legend: T tasks, c tasks in a chunk.
"""

import gc
import math
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Literal, NamedTuple, TypeVar

import torch
from torch.utils import _pytree as pytree

from metalearn_cli.core.meta import Meta, Scores
from metalearn_cli.core.tasks import Task, count, tasks_between
from metalearn_cli.errors import DeviceError, is_out_of_memory
from metalearn_cli.experiment.blocks import Execution
from metalearn_cli.layers.cpu.kernels import threads_of_kernels, threads_of_torch
from metalearn_cli.runtime.machine.graph_recording import Record, Recorder, by_cuda
from metalearn_cli.runtime.machine.matrix_products import Precision, products_in
from metalearn_cli.runtime.machine.memory import keep_freed_memory, require_memory
from metalearn_cli.runtime.machine.ranks import processes_here

_LARGEST_CHUNK = 64
_TINY, _VALUES_AT_ONCE = 4096, 1_000_000
_BYTES_AS_DRAWN = 8  # a float32 as it was drawn, and once more in the support or the query set

Result = TypeVar("Result")
OfTasks = Callable[[Meta, Task], Result]
"""A function of a batch of tasks; no task sees another."""


class Plan(NamedTuple):
    """`loop`: one task after the other, by a network that does so too: the reference. `vmap`: `chunk` tasks at once.

    `threads`: the same chunks, shared out among `threads` threads of one intra-op thread each. The numbers depend
    on `chunk` (to rounding) but not on `threads`. With `vmap` and `compiled` kernels, the kernels have the threads.
    """

    mode: Literal["loop", "vmap", "threads"]
    chunk: int
    threads: int
    compiled: bool = False

    @property
    def at_once(self) -> int:
        """The number of tasks that are computed at the same moment."""
        return self.chunk * self.threads if self.mode == "threads" else self.chunk if self.mode == "vmap" else 1


def plan_for(
    device: torch.device, settings: Execution, values_per_task: int, tasks: int, compiled: bool = False
) -> Plan:
    """The plan for `tasks` tasks with `values_per_task` input values each, from the settings and the device.

    `auto` means threads on a CPU and vmap elsewhere. It means vmap on a CPU too if there are fewer tasks than threads,
    or if one task is larger than the caches: then torch's own threads are faster (measured on two cores, with half the
    memory). With `compiled` kernels, which hold less and share out less, threads are faster for large tasks too, each
    with one task at a time (two at a time are 1.04 times as fast on photos of 84 x 84, and hold 1.8 times as much).
    Tiny tasks, for which a call costs more than its arithmetic, are one chunk; otherwise a chunk is about as
    large as the caches, and at most a thread's share of the tasks. Nothing is measured here, so the same experiment has
    the same plan, and the same numbers, on each run of a machine. Set `execution.chunk` for the same numbers on
    machines with other numbers of cores.

    Raises ConfigError for more tasks than this machine's memory holds.
    """
    require_memory(
        tasks * values_per_task * _BYTES_AS_DRAWN,
        f"{tasks:,} tasks at once of {values_per_task:,} input values each",
        "make outer.meta_batch_size, or a task's ways, shots or queries smaller",
    )
    on_cpu = device.type == "cpu"
    threads = settings.threads or usable_cores()
    by_threads = on_cpu and tasks >= threads and (compiled or values_per_task <= _VALUES_AT_ONCE)
    mode = settings.mode if settings.mode != "auto" else "threads" if by_threads else "vmap"
    if mode == "threads" and not on_cpu:
        mode = "vmap"  # a GPU has nothing to gain from threads, and records what one of them asks for
    chunk = _LARGEST_CHUNK
    if on_cpu and values_per_task > _TINY:
        near_the_caches = 2 ** round(math.log2(max(1.0, _VALUES_AT_ONCE / values_per_task)))
        fair_share = math.ceil(tasks / (threads if mode == "threads" else 1))
        chunk = max(1, min(near_the_caches, fair_share, _LARGEST_CHUNK))
    return Plan(mode, settings.chunk or chunk, threads, compiled and on_cpu and mode == "vmap")


def record_for(device: torch.device, settings: Execution) -> Record | None:
    """The recorder of meta-gradients on a device; None if they are not recorded there."""
    return partial(by_cuda, device) if device.type == "cuda" and settings.cuda_graph else None


def usable_cores() -> int:
    """The number of cores for this process; the processes of one run on a machine share its cores equally."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // processes_here())


def _smaller(plan: Plan, tasks: int) -> Plan | None:
    """A plan that takes less memory; None if there is none."""
    largest = min(plan.chunk, tasks)
    if plan.mode != "loop" and largest > 1:
        return plan._replace(chunk=largest // 2)
    return plan._replace(mode="vmap", chunk=1) if plan.mode == "threads" else None


class Runner:
    """Runs a function on many tasks, as a plan says; owns the threads. `running(plan)` makes it.

    If a chunk of the plan does not fit into the memory, the Runner changes to a smaller plan, and `say` gets a line.
    """

    def __init__(
        self, plan: Plan, pool: ThreadPoolExecutor | None, say: Callable[[str], None], record: Record | None = None
    ) -> None:
        self.plan = plan
        self._pool = pool
        self._say = say
        self._recorder = Recorder(record, say) if record else None

    @property
    def _recording(self) -> bool:
        return self._recorder is not None and self._recorder.recording

    def chunks(self, function: OfTasks[Result], meta: Meta, tasks: Task) -> list[Result]:
        """The function's results for c tasks at a time, in the order of the tasks.

        Raises DeviceError if the memory does not hold a single task.
        """
        while True:
            try:
                return self._chunks(function, meta, tasks)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self._recording:
                    raise
                smaller = _smaller(self.plan, count(tasks))
                if smaller is None:
                    raise DeviceError(
                        "out of memory with one task at a time; try fewer queries, a smaller backbone or, with many "
                        "inner steps, algorithm.gradient=mixed"
                    ) from None
            # Out of the handler, so that nothing holds on to the tensors of the attempt.
            self._go_on_with(smaller)

    def _go_on_with(self, plan: Plan) -> None:
        if plan.mode != self.plan.mode:  # no longer threads of ours
            torch.set_num_threads(plan.threads)
        self.plan = plan
        with suppress(RuntimeError):  # after a recording that failed torch may refuse
            torch.cuda.empty_cache()  # does nothing where no GPU is in use
        self._say(
            f"out of memory; from now on {plan.chunk} tasks at once (from the start with --set "
            f"execution.chunk={plan.chunk}{'' if plan.mode == 'threads' else f' --set execution.mode={plan.mode}'})"
        )

    def _chunks(self, function: OfTasks[Result], meta: Meta, tasks: Task) -> list[Result]:
        size = 1 if self.plan.mode == "loop" else self.plan.chunk

        def run(start: int) -> Result:
            return function(meta, tasks_between(tasks, start, start + size))

        starts = range(0, count(tasks), size)
        pool = self._pool if self.plan.mode == "threads" else None
        return list(pool.map(run, starts)) if pool else [run(start) for start in starts]

    def each(self, function: OfTasks[Scores], meta: Meta, tasks: Task) -> Scores:
        """The scores of every task, [T, ...]."""
        return joined_scores(self.chunks(function, meta, tasks))

    def total(
        self, function: OfTasks[tuple[Meta, Scores]], meta: Meta, tasks: Task, key: Hashable = None
    ) -> tuple[Meta, Scores]:
        """The meta-gradients of the tasks, summed in their order, and the scores of every task, [T].

        If a recording is replayed, the next call overwrites both. A recording is chosen by `key`: functions with the
        same `key` must be the same.
        """
        if self._recorder is None:
            return self._total(function, meta, tasks)
        return self._recorder((key or function, self.plan), partial(self._total, function), meta, tasks)

    def _total(self, function: OfTasks[tuple[Meta, Scores]], meta: Meta, tasks: Task) -> tuple[Meta, Scores]:
        parts = self.chunks(function, meta, tasks)
        total = parts[0][0]
        for other, _ in parts[1:]:
            total = pytree.tree_map(torch.add, total, other)
        return total, joined_scores([scores for _, scores in parts])


def joined_scores(parts: Sequence[Scores]) -> Scores:
    """The scores of several groups of tasks, one after the other."""
    return Scores(torch.cat([one.loss for one in parts]), torch.cat([one.score for one in parts]))


@contextmanager
def running(
    plan: Plan,
    say: Callable[[str], None] = lambda _line: None,
    record: Record | None = None,
    precision: Precision = "float32",
) -> Iterator[Runner]:
    """A Runner whose threads end with the block. With `record` it replays recorded meta-gradients (only on a GPU)."""
    keep_freed_memory()
    with products_in(precision), ExitStack() as stack:
        # Python's search for garbage would look at all objects of torch again and again.
        gc.freeze()
        stack.callback(gc.unfreeze)
        pool = None
        if plan.mode == "threads":
            # Torch's own threads wait in a busy loop for the next operation, on the cores that ours need.
            stack.enter_context(threads_of_torch(1))
            threads = ThreadPoolExecutor(plan.threads, initializer=torch.set_num_threads, initargs=(1,))
            pool = stack.enter_context(threads)
        elif plan.compiled:
            stack.enter_context(threads_of_kernels(plan.threads))
        yield Runner(plan, pool, say, record)
