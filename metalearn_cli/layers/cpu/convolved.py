"""The convolution of many tasks alone, without what may follow it, as functions that autograd can follow to any order.

A convolution is linear in its inputs and in its weight, so three functions are closed under differentiation:
outputs = conv(inputs, weight), to_inputs(gradient, weight) and to_weight(gradient, inputs). Each is linear in both of
its arguments, and each one's derivatives are the other two.

Legend: T tasks, N examples, C channels in, O channels out, H x W input size, M patches of a task, S values of a patch.
"""

from typing import Any

from torch import Tensor
from torch.autograd import Function

from metalearn_cli.layers.cpu.patches import Window, forms


class Convolved(Function):
    """Outputs [T, M, O] for inputs [T, N, H, W, C] and a weight [T, O, S]."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, window: Window) -> Tensor:
        ctx.window = window
        ctx.save_for_backward(inputs, weight)
        inputs, here = inputs.contiguous(), forms(inputs.shape, inputs.element_size(), window)
        outputs = inputs.new_empty(len(inputs), here.examples * here.h * here.w, weight.shape[1])
        # A tile is some tasks whose patches fit into the cache together.
        for tile in here.tiles:
            here.see(inputs[tile]).forward(weight[tile], outputs[tile])
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        inputs, weight = ctx.saved_tensors
        of_inputs, of_weight, _ = ctx.needs_input_grad
        # The two derivatives of <gradient, conv(inputs, weight)>.
        return (
            _ToInputs.apply(gradient, weight, inputs.shape, ctx.window) if of_inputs else None,  # type: ignore[no-untyped-call]
            _ToWeight.apply(gradient, inputs, ctx.window) if of_weight else None,  # type: ignore[no-untyped-call]
            None,
        )


class _ToInputs(Function):
    """d sum(gradient * outputs) / d inputs, [T, N, H, W, C]; linear in `gradient` [T, M, O] and `weight` [T, O, S]."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, shape: tuple[int, ...], window: Window) -> Tensor:
        ctx.window = window
        ctx.save_for_backward(gradient, weight)
        gradient, here = gradient.contiguous(), forms(shape, gradient.element_size(), window)
        of_inputs = gradient.new_empty(shape)
        for tile in here.tiles:
            here.to_inputs(gradient[tile], weight[tile], of_inputs[tile])
        return of_inputs

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        gradient, weight = ctx.saved_tensors
        of_gradient, of_weight = ctx.needs_input_grad[:2]
        # <cotangent, to_inputs(gradient, weight)> = <gradient, conv(cotangent, weight)>: it stands for inputs.
        return (
            Convolved.apply(cotangent, weight, ctx.window) if of_gradient else None,  # type: ignore[no-untyped-call]
            _ToWeight.apply(gradient, cotangent, ctx.window) if of_weight else None,  # type: ignore[no-untyped-call]
            None,
            None,
        )


class _ToWeight(Function):
    """d sum(gradient * outputs) / d weight, [T, O, S]; linear in `gradient` [T, M, O] and `inputs` [T, N, H, W, C]."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, inputs: Tensor, window: Window) -> Tensor:
        ctx.window = window
        ctx.save_for_backward(gradient, inputs)
        gradient, inputs = gradient.contiguous(), inputs.contiguous()
        here = forms(inputs.shape, inputs.element_size(), window)
        size = window.kernel[0] * window.kernel[1] * inputs.shape[-1]
        of_weight = inputs.new_empty(len(inputs), gradient.shape[-1], size)
        for tile in here.tiles:
            here.see(inputs[tile]).to_weight(gradient[tile], of_weight[tile])
        return of_weight

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        gradient, inputs = ctx.saved_tensors
        of_gradient, of_inputs, _ = ctx.needs_input_grad
        # <cotangent, to_weight(gradient, inputs)> = <gradient, conv(inputs, cotangent)>: it stands for a weight.
        return (
            Convolved.apply(inputs, cotangent, ctx.window) if of_gradient else None,  # type: ignore[no-untyped-call]
            _ToInputs.apply(gradient, cotangent, inputs.shape, ctx.window) if of_inputs else None,  # type: ignore[no-untyped-call]
            None,
        )
