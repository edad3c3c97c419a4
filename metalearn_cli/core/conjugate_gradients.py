"""Linear systems that are known by their product with a vector alone, for many tasks at once.

Legend: T tasks, D unknowns.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Solution(NamedTuple):
    """The x [T, D] that was reached, and which tasks [T] were cut short by a direction of negative curvature."""

    x: Tensor
    cut_short: Tensor


def conjugate_gradients(product: Callable[[Tensor], Tensor], right: Tensor, steps: int) -> Solution:
    """An x [T, D] with `product(x)` near `right` [T, D]; exactly so after D steps, but for rounding.

    The system of each task is symmetric and positive definite (Hestenes & Stiefel 1952). A task that is solved to
    rounding, or whose system turns out not to be positive definite, keeps the x that it has reached.
    """
    x, residual, direction = torch.zeros_like(right), right, right
    square = residual.square().sum(1, keepdim=True)
    enough = square * torch.finfo(right.dtype).eps ** 2
    goes_on = square > 0
    cut_short = torch.zeros_like(goes_on)
    for _ in range(steps):
        image = product(direction)
        curvature = (direction * image).sum(1, keepdim=True)
        goes_on = goes_on & (square > enough)
        cut_short = cut_short | (goes_on & (curvature <= 0))
        goes_on = goes_on & (curvature > 0)
        rate = torch.where(goes_on, square / curvature, 0.0)
        x, residual = x + rate * direction, residual - rate * image
        following = residual.square().sum(1, keepdim=True)
        direction = residual + torch.where(goes_on, following / square, 0.0) * direction
        square = following
    return Solution(x, cut_short.squeeze(1))
