"""Convolution, batch norm and ReLU of many tasks as one function that can be differentiated twice, on a CPU.

With the patches P [M, S] of inputs x, a weight W [O, S] and the activation a:

    c = P W^T,    y = a(scale * (c - [c]) * root + shift),    root = ([c^2] - [c]^2 + eps)^(-1/2)

A few tasks (a tile) go through all three at a time, so the output of one part is still in the cache when the next part
reads it.

Legend: T tasks, t of them in a tile, N examples, C channels in, O channels out, H x W input size, S values in a patch,
M patches of a task, [.] mean over M.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from metalearn_cli.layers.cpu.activation import activate_, let_through
from metalearn_cli.layers.cpu.normalising import Known, gradients, normalise, second_gradients
from metalearn_cli.layers.cpu.patches import Forms, Window, forms


class Kind(NamedTuple):
    """The constants of a block; `slope` multiplies negative values (0: a ReLU, 1: no activation)."""

    window: Window
    eps: float
    slope: float


class Passed(NamedTuple):
    """The tensors of a forward pass that its derivatives need.

    Arguments: `inputs` [T, N, H, W, C], `weight` [T, O, S], `scale` [T, O]. Results: `outputs` of the block and
    `convolved`, the outputs of the convolution, [T, M, O]; `mean` and `root` = 1 / sqrt(variance + eps), [T, O].
    """

    inputs: Tensor
    weight: Tensor
    scale: Tensor
    outputs: Tensor
    convolved: Tensor
    mean: Tensor
    root: Tensor

    def known(self, tile: slice) -> Known:
        """The values of a tile's tasks that the norm's derivatives need."""
        return Known(self.convolved[tile], self.mean[tile], self.root[tile])


def block(inputs: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, kind: Kind) -> Tensor:
    """Outputs [T, M, O] for contiguous inputs [T, N, H, W, C], a weight [T, O, S], scale and shift [T, O].

    A third derivative raises RuntimeError.
    """
    outputs: Tensor = _Block.apply(inputs, weight, scale, shift, kind)[0]  # type: ignore[no-untyped-call]
    return outputs


class _Block(Function):
    """The block's outputs y, and the convolution's outputs c.

    The first derivatives depend on c, so the second derivative has a part that goes through c. Because c is a result of
    this function, autograd brings that part here as `of_convolved`, and an ordinary backward pass takes it on to inputs
    and weight.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, kind: Kind
    ) -> tuple[Tensor, Tensor]:
        here = forms(inputs.shape, inputs.element_size(), kind.window)
        outputs = inputs.new_empty(len(inputs), here.examples * here.h * here.w, weight.shape[1])
        convolved, mean, root = torch.empty_like(outputs), scale.new_empty(scale.shape), scale.new_empty(scale.shape)
        for tile in here.tiles:
            known = Known(convolved[tile], mean[tile], root[tile])
            here.see(inputs[tile]).forward(weight[tile], known.inputs)
            normalise(known, scale[tile], shift[tile], kind.eps, out := outputs[tile])
            activate_(out, kind.slope)
        ctx.kind = kind
        ctx.set_materialize_grads(False)  # absent gradients arrive as None, and no work is done for zeros
        ctx.save_for_backward(*Passed(inputs, weight, scale, outputs, convolved, mean=mean, root=root))
        return outputs, convolved

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, of_convolved: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradient is None and of_convolved is None:
            return (None,) * 5
        passed, down = Passed(*ctx.saved_tensors), ctx.needs_input_grad[0]
        if not torch.is_grad_enabled():  # create_graph=False: nobody will differentiate these gradients
            return *_gradients(gradient, of_convolved, passed, ctx.kind, down), None
        if gradient is None or of_convolved is not None:
            raise RuntimeError("a block can be differentiated twice, not three times")
        return *_Gradients.apply(gradient, *passed, ctx.kind, down), None  # type: ignore[no-untyped-call]


