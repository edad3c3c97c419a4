"""Norms that are exact for many tasks at once and in second order.

TaskNorm is a batch norm. The pass (layers/passing.py) says which statistics it uses: those of the whole batch, those of
the first examples of the batch, or given ones. TaskGroupNorm uses the statistics of each single example.

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
    """Batch norm without running statistics: y = weight * (x - mean) / sqrt(variance + eps) + bias, per channel.

    Inputs and outputs are [N, C, ...]. Mean and variance are those of the batch at hand (Ioffe & Szegedy 2015,
    equation 3), so nothing passes from task to task; the pass can name other statistics. It can be differentiated
    twice, as a meta-gradient needs; a third derivative raises RuntimeError.

    `how` is the pass that `forward` reads. Network sets it while it calls a foreign module that contains this layer,
    because the foreign `forward` cannot hand a pass on. `forgets` says that it took the place of a norm whose running
    statistics had been trained (only `custom`).

    >>> TaskNorm(1)(torch.tensor([[10.0], [30.0]])).round().tolist()  # (x - 20) / sqrt(100 + eps)
    [[-1.0], [1.0]]
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.forgets = False
        self.how = BY_BATCH
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, inputs: Tensor) -> Tensor:
        """The outputs [N, C, ...] for inputs [N, C, ...] of one task."""
        shape = (-1, *[1] * (inputs.dim() - 2))  # [C] -> [C, 1, ...], beside inputs [N, C, ...]
        normalised = self._by_others(inputs.unsqueeze(0), self.how)
        # The affine stays outside batch_norm: with per-task weights its second derivative under vmap is wrong
        # (torch 2.13), silently and by up to a third.
        alone = F.batch_norm(inputs, None, None, training=True, eps=self.eps) if normalised is None else normalised[0]
        return alone * self.weight.view(shape) + self.bias.view(shape)

    def over_tasks(self, params: Params, inputs: Tensor, how: Pass = BY_BATCH) -> Tensor:
        """The outputs [T, N, C, ...] for inputs [T, N, C, ...] and a weight and a bias [T, C]."""
        weight, bias = params["weight"], params["bias"]
        shape = (len(inputs), 1, -1, *[1] * (inputs.dim() - 3))  # [T, C] -> [T, 1, C, 1, ...]
        normalised = self._by_others(inputs, how)
        if normalised is not None:
            return normalised * weight.view(shape) + bias.view(shape)
        if inputs.device.type == "cpu":
            # Channels last, [T, M, C]: a copy only if the inputs do not lie so already.
            last = inputs.movedim(2, -1)
            rows = last.reshape(len(inputs), -1, last.shape[-1]).contiguous()
            outputs: Tensor = _Normalised.apply(rows, weight, bias, self.eps)  # type: ignore[no-untyped-call]
            return outputs.view(last.shape).movedim(-1, 2)
        # On a GPU the tasks lie beside each other as channels, [N, T * C, ...]: one call normalises each by itself.
        beside = inputs.transpose(0, 1).flatten(1, 2)
        outputs = F.batch_norm(beside, None, None, weight.flatten(), bias.flatten(), training=True, eps=self.eps)
        tasks, examples, *rest = inputs.shape
        return outputs.view(examples, tasks, *rest).transpose(0, 1)

    def _by_others(self, inputs: Tensor, how: Pass) -> Tensor | None:
        """[T, N, C, ...] normalised by other statistics than the whole batch's; None if the whole batch is to be used.

        With `how.collected` it also adds the batch's moments there.
        """
        if how.by_batch:
            return None
        if how.collected is not None:
            if torch._C._functorch.is_batchedtensor(inputs):  # inside vmap, which hides T
                raise ConfigError("task.running_statistics: torch hides from a norm which of several tasks is which")
            mean, variance = _moments(inputs)
            how.collect(len(inputs), (mean.sum(0), variance.sum(0)))
        if (moments := how.moments_here()) is not None:
            mean, variance = (value.unsqueeze(0) for value in moments)
            return _scaled(inputs, mean, variance, self.eps)
        # "support": the first examples of the batch are the support set, and their moments normalise all.
        return None if how.reference is None else _scaled(inputs, *_moments(inputs[:, : how.reference]), self.eps)


