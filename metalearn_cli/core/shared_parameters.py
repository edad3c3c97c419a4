"""The meta-learned parameters as those of each task: T tasks begin at the same values.

Legend: T tasks.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from metalearn_cli.layers.passing import Params


def for_tasks(params: Params, tasks: int, dense: bool = False) -> Params:
    """The same parameters for each of T tasks, [T, ...], without a copy.

    `dense` copies those that are channels-last in memory (only for a single small task, layers/one_task.py).
    """
    if dense:
        params = {name: value.contiguous() for name, value in params.items()}
    if not torch.is_grad_enabled():  # evaluation: no backward pass, so plain `expand` is enough
        return {name: value.detach().expand(tasks, *value.shape) for name, value in params.items()}
    if tasks == 1:
        return {name: value.unsqueeze(0) for name, value in params.items()}
    return {name: _Shared.apply(value, tasks) for name, value in params.items()}  # type: ignore[no-untyped-call]


class _Shared(Function):
    """Expands a parameter to [T, ...] without a copy; its gradient is the sum over the T tasks."""

    # The backward pass of torch's own `expand` is slow for gradients that are not contiguous, such as those of
    # convolutions, which are channels-last; `summed_over_tasks` sums in the order of memory.

    @staticmethod
    def forward(ctx: Any, value: Tensor, tasks: int) -> Tensor:  # noqa: ARG004
        return value.expand(tasks, *value.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return summed_over_tasks(gradient), None


def summed_over_tasks(value: Tensor) -> Tensor:
    """The sum of [T, ...] over T, taken in the order in which the values lie in memory, which is faster."""
    # Permute the axes after T so that strides fall from left to right, sum, and permute back.
    order = sorted(range(1, value.dim()), key=value.stride, reverse=True)
    back = sorted(range(len(order)), key=order.__getitem__)
    return value.permute(0, *order).sum(0).permute(back)
