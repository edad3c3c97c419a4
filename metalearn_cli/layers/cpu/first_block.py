"""The first block of a network (convolution, batch norm, activation), whose inputs need no gradient.

A convolution is linear, so the norm's statistics follow from those of the patches. With the patches P minus their means
and a weight w, the variance of a channel is w [P P^T] w^T, and the normalised, scaled and shifted outputs are
s w P + b, those of a convolution with the weight s w. So one matrix product computes them, and no other tensor of the
size of the outputs is kept; all the rest is small, and plain autograd. This matters because the first block has the
largest maps and the smallest patches: outside of matrix products, most of a network's time is spent here.

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
"""The bytes of outputs in a tile: more would not fit into a core's cache, fewer would mean more calls."""

_PLACES_AT_ONCE = 512
"""The number of places over which float32 sums products accurately enough."""


def suits(inputs: Tensor, outputs: int, window: Window) -> bool:
    """Whether `first_block` is possible and faster for inputs [T, N, C, H, W] and `outputs` output channels.

    The inputs must need no gradient, and a patch must have fewer values than there are output channels.
    """
    values = inputs.shape[2] * window.kernel[0] * window.kernel[1]
    return inputs.device.type == "cpu" and not inputs.requires_grad and values < outputs


def first_block(inputs: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, kind: Kind) -> Tensor:
    """Outputs [T, M, O] for inputs [T, N, C, H, W], a weight [T, O, S] and the norm's scale and shift [T, O].

    It can be differentiated any number of times, except for the inputs.
    """
    with torch.no_grad():
        patches = _centred_patches(inputs, kind.window)
        covariance = torch.stack([_covariance(of_task[:-1]) for of_task in patches])  # without the row of ones
    # In float64, because w [P P^T] w^T can cancel almost completely (see `_covariance`).
    exact = weight.double()
    variance = ((exact @ covariance) * exact).sum(-1).clamp(min=0)
    by = scale * torch.rsqrt(variance + kind.eps).to(scale.dtype)
    kernel = torch.cat([weight * by.unsqueeze(-1), shift.unsqueeze(-1)], -1)
    outputs: Tensor = _Activated.apply(kernel, patches, kind.slope)  # type: ignore[no-untyped-call]
    return outputs


def _centred_patches(inputs: Tensor, window: Window) -> Tensor:
    """Patches [T, S + 1, M]: each value minus its mean over the M patches, and a last row of ones for the shift b."""
    (k, l), (down, right), (top, left) = window  # noqa: E741
    padded = F.pad(inputs, (left, left, top, top)) if top or left else inputs.contiguous()
    tasks, examples, channels = inputs.shape[:3]
    h, w = window.steps(*inputs.shape[3:])
    task, example, channel, row, column = padded.stride()
    # A view [k, l, C, N, h, w] of each task: the value at offset (k, l) of the window that starts at (h, w) times the
    # stride. Copied, it is a matrix with a row for each of the S values and a column for each of the M places.
    size, places = (k, l, channels, examples, h, w), (row, column, channel, example, down * row, right * column)
    patches = inputs.new_empty(tasks, channels * k * l + 1, examples * h * w)
    seen = patches[:, :-1]
    seen.view(tasks, *size).copy_(padded.as_strided((tasks, *size), (task, *places)))
    seen.sub_(seen.mean(-1, keepdim=True))
    patches[:, -1] = 1
    return patches


def _covariance(patches: Tensor) -> Tensor:
    """The covariance [P P^T], [S, S] in float64, of centred patches [S, M].

    If a filter reads differences of neighbouring pixels and pictures are smooth, w [P P^T] w^T cancels almost
    completely, so the covariance must be accurate. It is summed over short pieces in float32, and over the pieces in
    float64; float64 throughout would take four times as long.
    """
    values, places = patches.shape
    full = places // _PLACES_AT_ONCE
    # [S, M] seen as pieces [M / 512, S, 512], without a copy.
    pieces = patches.as_strided((full, values, _PLACES_AT_ONCE), (_PLACES_AT_ONCE, patches.stride(0), 1))
    rest = patches[:, full * _PLACES_AT_ONCE :]
    return ((pieces @ pieces.mT).sum(0, dtype=torch.float64) + (rest @ rest.mT).double()) / places


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
    """The derivative of sum(gradient * outputs) for the kernel K [T, O, S + 1]: (a'(y) * gradient)^T P^T.

    It is linear in the gradient [T, M, O], so its own derivative is its adjoint `_LetThrough`, whose adjoint is this
    function again. That is why a first block can be differentiated any number of times.
    """

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
    """a'(y) * (P^T K^T) for a kernel K, [T, M, O], with the activation's derivative a' at `outputs` y; linear in K."""

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, outputs: Tensor, patches: Tensor, slope: float) -> Tensor:
        products = torch.empty_like(outputs)
        for tile in _tiles(outputs):
            torch.bmm(patches[tile].mT, kernel[tile].mT, out=(out := products[tile]))
            let_through_(out, outputs[tile], slope)
        ctx.slope = slope
        ctx.save_for_backward(outputs, patches)
        return products

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None, None]:
        return _ToKernel.apply(cotangent, *ctx.saved_tensors, ctx.slope), None, None, None  # type: ignore[no-untyped-call]


def _tiles(outputs: Tensor) -> list[slice]:
    return tiles_of(len(outputs), outputs[0].nbytes, _BYTES_AT_ONCE)
