"""What a device has computed and nobody has read yet.

To read a number from a GPU is to wait for all that was asked of it before, and meanwhile it gets nothing new to do. So
losses stay there until somebody has to know them, and so does the answer to whether a step was finite.

A step that was not is never taken: the device itself puts the learner back, then and ever after, so that what led to it
can be computed once more when it becomes known.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metalearn_cli.core.meta import Meta
from metalearn_cli.runtime.run.outer_step import leaves

MOST = 100
"""Iterations that may be unread: so many are lost where the first of them was not finite."""


class Row(NamedTuple):
    """The loss and score of an iteration, and whether its gradient and the learner after it were finite."""

    loss: float
    score: float
    gradient: bool
    learner: bool


class Unread:
    """Rows that wait on the device, in the order of their iterations."""

    def __init__(self) -> None:
        self._rows: list[Tensor] = []
        self._sound: Tensor | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def sound(self, gradient: Tensor) -> Tensor:
        """Whether every gradient up to this one was finite, given whether this one is; on the device."""
        self._sound = gradient if self._sound is None else self._sound & gradient
        return self._sound

    def add(self, loss: Tensor, score: Tensor, gradient: Tensor, learner: Tensor) -> None:
        """A row more; the four are on the device."""
        self._rows.append(torch.stack([loss.double(), score.double(), gradient.double(), learner.double()]))

    def read(self) -> list[Row]:
        """All rows, which are no longer unread; waits for the device once."""
        rows = torch.stack(self._rows).tolist() if self._rows else []
        self._rows, self._sound = [], None
        return [Row(loss, score, bool(gradient), bool(learner)) for loss, score, gradient, learner in rows]


def copied(meta: Meta) -> dict[str, Tensor]:
    """Meta's tensors as they are now, by their stable names."""
    return {name: value.clone() for name, value in leaves(meta).items()}


def put_back_unless(sound: Tensor, meta: Meta, before: dict[str, Tensor]) -> None:
    """`meta` is as it was `before`, unless `sound`; which of the two only the device knows."""
    for name, value in leaves(meta).items():
        value.copy_(torch.where(sound, value, before[name]))