class FrozenNorm(nn.Module):
    """A batch norm that keeps the mean and variance of a pretrained network; only its weight and bias learn.

    Mean and variance are parameters with requires_grad=False, so that a checkpoint holds them.
    """

    def __init__(self, mean: Tensor, variance: Tensor, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.mean, self.variance = (nn.Parameter(value, requires_grad=False) for value in (mean, variance))
        self.weight, self.bias = nn.Parameter(torch.ones_like(mean)), nn.Parameter(torch.zeros_like(mean))

    def forward(self, inputs: Tensor) -> Tensor:
        """The outputs [N, C, ...] for inputs [N, C, ...] of one task."""
        own = {name: value.unsqueeze(0) for name, value in self.named_parameters()}
        return self.over_tasks(own, inputs[None], BY_BATCH)[0]

    def over_tasks(self, params: Params, inputs: Tensor, _how: Pass = BY_BATCH) -> Tensor:
        """The outputs [T, N, C, ...] for inputs [T, N, C, ...] and parameters [T, C]."""
        shape = (len(inputs), 1, -1, *[1] * (inputs.dim() - 3))
        normalised = _scaled(inputs, params["mean"], params["variance"], self.eps)
        return normalised * params["weight"].view(shape) + params["bias"].view(shape)


class TaskGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` (Wu & He 2018, https://arxiv.org/abs/1803.08494) that also runs many tasks at once.

    Its statistics are those of one example, so no example changes another's outputs.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """The outputs [N, C, ...] for inputs [N, C, ...] of one task."""
        own = {"weight": self.weight.unsqueeze(0), "bias": self.bias.unsqueeze(0)}
        return self.over_tasks(own, inputs[None], BY_BATCH)[0]

    def over_tasks(self, params: Params, inputs: Tensor, _how: Pass = BY_BATCH) -> Tensor:
        """The outputs [T, N, C, ...] for inputs [T, N, C, ...] and a weight and a bias [T, C]."""
        shape = (len(inputs), 1, -1, *[1] * (inputs.dim() - 3))
        # Plain operations: with torch's group_norm (2.13) the second-order gradients of many tasks at once were far
        # from those of one task at a time.
        # [T, N, C, ...] -> [T, N, groups, values]: the channels of a group lie one after the other.
        groups = inputs.reshape(*inputs.shape[:2], self.num_groups, -1)
        centred = groups - groups.mean(-1, keepdim=True)
        scale = torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps)
        normalised = (centred * scale).reshape(inputs.shape)
        return normalised * params["weight"].view(shape) + params["bias"].view(shape)


NORMS = (TaskNorm, FrozenNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
"""All kinds of norms that a network may have (MAML++ and CAVIA look for their scales and shifts)."""


def _moments(inputs: Tensor) -> Moments:
    """The mean and the variance [T, C] of [T, N, C, ...] over the values of each channel."""
    rows = inputs.movedim(2, -1).flatten(1, -2)
    mean = rows.mean(1)
    # torch's own var is about ten times slower on rows of channels than these two passes.
    return mean, (rows - mean.unsqueeze(1)).square().mean(1)


def _scaled(inputs: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
    """(inputs - mean) / sqrt(variance + eps) per channel, for a mean and a variance [T, C] or [1, C]."""
    shape = (len(mean), 1, -1, *[1] * (inputs.dim() - 3))
    return (inputs - mean.view(shape)) * torch.rsqrt(variance + eps).view(shape)


class _Normalised(Function):
    """The batch norm of inputs [T, M, C] with weight and bias [T, C]; layers/cpu/normalising.py has the formulas."""

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
    """The first derivatives of `_Normalised` as a function of their own, so that they can be differentiated once."""

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
        # u, v, z: the cotangents of the gradients for inputs, weight and bias.
        if torch.is_grad_enabled():  # a third derivative would need those of mean and scale, which are constants here
            raise RuntimeError("TaskNorm can be differentiated twice, not three times")
        gradient, weight, of_weight, of_bias, *known = ctx.saved_tensors
        before, of_inputs = (of_weight, of_bias), torch.empty_like(gradient)
        found = second_gradients(
            (u.contiguous(), v, z), gradient, weight, Known(*known), before, eps=ctx.eps, out=of_inputs
        )
        return found[0], of_inputs, found[1], None, None, None
