"""The first block of a network (convolution, batch norm, activation), whose inputs need no gradient.

A convolution is linear, so the norm's statistics follow from those of the patches. With the patches P minus their means
and a weight w, the variance of a channel is w [P P^T] w^T, and the normalised, scaled and shifted outputs are
s w P + b, those of a convolution with the weight s w. So one matrix product computes them, and no other tensor of the
size of the outputs is kept; all the rest is small, and plain autograd. This matters because the first block has the
largest maps and the smallest patches: outside of matrix products, most of a network's time is spent here. Compiled
kernels (first_patches.py) keep no patches either, and of the outputs only those that a max-pool lets through.

Legend: T tasks, t of them in a tile, N examples, C channels in, O channels out, H x W input size, h x w output size,
k x l kernel, S = k * l * C values in a patch, M = N * h * w patches of a task, P places after the max-pool, [.] mean
over M.
"""

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import Function

from metalearn_cli.layers.cpu.bilinear import Window
from metalearn_cli.layers.cpu.block import Kind
from metalearn_cli.layers.cpu.first_patches import CompiledPatches, TorchPatches


def suits(inputs: Tensor, outputs: int, window: Window) -> bool:
    """Whether `first_block` is possible and faster for inputs [T, N, C, H, W] and `outputs` output channels.

    The inputs must need no gradient, and a patch must have fewer values than there are output channels.
    """
    values = inputs.shape[2] * window.kernel[0] * window.kernel[1]
    return inputs.device.type == "cpu" and not inputs.requires_grad and values < outputs


def first_block(inputs: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, kind: Kind) -> Tensor:
    """Outputs [T, P, O] for inputs [T, N, C, H, W], a weight [T, O, S] and the norm's scale and shift [T, O].

    It can be differentiated any number of times, except for the inputs.
    """
    with torch.no_grad():
        seen: _Seen = (
            TorchPatches(inputs, kind) if kind.kernels is None else CompiledPatches(inputs, kind, kind.kernels)
        )
        covariance = seen.covariance()
    # In float64, because w [P P^T] w^T can cancel almost completely (see first_patches.py).
    exact = weight.double()
    # For every channel w the number w [P P^T] w^T, [T, O]; clamp, because rounding may leave it just below zero.
    variance = ((exact @ covariance) * exact).sum(-1).clamp(min=0)
    by = scale * torch.rsqrt(variance + kind.eps).to(scale.dtype)
    # K = (s w, b): the shift is one more weight, for a patch value that is 1 everywhere.
    kernel = torch.cat([weight * by.unsqueeze(-1), shift.unsqueeze(-1)], -1)
    outputs: Tensor = _Activated.apply(kernel, seen)[0]  # type: ignore[no-untyped-call]
    return outputs


class _Seen(Protocol):
    """The inputs of a first block, prepared for the products of its kernel K [T, O, S + 1], whose last column is b.

    `origin` [T, P, O] says from which place of a window each maximum came; it is empty without a max-pool.
    `to_kernel` and `let_through` are adjoint to each other.
    """

    def covariance(self) -> Tensor:
        """[P P^T], [T, S, S] in float64, of the centred patches."""

    def forward(self, kernel: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs y [T, P, O] and the origin."""

    def to_kernel(self, gradient: Tensor, outputs: Tensor, origin: Tensor, /) -> Tensor:
        """(a'(y) * gradient)^T P^T, [T, O, S + 1], for a gradient [T, P, O]."""

    def let_through(self, kernel: Tensor, outputs: Tensor, origin: Tensor, /) -> Tensor:
        """a'(y) * (P^T K^T), [T, P, O], at the places from which the maxima came."""


class _Activated(Function):
    """The pooled activation of a kernel [T, O, S + 1] times patches, which are constants: [T, P, O]; and its origin."""

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, seen: _Seen) -> tuple[Tensor, Tensor]:
        outputs, origin = seen.forward(kernel)
        ctx.seen = seen
        ctx.mark_non_differentiable(origin)  # positions, not numbers
        ctx.save_for_backward(outputs, origin)
        return outputs, origin

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _of_origin: Tensor) -> tuple[Tensor, None]:
        return _ToKernel.apply(gradient, *ctx.saved_tensors, ctx.seen), None  # type: ignore[no-untyped-call]


class _ToKernel(Function):
    """The derivative of sum(gradient * outputs) for the kernel K [T, O, S + 1]: (a'(y) * gradient)^T P^T.

    It is linear in the gradient [T, P, O], so its own derivative is its adjoint `_LetThrough`, whose adjoint is this
    function again. That is why a first block can be differentiated any number of times.
    """

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, outputs: Tensor, origin: Tensor, seen: _Seen) -> Tensor:
        ctx.seen = seen
        ctx.save_for_backward(outputs, origin)
        return seen.to_kernel(gradient.contiguous(), outputs, origin)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None, None]:
        return _LetThrough.apply(cotangent, *ctx.saved_tensors, ctx.seen), None, None, None  # type: ignore[no-untyped-call]


class _LetThrough(Function):
    """a'(y) * (P^T K^T) for a kernel K, [T, P, O], with the activation's derivative a' at `outputs` y; linear in K."""

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, outputs: Tensor, origin: Tensor, seen: _Seen) -> Tensor:
        ctx.seen = seen
        ctx.save_for_backward(outputs, origin)
        return seen.let_through(kernel, outputs, origin)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None, None]:
        return _ToKernel.apply(cotangent, *ctx.saved_tensors, ctx.seen), None, None, None  # type: ignore[no-untyped-call]
