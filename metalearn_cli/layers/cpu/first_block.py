"""The first block of a network, convolution, batch norm and activation, where nobody asks for the inputs' gradient.

A convolution is linear, so the norm need not see what it gives: with P the patches of the inputs less their means, a
channel's variance is w [P P'] w', and its normalised values are those of another weight, s w P + b. One product makes
them, and nothing as large as an output is kept but the output; the small rest is plain autograd. The first block has
the largest maps and the smallest patches, and that makes it the greater part of what is not matrix products.

Legend: T tasks, t of them in a tile, N examples, C channels in, O channels out, H x W input size, h x w output size,
k x l kernel, S = k * l * C values in a patch, M = N * h * w patches of a task, [.] mean over M.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from metalearn_cli.layers.cpu.activation import activate_, let_through, let_through_
from metalearn_cli.layers.cpu.block import Kind
from metalearn_cli.layers.cpu.patches import Window, tiles_of

_BYTES_AT_ONCE = 5 << 19
"""Of outputs that are worked on together: more leave a core's cache, fewer are mostly calls."""

_PLACES_AT_ONCE = 512
"""Of which single precision holds a sum of squares well enough."""


def suits(inputs: Tensor, outputs: int, window: Window) -> bool:
    """Whether this is a way, and a fast one, for inputs [T, N, C, H, W] and so many channels out."""
    values = inputs.shape[2] * window.kernel[0] * window.kernel[1]
    return inputs.device.type == "cpu" and not inputs.requires_grad and values < outputs


def first_block(inputs: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, kind: Kind) -> Tensor:
    """Outputs [T, M, O] for inputs [T, N, C, H, W], a weight [T, O, S] and the norm's scale and shift [T, O].

    It can be differentiated as often as need be, but for the inputs.
    """
    with torch.no_grad():
        patches = _centred_patches(inputs, kind.window)
        covariance = torch.stack([_covariance(one[:-1]) for one in patches])
    exact = weight.double()
    variance = ((exact @ covariance) * exact).sum(-1).clamp(min=0)
    by = scale * torch.rsqrt(variance + kind.eps).to(scale.dtype)
    kernel = torch.cat([weight * by.unsqueeze(-1), shift.unsqueeze(-1)], -1)
    outputs: Tensor = _Activated.apply(kernel, patches, kind.slope)  # type: ignore[no-untyped-call]
    return outputs


def _centred_patches(inputs: Tensor, window: Window) -> Tensor:
    """[T, S + 1, M]: each value of a patch less its mean over the M patches, and a last row of ones."""
    (k, l), (down, right), (top, left) = window  # noqa: E741
    padded = F.pad(inputs, (left, left, top, top)) if top or left else inputs.contiguous()
    tasks, examples, channels = inputs.shape[:3]
    h, w = window.steps(*inputs.shape[3:])
    task, example, channel, row, column = padded.stride()
    size, places = (k, l, channels, examples, h, w), (row, column, channel, example, down * row, right * column)
    patches = inputs.new_empty(tasks, channels * k * l + 1, examples * h * w)
    seen = patches[:, :-1]
    seen.view(tasks, *size).copy_(padded.as_strided((tasks, *size), (task, *places)))
    seen.sub_(seen.mean(-1, keepdim=True))
    patches[:, -1] = 1
    return patches


def _covariance(patches: Tensor) -> Tensor:
    """[S, S] in float64, of centred patches [S, M].

    A filter that sees differences meets smooth pictures, and nearly all of it cancels; so the sum is one of short
    sums, in double precision. All of it in double precision would take four times as long.
    """
    values, places = patches.shape
    full = places // _PLACES_AT_ONCE
    each = patches.as_strided((full, values, _PLACES_AT_ONCE), (_PLACES_AT_ONCE, patches.stride(0), 1))
    rest = patches[:, full * _PLACES_AT_ONCE :]
    return ((each @ each.mT).sum(0, dtype=torch.float64) + (rest @ rest.mT).double()) / places


class _Activated(Function):
    """The activation of a kernel [T, O, S + 1] times patches [T, S + 1, M], which are constants: [T, M, O]."""

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, patches: Tensor, slope: float) -> Tensor:
        outputs = kernel.new_empty(len(patches), patches.shape[2], kernel.shape[1])
        for tile in _tiles(outputs):
            torch.bmm(patches[tile].mT, kernel[tile].mT, out=(out := outputs[tile]))
            activate_(out, slope)
        ctx.slope = slope
        ctx.save_for_backward(outputs, patches)
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _ToKernel.apply(gradient, *ctx.saved_tensors, ctx.slope), None, None  # type: ignore[no-untyped-call]


class _ToKernel(Function):
    """The derivative of sum(gradient * outputs) for the kernel; linear in the gradient [T, M, O]."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, outputs: Tensor, patches: Tensor, slope: float) -> Tensor:
        gradient = gradient.contiguous()
        of_kernel = gradient.new_empty(len(patches), outputs.shape[2], patches.shape[1])
        for tile in _tiles(outputs):
            torch.bmm(let_through(gradient[tile], outputs[tile], slope).mT, patches[tile].mT, out=of_kernel[tile])
        ctx.slope = slope
        ctx.save_for_backward(outputs, patches)
        return of_kernel

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None, None]:
        return _LetThrough.apply(cotangent, *ctx.saved_tensors, ctx.slope), None, None, None  # type: ignore[no-untyped-call]


class _LetThrough(Function):
    """A kernel times patches where the activation let through what made `outputs`; linear in the kernel."""

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, outputs: Tensor, patches: Tensor, slope: float) -> Tensor:
        found = torch.empty_like(outputs)
        for tile in _tiles(outputs):
            torch.bmm(patches[tile].mT, kernel[tile].mT, out=(out := found[tile]))
            let_through_(out, outputs[tile], slope)
        ctx.slope = slope
        ctx.save_for_backward(outputs, patches)
        return found

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None, None]:
        return _ToKernel.apply(cotangent, *ctx.saved_tensors, ctx.slope), None, None, None  # type: ignore[no-untyped-call]


def _tiles(outputs: Tensor) -> list[slice]:
    return tiles_of(len(outputs), outputs[0].nbytes, _BYTES_AT_ONCE)
