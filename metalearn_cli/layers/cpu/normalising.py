"""Batch normalisation of many tasks at once on a CPU, with its first and second derivative.

    y = w x' + b,  x' = s (x - [x]),  s = ([x^2] - [x]^2 + eps)^(-1/2)

for inputs [T, M, C], w and b [T, C]. This layout (channels last) is the fastest for convolutions on a CPU.

torch's kernels assume that the tensors they read and write are dense; if one is not, the result is silently wrong
(torch 2.13). So all tensors [T, M, C] here, and all [T, C] that are written to, must be contiguous; weights are copied
if they are not.

Legend: T tasks, C channels, M values of a channel, [.] mean over M.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_FEW_VALUES = 8192
"""The values of a task below which one call for each task would cost more time than the arithmetic in it."""


class Known(NamedTuple):
    """The values that the derivatives at inputs x need: x [T, M, C], its mean [x] and its s, [T, C]."""

    inputs: Tensor
    mean: Tensor
    scale: Tensor


def normalise(known: Known, weight: Tensor, bias: Tensor, eps: float, out: Tensor) -> None:
    """Write y of known.inputs into `out`, and mean and s into known.mean and known.scale; all must be contiguous."""
    weight, bias = weight.contiguous(), bias.contiguous()
    for x, m, s, w, b, y in zip(_pictures(known.inputs), *known[1:], weight, bias, _pictures(out), strict=True):
        torch.native_batch_norm(x, w, b, None, None, training=True, momentum=0.0, eps=eps, out=(y, m, s))


def gradients(gradient: Tensor, weight: Tensor, known: Known, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """dL/dx [T, M, C], dL/dw and dL/db [T, C] for g = dL/dy.

    They are w s P(g), sum(g x') and sum(g), where P(a) = a - [a] - x' [a x'].
    """
    if gradient[0].numel() <= _FEW_VALUES:
        return _gradients_of_all(gradient, weight, known)
    weight = weight.contiguous()
    backward = torch.ops.aten.native_batch_norm_backward.default
    by_task = [
        backward(g, x, w, None, None, save_mean=m, save_invstd=s, train=True, eps=eps, output_mask=[True, True, True])
        for g, w, x, m, s in zip(
            _pictures(gradient), weight, _pictures(known.inputs), known.mean, known.scale, strict=True
        )
    ]
    of_inputs, of_weight, of_bias = (_stacked(tensors) for tensors in zip(*by_task, strict=True))
    return of_inputs.reshape(gradient.shape), of_weight, of_bias


def _gradients_of_all(gradient: Tensor, weight: Tensor, known: Known) -> tuple[Tensor, Tensor, Tensor]:
    """`gradients` by plain operations on all tasks at once, which needs fewer calls.

    With d = x - [x], x' = s d and dL/dw = sum(g x'), P(g) is g + d * (-dL/dw s / M) - dL/db / M.
    """
    size = gradient.shape[1]
    centred = known.inputs - known.mean.unsqueeze(1)
    of_bias = gradient.sum(1)
    of_weight = (gradient * centred).sum(1).mul_(known.scale)
    per_centred, constant = (of_weight * known.scale / -size).unsqueeze(1), (of_bias / size).unsqueeze(1)
    projected = torch.addcmul(gradient, centred, per_centred).sub_(constant)
    return projected.mul_((weight * known.scale).unsqueeze(1)), of_weight, of_bias


def second_gradients(
    cotangents: tuple[Tensor, Tensor, Tensor],
    gradient: Tensor,
    weight: Tensor,
    known: Known,
    found: tuple[Tensor, Tensor],
    eps: float,
    out: Tensor,
) -> tuple[Tensor, Tensor]:
    """The derivatives of `gradients` for g and w, given the cotangents u, v, z of its three results.

    The derivative for x is written into `out`. `found` are dL/dw and dL/db, the last two results of `gradients`. P is
    symmetric, and the pull-back of c = dL/dx' to x is s P(c). With q = [u P(g)] this gives

        d/dg = w s P(u) + v x' + z
        d/dx = s P(v g - w s ([g x'] u + [u x'] g)) - w s^2 q x'
        d/dw = s M q
    """
    u, g, x = cotangents[0], gradient, known.inputs
    through, *sums = gradients(u, weight, known, eps)  # w s P(u)
    size = x.shape[1]
    mean_ux, mean_u, mean_gx, mean_g = ((value / size).unsqueeze(1) for value in (*sums, *found))
    w, mean, s, v, z = (value.unsqueeze(1) for value in (weight, known.mean, known.scale, *cotangents[1:]))
    q = (u * g).sum(1, keepdim=True) / size - mean_u * mean_g - mean_ux * mean_gx
    # mean_ux is [u x'], mean_gx is [g x']. In each channel, every result is a linear combination of g, u, x and 1, so
    # one pass over memory computes it: d/dx = of_g (g - [g]) + of_u (u - [u]) + of_x (x - [x]).
    vs, ws = v * s, w * s
    of_g, of_u = vs - ws * s * mean_ux, -ws * s * mean_gx
    of_x = -s * (of_g * mean_gx + of_u * mean_ux + ws * s * q)
    d_g = torch.addcmul(z - vs * mean, vs, x).add_(through)
    torch.addcmul(-of_g * mean_g - of_u * mean_u - of_x * mean, of_x, x, out=out).addcmul_(of_g, g).addcmul_(of_u, u)
    return d_g, (s * q * size).squeeze(1)


def _stacked(tensors: tuple[Tensor, ...]) -> Tensor:
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(tensors)  # a view in place of a copy


def _pictures(rows: Tensor) -> Tensor:
    """[T, M, C] as M pictures of one pixel for each task, [T, M, C, 1, 1]; batch_norm is fastest on this layout."""
    return rows[..., None, None]
