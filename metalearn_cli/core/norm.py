"""The one normalisation of this package, right under vmap and in second order, with two ways to see a batch.

Legend: N examples, C channels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_reference: ContextVar[int | None] = ContextVar("reference", default=None)


@contextmanager
def statistics_of_first(examples: int) -> Iterator[None]:
    """Inside the block every TaskNorm takes its statistics from the first `examples` of its batch alone."""
    token = _reference.set(examples)
    try:
        yield
    finally:
        _reference.reset(token)


class TaskNorm(nn.Module):
    """Batch normalisation without memory: statistics of the batch at hand (Ioffe & Szegedy 2015, equation 3).

    Shapes: [N, C, ...] to the same. There are no running statistics, so nothing leaks from task to task; which
    examples the statistics see is decided by `statistics_of_first`.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise each channel, then scale and shift it."""
        shape = (-1, *[1] * (inputs.dim() - 2))
        # The affine stays outside batch_norm: with per-task weights its second derivative under vmap is wrong
        # (torch 2.13), silently and by up to a third.
        return self._normalised(inputs) * self.weight.view(shape) + self.bias.view(shape)

    def _normalised(self, inputs: Tensor) -> Tensor:
        reference = _reference.get()
        if reference is None:
            return F.batch_norm(inputs, None, None, training=True, eps=self.eps)
        dims = [0, *range(2, inputs.dim())]
        variance, mean = torch.var_mean(inputs[:reference], dims, correction=0, keepdim=True)
        return (inputs - mean) * torch.rsqrt(variance + self.eps)
