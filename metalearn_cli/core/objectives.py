"""Objectives: the loss and the score of a learner's outputs, for classes and for values.

Legend: T tasks, N examples.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Objective(NamedTuple):
    """An objective: `loss(outputs, targets)` [T] is minimised, `score(outputs, targets)` [T] is reported."""

    name: Literal["accuracy", "mse"]
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], Tensor]


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy [T] of `outputs` [T, N, ways] with the classes `targets` [T, N], averaged over N."""
    # torch's cross_entropy knows no tasks: they are flattened away, and each task's mean is taken afterwards.
    losses = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view(targets.shape).mean(1)


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The share [T] of the N rows of `outputs` [T, N, ways] whose largest entry is at `targets` [T, N].

    A row with NaN or Inf counts as wrong: argmax would return the position of the first NaN, possibly the right class.
    """
    right = (outputs.argmax(-1) == targets) & outputs.isfinite().all(-1)
    return right.to(outputs.dtype).mean(1)


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean [T] of (outputs - targets)^2 over all axes but T."""
    return (outputs - targets).square().flatten(1).mean(1)


def regression_in(units: Sequence[float]) -> Objective:
    """Squared error of targets that were divided by `units`: the loss as they are, the score in their own units.

    For several targets the score is the mean of their errors.
    """

    def score(outputs: Tensor, targets: Tensor) -> Tensor:
        errors = (outputs - targets).square().mean(1)  # [T, targets]
        # Python's numbers, because a tensor of units would have to be copied to the device.
        return torch.stack([errors[:, place] * unit**2 for place, unit in enumerate(units)], 1).mean(1)

    return Objective("mse", squared_error, score)


classification = Objective("accuracy", cross_entropy, accuracy)
regression = Objective("mse", squared_error, squared_error)
