"""Convolution, batch norm and ReLU of many tasks as one function that can be differentiated twice, on a CPU.

A few tasks (a tile) go through all three at a time, so the output of one part is still in the cache when the next part
reads it.

Legend: T tasks, N examples, C channels in, O channels out, H x W input size, S values in a patch, M patches of a task.
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
    """(outputs, outputs of the convolution).

    The second result is returned so that autograd has a place for the part of the second derivative that goes through
    the convolution's outputs: it arrives here as `of_convolved`, in an ordinary backward pass.
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
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*Passed(inputs, weight, scale, outputs, convolved, mean=mean, root=root))
        return outputs, convolved

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, of_convolved: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradient is None and of_convolved is None:
            return (None,) * 5
        passed, down = Passed(*ctx.saved_tensors), ctx.needs_input_grad[0]
        if not torch.is_grad_enabled():
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

    `more` is a gradient for the convolution's outputs that does not come through the norm. If `keep` is given, each
    tile's gradient for the convolution's outputs is appended to it.
    """
    here = forms(passed.inputs.shape, passed.inputs.element_size(), kind.window)
    of_inputs = torch.empty_like(passed.inputs) if down else None
    of_weight, of_scale, of_shift = (one.new_empty(one.shape) for one in (passed.weight, passed.scale, passed.scale))
    gradient = torch.zeros_like(passed.outputs) if gradient is None else gradient.contiguous()
    for tile in here.tiles:
        through = let_through(gradient[tile], passed.outputs[tile], kind.slope)
        found = gradients(through, passed.scale[tile], passed.known(tile), kind.eps)
        back, of_scale[tile], of_shift[tile] = found
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
        found = _gradients(gradient, None, passed, kind, down, keep=backs)
        ctx.kind = kind
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(gradient.contiguous(), *found[2:], *passed, *backs)
        return found

    @staticmethod
    def backward(ctx: Any, u: Tensor | None, v: Tensor | None, *others: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # the code below records no graph, so a third derivative would be wrong
            raise RuntimeError("a block can be differentiated twice, not three times")
        gradient, of_scale, of_shift, *tensors = ctx.saved_tensors
        passed, backs = Passed(*tensors[: len(Passed._fields)]), tensors[len(Passed._fields) :]
        here = forms(passed.inputs.shape, passed.inputs.element_size(), ctx.kind.window)
        v_scale, v_shift = (torch.zeros_like(passed.scale) if one is None else one for one in others)
        of_gradient, of_convolved, again = (one.new_empty(one.shape) for one in (gradient, gradient, passed.scale))
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
    """The derivative [t, M, O] for `back`, the gradient at the convolution's outputs, of both gradients made from it.

    u is the cotangent of the gradient for the inputs, v that of the gradient for the weight. The derivatives for weight
    and inputs are written into `of_weight` and `of_inputs`.
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
