"""A task is a value: a support set to learn from and a query set to be judged on.

A batch of tasks is the same type with a leading T on every tensor, and what runs tasks always takes a batch.

Legend: T tasks, N examples.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Examples(NamedTuple):
    """Inputs [N, ...] and targets: classes 0..ways-1 as int64 [N], or values [N, outputs].

    `ways` is known to those who drew the classes; without it one has to look, and wait for the device that holds them.
    Examples to train on also have the `keys` [T] of their tasks, int64: what is random in training is a function of
    them (layers/random_bits.py).
    """

    inputs: Tensor
    targets: Tensor
    ways: int | None = None
    keys: Tensor | None = None


def ways_of(examples: Examples) -> int:
    """How many classes the targets are of."""
    return int(examples.targets.max()) + 1 if examples.ways is None else examples.ways


class Task(NamedTuple):
    """A support set and a query set, or T of each."""

    support: Examples
    query: Examples


def keyed(tasks: Task, keys: Tensor | None) -> Task:
    """The same T tasks, whose examples know their keys [T]."""
    return Task(*(half._replace(keys=keys) for half in tasks))


def tasks_between(tasks: Task, start: int, stop: int) -> Task:
    """Tasks `start` to `stop` - 1 of a batch, as a batch."""
    return with_each(tasks, lambda values: values[start:stop])


def with_each(tasks: Task, change: Callable[[Tensor], Tensor]) -> Task:
    """The tasks after a change of every tensor, keys among them."""
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
