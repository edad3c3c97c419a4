"""Convolution, batch norm, max-pool and activation of many tasks as one function that can be differentiated twice.

With the patches P [M, S] of inputs x and a weight W [O, S]:

    c = P W^T,    y = tail(c)    (cpu/tail.py)

A few tasks (a tile) go through all parts at a time, so the output of one part is still in the cache when the next part
reads it.

Legend: T tasks, t of them in a tile, N examples, C channels in, O channels out, H x W input size, S values in a patch,
M patches of a task, P places after the pool.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from metalearn_cli.layers.cpu.bilinear import Forms, Window
from metalearn_cli.layers.cpu.forms import forms
from metalearn_cli.layers.cpu.kernels import Kernels, Maps
from metalearn_cli.layers.cpu.tail import At, CompiledTail, Cotangents, Tail, TailResult, TorchTail


class Kind(NamedTuple):
    """The constants of a block; `slope` multiplies negative values (0: a ReLU, 1: no activation).

    `pool` is the side of the max-pool, 1 (none) or 2; 2 needs compiled `kernels`.
    """

    window: Window
    eps: float
    slope: float
    pool: int = 1
    kernels: Kernels | None = None

    @property
    def tail(self) -> Tail:
        """The part of the block after the convolution: norm, max-pool and activation."""
        return (
            TorchTail(self.eps, self.slope)
            if self.kernels is None
            else CompiledTail(self.eps, self.slope, self.kernels)
        )

    def here(self, inputs: Tensor, weight: Tensor) -> Forms:
        """The convolution's forms for inputs [T, N, H, W, C] and a weight [T, O, S]."""
        return forms(inputs.shape, weight.shape[1], inputs.element_size(), self.window, self.kernels)

    def maps(self, here: Forms, channels: int) -> Maps:
        """The size of a task's maps of `channels` channels."""
        return Maps(here.examples, here.h, here.w, channels, self.pool)


class Passed(NamedTuple):
    """The tensors of a forward pass that its derivatives need.

    Arguments: `inputs` [T, N, H, W, C], `weight` [T, O, S], `scale` [T, O]. Results: `made` by the tail, and
    `convolved`, the outputs of the convolution, a tensor [t, M, O] for each tile.
    """

    inputs: Tensor
    weight: Tensor
    scale: Tensor
    made: TailResult
    convolved: Sequence[Tensor]

    def flat(self) -> tuple[Tensor, ...]:
        """All tensors in a row, for autograd to save."""
        return *self[:3], *self.made, *self.convolved

    @staticmethod
    def read(tensors: Sequence[Tensor]) -> "Passed":
        """The inverse of `flat`."""
        inputs, weight, scale, *rest = tensors
        made = len(TailResult._fields)
        return Passed(inputs, weight, scale, TailResult(*rest[:made]), rest[made:])


def block(inputs: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, kind: Kind) -> Tensor:
    """Outputs [T, P, O] for contiguous inputs [T, N, H, W, C], a weight [T, O, S], scale and shift [T, O].

    A third derivative raises RuntimeError.
    """
    outputs: Tensor = _Block.apply(inputs, weight, scale, shift, kind)[0]  # type: ignore[no-untyped-call]
    return outputs


