"""The normalisations of this package, right for many tasks at once and in second order.

TaskNorm has three ways to see a batch: all of it, its first examples alone, or with statistics that are known before.
TaskGroupNorm sees one example at a time.

Legend: T tasks, N examples, C channels, M = N x height x width values of a channel, [.] mean over M.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from metalearn_cli.core.network import Params
from metalearn_cli.core.normalising import Known, gradients, normalise, second_gradients
from metalearn_cli.errors import ConfigError

Moments = tuple[Tensor, Tensor]
"""A mean and a variance, [C]."""

_reference: ContextVar[int | None] = ContextVar("reference", default=None)
_known: ContextVar[Mapping[str, Moments] | None] = ContextVar("known", default=None)
_watched: ContextVar[dict[str, Moments] | None] = ContextVar("watched", default=None)


@contextmanager
def statistics_of_first(examples: int) -> Iterator[None]:
    """Inside the block every TaskNorm takes its statistics from the first `examples` of its batch alone."""
    token = _reference.set(examples)
    try:
        yield
    finally:
        _reference.reset(token)


@contextmanager
def known_statistics(moments: Mapping[str, Moments]) -> Iterator[None]:
    """Inside the block every TaskNorm takes the moments that stand under its label, whatever its batch."""
    token = _known.set(moments)
    try:
        yield
    finally:
        _known.reset(token)


@contextmanager
def watched_statistics() -> Iterator[dict[str, Moments]]:
    """The moments that every TaskNorm's batches had inside the block, by label, summed over tasks."""
    seen: dict[str, Moments] = {}
    token = _watched.set(seen)
    try:
        yield seen
    finally:
        _watched.reset(token)


class TaskNorm(nn.Module):
    """Batch normalisation without memory: statistics of the batch at hand (Ioffe & Szegedy 2015, equation 3).

    Shapes: [N, C, ...] to the same. There are no running statistics, so nothing leaks from task to task; which
    examples the statistics see is decided by `statistics_of_first`. It can be differentiated twice, which is what a
    meta-gradient needs; a third time raises RuntimeError.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.label = ""
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise each channel of one task, then scale and shift it."""
        shape = (-1, *[1] * (inputs.dim() - 2))
        normalised = self._by_others(inputs.unsqueeze(0))
        # The affine stays outside batch_norm: with per-task weights its second derivative under vmap is wrong
        # (torch 2.13), silently and by up to a third.
        alone = F.batch_norm(inputs, None, None, training=True, eps=self.eps) if normalised is None else normalised[0]
        return alone * self.weight.view(shape) + self.bias.view(shape)

    def over_tasks(self, params: Params, inputs: Tensor) -> Tensor:
        """The same for inputs [T, N, C, ...] and a weight and a bias [T, C]."""
        weight, bias = params["weight"], params["bias"]
        shape = (len(inputs), 1, -1, *[1] * (inputs.dim() - 3))
        normalised = self._by_others(inputs)
        if normalised is not None:
            return normalised * weight.view(shape) + bias.view(shape)
        if inputs.device.type == "cpu":
            last = inputs.movedim(2, -1)
            rows = last.reshape(len(inputs), -1, last.shape[-1])
            outputs: Tensor = _Normalised.apply(rows, weight, bias, self.eps)  # type: ignore[no-untyped-call]
            return outputs.view(last.shape).movedim(-1, 2)
        beside = inputs.transpose(0, 1).flatten(1, 2)
        outputs = F.batch_norm(beside, None, None, weight.flatten(), bias.flatten(), training=True, eps=self.eps)
        tasks, examples, *rest = inputs.shape
        return outputs.view(examples, tasks, *rest).transpose(0, 1)

    def by_others(self) -> bool:
        """Whether its statistics are not simply those of its batch, or somebody wants to see them."""
        return any(one.get() is not None for one in (_reference, _known, _watched))

    def _by_others(self, inputs: Tensor) -> Tensor | None:
        """[T, N, C, ...] normalised by what is not all of its own batch; None where nothing else is asked for."""
        seen, known = _watched.get(), _known.get()
        if seen is not None:
            if torch._C._functorch.is_batchedtensor(inputs):
                raise ConfigError("task.running_statistics: only for backbones that are made of this package's layers")
            moments = tuple(value.sum(0) for value in _moments(inputs))
            before = seen.get(self.label, (torch.zeros_like(moments[0]),) * 2)
            seen[self.label] = before[0] + moments[0], before[1] + moments[1]
        if known is not None:
            mean, variance = (value.unsqueeze(0) for value in known[self.label])
            return _scaled(inputs, mean, variance, self.eps)
        reference = _reference.get()
        return None if reference is None else _scaled(inputs, *_moments(inputs[:, :reference]), self.eps)


class TaskGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` (Wu & He 2018, https://arxiv.org/abs/1803.08494) that also runs many tasks at once.

    Its statistics are those of one example, so that none sees another, in training or after.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise each example [N, C, ...] of one task in groups of channels, then scale and shift the channels."""
        return self.over_tasks({"weight": self.weight.unsqueeze(0), "bias": self.bias.unsqueeze(0)}, inputs[None])[0]

    def over_tasks(self, params: Params, inputs: Tensor) -> Tensor:
        """The same for inputs [T, N, C, ...] and a weight and a bias [T, C]."""
        shape = (len(inputs), 1, -1, *[1] * (inputs.dim() - 3))
        # In plain operations: with torch's own group_norm (2.13) second-order gradients of many tasks at once were not
        # those of one at a time, by far.
        groups = inputs.reshape(*inputs.shape[:2], self.num_groups, -1)
        centred = groups - groups.mean(-1, keepdim=True)
        scale = torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps)
        normalised = (centred * scale).view(inputs.shape)
        return normalised * params["weight"].view(shape) + params["bias"].view(shape)


NORMS = (TaskNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
"""Every norm that a network may have, with a scale and mostly a shift, whatever its statistics are those of."""


def _moments(inputs: Tensor) -> Moments:
    """Mean and variance [T, C] of [T, N, C, ...]."""
    rows = inputs.movedim(2, -1).flatten(1, -2)
    mean = rows.mean(1)
    # In two passes over rows of channels: torch's own variance is an order slower on them.
    return mean, (rows - mean.unsqueeze(1)).square().mean(1)


def _scaled(inputs: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
    """[T, N, C, ...] less a mean, by the root of a variance, [T, C] or [1, C]."""
    shape = (len(mean), 1, -1, *[1] * (inputs.dim() - 3))
    return (inputs - mean.view(shape)) * torch.rsqrt(variance + eps).view(shape)


class _Normalised(Function):
    """core/normalising.py as a function of inputs [T, M, C], weight and bias [T, C]."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        outputs = torch.empty_like(inputs)
        known = Known(inputs, torch.empty_like(weight), torch.empty_like(weight))
        normalise(known, weight, bias, eps, outputs)
        ctx.eps = eps
        ctx.save_for_backward(*known, weight)
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        inputs, mean, scale, weight = ctx.saved_tensors
        return *_Gradients.apply(gradient, inputs, weight, mean, scale, ctx.eps), None  # type: ignore[no-untyped-call]


class _Gradients(Function):
    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, inputs: Tensor, weight: Tensor, mean: Tensor, scale: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        found = gradients(gradient, weight, Known(inputs, mean, scale), eps)
        ctx.eps = eps
        ctx.save_for_backward(gradient, weight, *found[1:], inputs, mean, scale)
        return found

    @staticmethod
    def backward(ctx: Any, u: Tensor, v: Tensor, z: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # the formulas take mean and scale for constants
            raise RuntimeError("TaskNorm can be differentiated twice, not three times")
        gradient, weight, of_weight, of_bias, *known = ctx.saved_tensors
        before, of_inputs = (of_weight, of_bias), torch.empty_like(gradient)
        found = second_gradients((u, v, z), gradient, weight, Known(*known), before, ctx.eps, of_inputs)
        return found[0], of_inputs, found[1], None, None, None
