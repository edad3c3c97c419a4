"""Conjugate gradients: solve A x = b for many tasks at once, given only the function x -> A x.

Legend: T tasks, D unknowns.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Solution(NamedTuple):
    """`x` [T, D] is the last iterate; `cut_short` [T] is true for tasks that stopped early at too low a curvature."""

    x: Tensor
    cut_short: Tensor


def conjugate_gradients(product: Callable[[Tensor], Tensor], right: Tensor, steps: int, least: float = 0.0) -> Solution:
    """Solve A x = b for each task, where `product(v)` is A v and b is `right` [T, D]; D steps solve it to rounding.

    A must be symmetric and positive definite (Hestenes & Stiefel 1952). A task stops early, and keeps its last x, if
    its residual has reached rounding error or if a direction p has a curvature p^T A p / p^T p of `least` or less. With
    0, that is one which shows that A is not positive definite; a step along p is at most 1 / `least` residuals long.
    """
    # Start at x = 0, where the residual b - A x is b itself.
    x, residual, direction = torch.zeros_like(right), right, right
    square = residual.square().sum(1, keepdim=True)
    enough = square * torch.finfo(right.dtype).eps ** 2
    goes_on = square > 0
    # Every task runs all steps, and torch.where freezes those that stopped: tasks share one product per step.
    cut_short = torch.zeros_like(goes_on)
    for _ in range(steps):
        image = product(direction)
        curvature = (direction * image).sum(1, keepdim=True)  # p^T A p
        too_low = curvature <= least * direction.square().sum(1, keepdim=True)
        goes_on = goes_on & (square > enough)
        cut_short = cut_short | (goes_on & too_low)
        goes_on = goes_on & ~too_low
        # torch.where also discards the NaN of 0 / 0 in tasks that have stopped.
        rate = torch.where(goes_on, square / curvature, 0.0)
        x, residual = x + rate * direction, residual - rate * image
        following = residual.square().sum(1, keepdim=True)
        direction = residual + torch.where(goes_on, following / square, 0.0) * direction
        square = following
    return Solution(x, cut_short.squeeze(1))
