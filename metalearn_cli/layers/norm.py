"""The normalisations of this package, right for many tasks at once and in second order.

TaskNorm takes the statistics of its whole batch, of the batch's first examples alone, or ones that are known before, as
the pass says (layers/passing.py). TaskGroupNorm takes those of one example at a time.

Legend: T tasks, N examples, C channels, M = N x height x width values of a channel, [.] mean over M.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.cpu.normalising import Known, gradients, normalise, second_gradients
from metalearn_cli.layers.passing import BY_BATCH, Moments, Params, Pass


class TaskNorm(nn.Module):
    """Batch normalisation without memory: statistics of the batch at hand (Ioffe & Szegedy 2015, equation 3).

    Shapes: [N, C, ...] to the same. There are no running statistics, so nothing leaks from task to task; the pass says
    which examples the statistics see. It can be differentiated twice, which is what a meta-gradient needs; a third
    time raises RuntimeError.

    `how` is the pass that `forward` goes by. Network sets it around a call of a module that is not of this package,
    whose own `forward` cannot hand it on.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.how = BY_BATCH
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise each channel of one task, then scale and shift it."""
        shape = (-1, *[1] * (inputs.dim() - 2))
        normalised = self._by_others(inputs.unsqueeze(0), self.how)
        # The affine stays outside batch_norm: with per-task weights its second derivative under vmap is wrong
        # (torch 2.13), silently and by up to a third.
        alone = F.batch_norm(inputs, None, None, training=True, eps=self.eps) if normalised is None else normalised[0]
        return alone * self.weight.view(shape) + self.bias.view(shape)

    def over_tasks(self, params: Params, inputs: Tensor, how: Pass = BY_BATCH) -> Tensor:
        """The same for inputs [T, N, C, ...] and a weight and a bias [T, C]."""
        weight, bias = params["weight"], params["bias"]
        shape = (len(inputs), 1, -1, *[1] * (inputs.dim() - 3))
        normalised = self._by_others(inputs, how)
        if normalised is not None:
            return normalised * weight.view(shape) + bias.view(shape)
        if inputs.device.type == "cpu":
            last = inputs.movedim(2, -1)
            rows = last.reshape(len(inputs), -1, last.shape[-1]).contiguous()
            outputs: Tensor = _Normalised.apply(rows, weight, bias, self.eps)  # type: ignore[no-untyped-call]
            return outputs.view(last.shape).movedim(-1, 2)
        beside = inputs.transpose(0, 1).flatten(1, 2)
        outputs = F.batch_norm(beside, None, None, weight.flatten(), bias.flatten(), training=True, eps=self.eps)
        tasks, examples, *rest = inputs.shape
        return outputs.view(examples, tasks, *rest).transpose(0, 1)

    def _by_others(self, inputs: Tensor, how: Pass) -> Tensor | None:
        """[T, N, C, ...] normalised by what is not all of its own batch; None where the batch is all."""
        if how.by_batch:
            return None
        if how.collected is not None:
            if torch._C._functorch.is_batchedtensor(inputs):
                raise ConfigError("task.running_statistics: torch hides from a norm which of several tasks is which")
            mean, variance = _moments(inputs)
            how.collect(len(inputs), (mean.sum(0), variance.sum(0)))
        if (moments := how.moments_here()) is not None:
            mean, variance = (value.unsqueeze(0) for value in moments)
            return _scaled(inputs, mean, variance, self.eps)
        return None if how.reference is None else _scaled(inputs, *_moments(inputs[:, : how.reference]), self.eps)


class TaskGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` (Wu & He 2018, https://arxiv.org/abs/1803.08494) that also runs many tasks at once.

    Its statistics are those of one example, so that none sees another, in training or after.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise each example [N, C, ...] of one task in groups of channels, then scale and shift the channels."""
        own = {"weight": self.weight.unsqueeze(0), "bias": self.bias.unsqueeze(0)}
        return self.over_tasks(own, inputs[None], BY_BATCH)[0]

    def over_tasks(self, params: Params, inputs: Tensor, _how: Pass = BY_BATCH) -> Tensor:
        """The same for inputs [T, N, C, ...] and a weight and a bias [T, C]."""
        shape = (len(inputs), 1, -1, *[1] * (inputs.dim() - 3))
        # In plain operations: with torch's own group_norm (2.13) second-order gradients of many tasks at once were not
        # those of one at a time, by far.
        groups = inputs.reshape(*inputs.shape[:2], self.num_groups, -1)
        centred = groups - groups.mean(-1, keepdim=True)
        scale = torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps)
        normalised = (centred * scale).reshape(inputs.shape)
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
    """(inputs - mean) / sqrt(variance + eps) per channel, for a mean and a variance [T, C] or [1, C]."""
    shape = (len(mean), 1, -1, *[1] * (inputs.dim() - 3))
    return (inputs - mean.view(shape)) * torch.rsqrt(variance + eps).view(shape)


class _Normalised(Function):
    """layers/cpu/normalising.py as a function of inputs [T, M, C], weight and bias [T, C]."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        outputs = torch.empty_like(inputs)
        known = Known(inputs, weight.new_empty(weight.shape), weight.new_empty(weight.shape))
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
        gradient = gradient.contiguous()
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
        found = second_gradients(
            (u.contiguous(), v, z), gradient, weight, Known(*known), before, eps=ctx.eps, out=of_inputs
        )
        return found[0], of_inputs, found[1], None, None, None
