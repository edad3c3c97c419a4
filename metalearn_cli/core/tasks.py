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
    """

    inputs: Tensor
    targets: Tensor
    ways: int | None = None


def ways_of(examples: Examples) -> int:
    """How many classes the targets are of."""
    return int(examples.targets.max()) + 1 if examples.ways is None else examples.ways


class Task(NamedTuple):
    """A support set and a query set, or T of each.

    Tasks to train on also have `keys` [T], int64: what is random in training is a function of them (core/chance.py).
    """

    support: Examples
    query: Examples
    keys: Tensor | None = None

    @property
    def halves(self) -> tuple[Examples, Examples]:
        """Support and query set."""
        return self.support, self.query


def tasks_between(tasks: Task, start: int, stop: int) -> Task:
    """Tasks `start` to `stop` - 1 of a batch, as a batch."""
    return with_each(tasks, lambda values: values[start:stop])


def with_each(tasks: Task, change: Callable[[Tensor], Tensor]) -> Task:
    """The tasks after a change of every tensor, keys among them."""
    support, query = (half._replace(inputs=change(half.inputs), targets=change(half.targets)) for half in tasks.halves)
    return Task(support, query, None if tasks.keys is None else change(tasks.keys))


def count(tasks: Task) -> int:
    """T, the number of tasks in a batch."""
    return tasks.support.inputs.shape[0]