class _Block(Function):
    """The block's outputs y, and the convolution's outputs c, a tensor for each tile.

    The first derivatives depend on c, so the second derivative has a part that goes through c. Because c is a result of
    this function, autograd brings that part here as `of_convolved`, and an ordinary backward pass takes it on to inputs
    and weight.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, kind: Kind
    ) -> tuple[Tensor, ...]:
        here = kind.here(inputs, weight)
        maps, convolved = kind.maps(here, weight.shape[1]), []
        made = kind.tail.empty(scale, maps)
        for tile in here.tiles:
            convolved.append(here.see(inputs[tile]).forward(weight[tile]))
            kind.tail.forward(At(convolved[-1], scale[tile], made.of(tile), maps), shift[tile])
        ctx.kind = kind
        ctx.set_materialize_grads(False)  # absent gradients arrive as None, and no work is done for zeros
        ctx.save_for_backward(*Passed(inputs, weight, scale, made, convolved).flat())
        return made.outputs, *convolved

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *of_convolved: Tensor | None) -> tuple[Tensor | None, ...]:
        goes_around = any(of_tile is not None for of_tile in of_convolved)
        if gradient is None and not goes_around:
            return (None,) * 5
        passed, down = Passed.read(ctx.saved_tensors), ctx.needs_input_grad[0]
        if not torch.is_grad_enabled():  # create_graph=False: nobody will differentiate these gradients
            return *_gradients(gradient, of_convolved, passed, ctx.kind, down), None
        if gradient is None or goes_around:
            raise RuntimeError("a block can be differentiated twice, not three times")
        return *_Gradients.apply(gradient, ctx.kind, down, *passed.flat()), None  # type: ignore[no-untyped-call]


def _gradients(
    gradient: Tensor | None,
    more: Sequence[Tensor | None],
    passed: Passed,
    kind: Kind,
    down: bool,
    keep: list[Tensor] | None = None,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    """The gradients for inputs (None unless `down`), weight, scale and shift.

    With back = dL/dc, the tail's derivative (plus `more`): dL/dW = back^T P, and dL/dx adds the rows of back W to the
    pixels from which the patches came.

    `more` are gradients for the convolution's outputs that do not come through the norm, one a tile or none at all. If
    `keep` is given, each tile's `back` is appended to it.
    """
    here, made = kind.here(passed.inputs, passed.weight), passed.made
    maps = kind.maps(here, passed.weight.shape[1])
    # Several tiles write into one tensor; a single tile's result is that tensor, which saves a copy.
    of_inputs = torch.empty_like(passed.inputs) if down and len(here.tiles) > 1 else None
    like = (passed.weight, passed.scale, passed.scale)
    of_weight, of_scale, of_shift = (tensor.new_empty(tensor.shape) for tensor in like)
    gradient = torch.zeros_like(made.outputs) if gradient is None else gradient.contiguous()
    for tile, convolved, other in zip(here.tiles, passed.convolved, more or [None] * len(here.tiles), strict=True):
        at = At(convolved, passed.scale[tile], made.of(tile), maps)
        more_here = None if other is None else other.contiguous()
        back = kind.tail.gradients(gradient[tile], at, more_here, (of_scale[tile], of_shift[tile]))
        here.see(passed.inputs[tile]).to_weight(back, of_weight[tile])
        if of_inputs is not None:
            here.to_inputs(back, passed.weight[tile], of_inputs[tile])
        elif down:
            of_inputs = here.to_inputs(back, passed.weight)
        if keep is not None:
            keep.append(back)
    return of_inputs, of_weight, of_scale, of_shift


class _Gradients(Function):
    """The first derivatives of a block as a function of their own, so that they can be differentiated once more."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, kind: Kind, down: bool, *tensors: Tensor) -> tuple[Tensor | None, ...]:
        backs: list[Tensor] = []
        gradient = gradient.contiguous()
        results = _gradients(gradient, [], Passed.read(tensors), kind, down, keep=backs)
        ctx.kind, ctx.tensors = kind, len(tensors)  # so many of the saved tensors are those of `Passed`
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(gradient, *results[2:], *tensors, *backs)  # results[2:]: dL/dscale and dL/dshift
        return results

    @staticmethod
    def backward(ctx: Any, u: Tensor | None, v: Tensor | None, *others: Tensor | None) -> tuple[Tensor | None, ...]:
        # u, v: the cotangents of dL/dx and dL/dW; `others`: those of dL/dscale and dL/dshift.
        if torch.is_grad_enabled():  # the code below records no graph, so a third derivative would be wrong
            raise RuntimeError("a block can be differentiated twice, not three times")
        gradient, of_scale, of_shift, *tensors = ctx.saved_tensors
        passed, backs = Passed.read(tensors[: ctx.tensors]), tensors[ctx.tensors :]
        here = ctx.kind.here(passed.inputs, passed.weight)
        maps = ctx.kind.maps(here, passed.weight.shape[1])
        v_scale, v_shift = (torch.zeros_like(passed.scale) if cotangent is None else cotangent for cotangent in others)
        of_gradient, again = torch.empty_like(gradient), passed.scale.new_empty(passed.scale.shape)
        of_convolved = [torch.empty_like(of_tile) for of_tile in passed.convolved]
        of_weight = None if u is None else passed.weight.new_empty(passed.weight.shape)
        # Argument 3 of `forward` is `inputs`, the first of `tensors`.
        of_inputs = torch.empty_like(passed.inputs) if ctx.needs_input_grad[3] and v is not None else None
        u = None if u is None else u.contiguous()
        # For each tile: back through the convolution's derivatives (`pushed`), then through the tail's.
        for tile, back, convolved, out in zip(here.tiles, backs, passed.convolved, of_convolved, strict=True):
            pushed = _pushed(here, passed, tile, back, u, v=v, of_weight=of_weight, of_inputs=of_inputs)
            ctx.kind.tail.second_gradients(
                Cotangents(pushed, v_scale[tile], v_shift[tile]),
                gradient[tile],
                At(convolved, passed.scale[tile], passed.made.of(tile), maps),
                (of_scale[tile], of_shift[tile]),
                (of_gradient[tile], out, again[tile]),
            )
        # In the order of the arguments: gradient, kind, down, then those of `Passed`. What the tail made gets None: its
        # second derivatives count all of it as functions of c, in `of_convolved`.
        return of_gradient, None, None, of_inputs, of_weight, again, *(None,) * len(TailResult._fields), *of_convolved


def _pushed(
    here: Forms,
    passed: Passed,
    tile: slice,
    back: Tensor,
    u: Tensor | None,
    v: Tensor | None,
    of_weight: Tensor | None,
    of_inputs: Tensor | None,
) -> Tensor:
    """The derivative [t, M, O] with respect to `back` = dL/dc, through both gradients that are made from it.

    u is the cotangent of dL/dx, v that of dL/dW. The scalar <u, dL/dx(back, W)> + <v, dL/dW(back, x)> is bilinear:
    its derivative for `back` is conv(u, W) + conv(x, v); for W it is written into `of_weight`, for x into `of_inputs`.
    """
    pushed = None
    # <u, dL/dx> = <u, back W put back to pixels> = <back, conv(u, W)>; its derivative for W is back^T patches(u).
    if u is not None and of_weight is not None:
        seen = here.see(u[tile])
        pushed = seen.forward(passed.weight[tile])
        seen.to_weight(back, of_weight[tile])
    # <v, dL/dW> = <v, back^T patches(x)> = <back, conv(x, v)>; its derivative for x is back v, put back to pixels.
    if v is not None:
        seen = here.see(passed.inputs[tile])
        pushed = seen.forward(v[tile]) if pushed is None else seen.forward(v[tile], pushed, add=True)
        if of_inputs is not None:
            here.to_inputs(back, v[tile], of_inputs[tile])
    return torch.zeros_like(back) if pushed is None else pushed
