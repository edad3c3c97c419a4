"""A task is a value: a support set to learn from and a query set to be judged on.

A batch of T tasks has the same type, with a leading T on every tensor. All functions that run tasks take a batch.

Legend: T tasks, N examples.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Examples(NamedTuple):
    """Inputs [N, ...] and their targets: classes 0..ways-1 as int64 [N], or for regression values [N, outputs].

    `ways`: the number of classes. If it is None, `ways_of` reads it from the targets, which waits for a GPU.
    `keys`: int64 [T], one for each training task; random layers (drop-block) are functions of them
        (layers/random_bits.py). None in evaluation.

    >>> import torch
    >>> seen = Examples(torch.rand(4, 1, 28, 28), torch.tensor([0, 0, 1, 1]))  # two pictures of each of two classes
    >>> ways_of(seen)
    2
    """

    inputs: Tensor
    targets: Tensor
    ways: int | None = None
    keys: Tensor | None = None


def ways_of(examples: Examples) -> int:
    """The number of classes: `examples.ways`, or the largest target plus one."""
    # int() of a tensor on a GPU waits for the GPU; samplers therefore set `ways`.
    return int(examples.targets.max()) + 1 if examples.ways is None else examples.ways


class Task(NamedTuple):
    """A support set and a query set; with a leading T on every tensor, T of each.

    >>> import torch
    >>> support = Examples(torch.rand(8, 2, 1, 28, 28), torch.tensor([0, 1]).expand(8, 2))  # 8 tasks, 2-way 1-shot
    >>> query = Examples(torch.rand(8, 6, 1, 28, 28), torch.tensor([0, 0, 0, 1, 1, 1]).expand(8, 6))
    >>> count(Task(support, query))
    8
    """

    support: Examples
    query: Examples


def keyed(tasks: Task, keys: Tensor | None) -> Task:
    """The same T tasks with `keys` [T] in both their support and their query examples."""
    return Task(*(half._replace(keys=keys) for half in tasks))


def tasks_between(tasks: Task, start: int, stop: int) -> Task:
    """The batch of tasks `start` to `stop` - 1 of a batch."""
    return with_each(tasks, lambda values: values[start:stop])


def with_each(tasks: Task, change: Callable[[Tensor], Tensor]) -> Task:
    """The tasks with `change` applied to every tensor: inputs, targets and keys."""
    return Task(
        *(
            half._replace(
                inputs=change(half.inputs),
                targets=change(half.targets),
                keys=None if half.keys is None else change(half.keys),
            )
            for half in tasks
        )
    )


def count(tasks: Task) -> int:
    """T, the number of tasks in a batch."""
    return tasks.support.inputs.shape[0]
