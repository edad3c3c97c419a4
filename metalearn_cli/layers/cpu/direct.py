"""The forms of a convolution by torch's own, a task at a time (the legend: bilinear.py).

This suits large tasks: with channels last in memory it is nearly as fast as a matrix product, and it makes no patches.
"""

from functools import cached_property

import torch
from torch import Tensor

from metalearn_cli.layers.cpu.bilinear import Forms, Seen


class Direct(Forms):
    """The forms by torch's convolution."""

    @cached_property
    def tiles(self) -> list[slice]:
        """Each task by itself."""
        return [slice(task, task + 1) for task in range(self.tasks)]

    def see(self, inputs: Tensor) -> Seen:
        """The contiguous inputs [1, N, H, W, C] of a task in torch's layout."""
        return _Direct(inputs, self)

    def to_inputs(self, gradient: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """The gradient for inputs [1, N, H, W, C], given that for outputs [1, M, O] and a weight [1, O, S]."""
        # [N, H, W, C] seen as torch's [N, C, H, W]; a view.
        like = gradient.new_empty(self.pictures(1)[1:]).permute(0, 3, 1, 2)
        found = self.derivative(gradient, like, self.kernel(weight), of=0).permute(0, 2, 3, 1).unsqueeze(0)
        return found.contiguous() if out is None else out.copy_(found)

    def derivative(self, gradient: Tensor, inputs: Tensor, weight: Tensor, of: int) -> Tensor:
        """The derivative of one task's convolution in torch's layout: for its inputs (`of` 0) or for its weight (1)."""
        # [1, M, O] -> [N, h, w, O] -> [N, O, h, w].
        pictures = gradient.reshape(self.examples, self.h, self.w, -1).permute(0, 3, 1, 2)
        wanted = [of == 0, of == 1, False]
        # After stride and padding: dilation, transposed, output padding, groups, which derivatives are wanted.
        rest = (self.window.stride, self.window.padding, (1, 1), False, (0, 0), 1, wanted)
        derivative: Tensor = torch.ops.aten.convolution_backward.default(pictures, inputs, weight, None, *rest)[of]
        return derivative

    def kernel(self, weight: Tensor) -> Tensor:
        """One task's weight [1, O, S] in torch's layout [O, C, k, l], channels last in memory."""
        return weight.view(-1, *self.window.kernel, self.channels).permute(0, 3, 1, 2)


class _Direct:
    """The inputs of one task in the layout of torch's own convolution."""

    def __init__(self, inputs: Tensor, of: Direct) -> None:
        self._of = of
        self._inputs = inputs[0].permute(0, 3, 1, 2)

    def forward(self, weight: Tensor, out: Tensor | None = None, add: bool = False) -> Tensor:
        window = self._of.window
        outputs = torch.conv2d(self._inputs, self._of.kernel(weight), None, window.stride, window.padding)
        # [N, O, h, w] -> [N, h, w, O] -> [1, M, O]: a view, as torch gives channels-last outputs for such inputs.
        rows = outputs.permute(0, 2, 3, 1).reshape(1, -1, weight.shape[1])
        if out is None:
            return rows.contiguous()
        return out.add_(rows) if add else out.copy_(rows)

    def to_weight(self, gradient: Tensor, out: Tensor) -> None:
        like = self._of.kernel(out)  # a view: what is copied into it is written to `out`
        like.copy_(self._of.derivative(gradient, self._inputs, like, of=1))