def _gradients(
    gradient: Tensor | None,
    more: Tensor | None,
    passed: Passed,
    kind: Kind,
    down: bool,
    keep: list[Tensor] | None = None,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    """The gradients for inputs (None unless `down`), weight, scale and shift.

    With g = dL/dy: through = a'(y) g; back = dL/dc is the norm's derivative of `through` (plus `more`); then
    dL/dW = back^T P, and dL/dx adds the rows of back W to the pixels from which the patches came.

    `more` is a gradient for the convolution's outputs that does not come through the norm. If `keep` is given, each
    tile's `back` is appended to it.
    """
    here = forms(passed.inputs.shape, passed.inputs.element_size(), kind.window)
    of_inputs = torch.empty_like(passed.inputs) if down else None
    like = (passed.weight, passed.scale, passed.scale)
    of_weight, of_scale, of_shift = (tensor.new_empty(tensor.shape) for tensor in like)
    gradient = torch.zeros_like(passed.outputs) if gradient is None else gradient.contiguous()
    for tile in here.tiles:
        through = let_through(gradient[tile], passed.outputs[tile], kind.slope)
        of_norm = gradients(through, passed.scale[tile], passed.known(tile), kind.eps)
        back, of_scale[tile], of_shift[tile] = of_norm
        if more is not None:
            back.add_(more[tile])
        here.see(passed.inputs[tile]).to_weight(back, of_weight[tile])
        if of_inputs is not None:
            here.to_inputs(back, passed.weight[tile], of_inputs[tile])
        if keep is not None:
            keep.append(back)
    return of_inputs, of_weight, of_scale, of_shift


class _Gradients(Function):
    """The first derivatives of a block as a function of their own, so that they can be differentiated once more."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *arguments: Any) -> tuple[Tensor | None, ...]:
        *tensors, kind, down = arguments
        passed = Passed(*tensors)
        backs: list[Tensor] = []
        results = _gradients(gradient, None, passed, kind, down, keep=backs)
        ctx.kind = kind
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(gradient.contiguous(), *results[2:], *passed, *backs)
        return results

    @staticmethod
    def backward(ctx: Any, u: Tensor | None, v: Tensor | None, *others: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # the code below records no graph, so a third derivative would be wrong
            raise RuntimeError("a block can be differentiated twice, not three times")
        gradient, of_scale, of_shift, *tensors = ctx.saved_tensors
        passed, backs = Passed(*tensors[: len(Passed._fields)]), tensors[len(Passed._fields) :]
        here = forms(passed.inputs.shape, passed.inputs.element_size(), ctx.kind.window)
        v_scale, v_shift = (torch.zeros_like(passed.scale) if cotangent is None else cotangent for cotangent in others)
        like = (gradient, gradient, passed.scale)
        of_gradient, of_convolved, again = (tensor.new_empty(tensor.shape) for tensor in like)
        of_weight = None if u is None else passed.weight.new_empty(passed.weight.shape)
        of_inputs = torch.empty_like(passed.inputs) if ctx.needs_input_grad[1] and v is not None else None
        u = None if u is None else u.contiguous()
        # For each tile: back through the convolution's derivatives (`pushed`), the norm's and the activation's.
        for tile, back in zip(here.tiles, backs, strict=True):
            pushed = _pushed(here, passed, tile, back, u, v=v, of_weight=of_weight, of_inputs=of_inputs)
            through = let_through(gradient[tile], passed.outputs[tile], ctx.kind.slope)
            cotangents, sums = (pushed, v_scale[tile], v_shift[tile]), (of_scale[tile], of_shift[tile])
            of_through, again[tile] = second_gradients(
                cotangents,
                through,
                passed.scale[tile],
                passed.known(tile),
                sums,
                eps=ctx.kind.eps,
                out=of_convolved[tile],
            )
            of_gradient[tile] = let_through(of_through, passed.outputs[tile], ctx.kind.slope)
        # In the order of the arguments: gradient, then `Passed`. Mean and root get None: `second_gradients` counts them
        # as functions of c, in `of_convolved`.
        return of_gradient, of_inputs, of_weight, again, None, of_convolved, *(None,) * 4


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
    pushed = torch.zeros_like(back) if u is None else torch.empty_like(back)
    if u is not None and of_weight is not None:
        seen = here.see(u[tile])
        seen.forward(passed.weight[tile], pushed)
        seen.to_weight(back, of_weight[tile])
    if v is not None:
        here.see(passed.inputs[tile]).forward(v[tile], pushed, add=True)
        if of_inputs is not None:
            here.to_inputs(back, v[tile], of_inputs[tile])
    return pushed
