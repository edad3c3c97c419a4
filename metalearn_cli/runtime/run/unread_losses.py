"""Keeps losses on a GPU until they are needed.

Reading a number from a GPU waits for everything that was queued before it, and meanwhile the GPU gets no new work. So
losses stay on the device until a report or a checkpoint needs them, and so does the flag that a step was finite.

If a step gives NaN or Inf, the device itself undoes it and all later steps. When the flag is read, the learner is still
the one before that step, and the step can be computed again to find its cause.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metalearn_cli.core.meta import Meta
from metalearn_cli.runtime.run.outer_step import leaves

MOST = 100
"""The largest number of unread iterations: at most so many are undone if the first of them was not finite."""


class Row(NamedTuple):
    """The loss and the score of an iteration, and whether its gradient and the learner after it were finite."""

    loss: float
    score: float
    gradient: bool
    learner: bool


class Unread:
    """The rows that wait on the device, in the order of their iterations."""

    def __init__(self) -> None:
        self._rows: list[Tensor] = []
        self._sound: Tensor | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def sound(self, gradient: Tensor) -> Tensor:
        """Whether all gradients up to this one were finite, as a bool on the device; `gradient` is that of this one."""
        self._sound = gradient if self._sound is None else self._sound & gradient
        return self._sound

    def add(self, loss: Tensor, score: Tensor, gradient: Tensor, learner: Tensor) -> None:
        """Add a row; the four values stay on the device."""
        self._rows.append(torch.stack([loss.double(), score.double(), gradient.double(), learner.double()]))

    def read(self) -> list[Row]:
        """Return all rows and forget them; this waits for the device once."""
        rows = torch.stack(self._rows).tolist() if self._rows else []
        self._rows, self._sound = [], None
        return [Row(loss, score, bool(gradient), bool(learner)) for loss, score, gradient, learner in rows]


def copied(meta: Meta) -> dict[str, Tensor]:
    """Copies of Meta's tensors, by their stable names."""
    return {name: value.clone() for name, value in leaves(meta).items()}


def put_back_unless(sound: Tensor, meta: Meta, before: dict[str, Tensor]) -> None:
    """Set `meta` back to `before` unless `sound` is true; the device decides, without a wait."""
    for name, value in leaves(meta).items():
        value.copy_(torch.where(sound, value, before[name]))
