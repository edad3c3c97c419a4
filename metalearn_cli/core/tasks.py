"""A task is a value: a support set to learn from and a query set to be judged on.

A batch of tasks is the same type with a leading T on every tensor, and what runs tasks always takes a batch.

Legend: T tasks, N examples.
"""

from typing import NamedTuple

from torch import Tensor


class Examples(NamedTuple):
    """Inputs [N, ...] and targets: classes 0..ways-1 as int64 [N], or values [N, outputs]."""

    inputs: Tensor
    targets: Tensor


class Task(NamedTuple):
    """A support set and a query set, or T of each."""

    support: Examples
    query: Examples


def tasks_between(tasks: Task, start: int, stop: int) -> Task:
    """Tasks `start` to `stop` - 1 of a batch, as a batch."""
    return Task(
        Examples(tasks.support.inputs[start:stop], tasks.support.targets[start:stop]),
        Examples(tasks.query.inputs[start:stop], tasks.query.targets[start:stop]),
    )


def count(tasks: Task) -> int:
    """T, the number of tasks in a batch."""
    return tasks.support.inputs.shape[0]
