"""The convolution of many tasks alone, without what may follow it, as functions that autograd can follow to any order.

A convolution is linear in its inputs and in its weight, so three functions are closed under differentiation:
outputs = conv(inputs, weight), to_inputs(gradient, weight) and to_weight(gradient, inputs). Each is linear in both of
its arguments, and each one's derivatives are the other two.

Legend: T tasks, N examples, C channels in, O channels out, H x W input size, M patches of a task, S values of a patch.
"""

from typing import Any, NamedTuple

from torch import Tensor
from torch.autograd import Function

from metalearn_cli.layers.cpu.bilinear import Forms, Window
from metalearn_cli.layers.cpu.forms import forms
from metalearn_cli.layers.cpu.kernels import Kernels


class Way(NamedTuple):
    """The window of a convolution, and the compiled kernels that may compute it."""

    window: Window
    kernels: Kernels | None = None

    def here(self, shape: tuple[int, ...], outputs: int, of: Tensor) -> Forms:
        """The convolution's forms for inputs of a shape [T, N, H, W, C], O = `outputs`, and values like those `of`."""
        return forms(shape, outputs, of.element_size(), self.window, self.kernels)


class Convolved(Function):
    """Outputs [T, M, O] for inputs [T, N, H, W, C] and a weight [T, O, S]."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, way: Way) -> Tensor:
        ctx.way = way
        ctx.save_for_backward(inputs, weight)
        inputs, here = inputs.contiguous(), way.here(inputs.shape, weight.shape[1], inputs)
        outputs = inputs.new_empty(len(inputs), here.examples * here.h * here.w, weight.shape[1])
        # A tile is some tasks whose values fit into the cache together.
        for tile in here.tiles:
            here.see(inputs[tile]).forward(weight[tile], outputs[tile])
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        inputs, weight = ctx.saved_tensors
        of_inputs, of_weight, _ = ctx.needs_input_grad
        # The two derivatives of <gradient, conv(inputs, weight)>.
        return (
            _ToInputs.apply(gradient, weight, inputs.shape, ctx.way) if of_inputs else None,  # type: ignore[no-untyped-call]
            _ToWeight.apply(gradient, inputs, ctx.way) if of_weight else None,  # type: ignore[no-untyped-call]
            None,
        )


class _ToInputs(Function):
    """d sum(gradient * outputs) / d inputs, [T, N, H, W, C]; linear in `gradient` [T, M, O] and `weight` [T, O, S]."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, shape: tuple[int, ...], way: Way) -> Tensor:
        ctx.way = way
        ctx.save_for_backward(gradient, weight)
        gradient, here = gradient.contiguous(), way.here(shape, weight.shape[1], gradient)
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
            Convolved.apply(cotangent, weight, ctx.way) if of_gradient else None,  # type: ignore[no-untyped-call]
            _ToWeight.apply(gradient, cotangent, ctx.way) if of_weight else None,  # type: ignore[no-untyped-call]
            None,
            None,
        )


class _ToWeight(Function):
    """d sum(gradient * outputs) / d weight, [T, O, S]; linear in `gradient` [T, M, O] and `inputs` [T, N, H, W, C]."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, inputs: Tensor, way: Way) -> Tensor:
        ctx.way = way
        ctx.save_for_backward(gradient, inputs)
        gradient, inputs = gradient.contiguous(), inputs.contiguous()
        here = way.here(inputs.shape, gradient.shape[-1], inputs)
        size = way.window.kernel[0] * way.window.kernel[1] * inputs.shape[-1]
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
            Convolved.apply(inputs, cotangent, ctx.way) if of_gradient else None,  # type: ignore[no-untyped-call]
            _ToInputs.apply(gradient, cotangent, inputs.shape, ctx.way) if of_inputs else None,  # type: ignore[no-untyped-call]
            None,
        )
