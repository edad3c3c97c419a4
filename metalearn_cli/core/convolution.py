"""Convolution for many tasks that each have weights of their own, as a matrix product over patches.

A CPU runs one small convolution per task at a fraction of its speed, forward and worse backward; the same sums as
batched matrix products run near its peak. Taking patches is linear and putting them back is its transpose, so
each is the other's derivative, to any order.

Legend: T tasks, N examples, C channels in, O channels out, H x W input size, h x w output size, k x l kernel.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from metalearn_cli.core.network import Params

_LARGEST_EXPANSION = 4
"""Patches hold k * l / strides times as many values as the input; beyond this the copying costs more than it saves."""


class Window(NamedTuple):
    """How a kernel walks over a picture: (rows, columns) each."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    def steps(self, height: int, width: int) -> tuple[int, int]:
        """The output size h, w."""
        sizes = (height, width)
        h, w = ((sizes[i] + 2 * self.padding[i] - self.kernel[i]) // self.stride[i] + 1 for i in range(2))
        return h, w


class TaskConv2d(nn.Conv2d):
    """`nn.Conv2d` with dilation 1, one group and zeros around, that also runs many tasks at once.

    By patches on a CPU, where these are few; else as one convolution in T groups. By patches, outputs lie
    channels-last in memory.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, padding: int = 0, bias: bool = True
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, padding, bias=bias)
        self.window = Window((kernel, kernel), (stride, stride), (padding, padding))
        self._few_patches = kernel * kernel / stride**2 <= _LARGEST_EXPANSION or channels_in <= _LARGEST_EXPANSION
        if self._few_patches:
            # The same numbers, laid out as the matrix [k * l * C, O] that patches are multiplied with.
            laid_out = self.weight.detach().permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)
            self.weight = nn.Parameter(laid_out)

    def over_tasks(self, params: Params, inputs: Tensor) -> Tensor:
        """Outputs [T, N, O, h, w] for inputs [T, N, C, H, W] and a weight [T, O, C, k, l]."""
        by_patches = self._few_patches and inputs.device.type == "cpu"
        outputs = (self._by_patches if by_patches else self._in_groups)(params["weight"], inputs)
        return outputs + params["bias"][:, None, :, None, None] if "bias" in params else outputs

    def _by_patches(self, weight: Tensor, inputs: Tensor) -> Tensor:
        tasks, examples = inputs.shape[:2]
        patches = patches_of(inputs.flatten(0, 1).permute(0, 2, 3, 1), self.window)
        _, h, w, size = patches.shape
        matrix = weight.permute(0, 3, 4, 2, 1).reshape(tasks, size, -1)
        outputs = torch.bmm(patches.reshape(tasks, -1, size), matrix)
        return outputs.view(tasks, examples, h, w, -1).permute(0, 1, 4, 2, 3)

    def _in_groups(self, weight: Tensor, inputs: Tensor) -> Tensor:
        tasks, examples = inputs.shape[:2]
        beside = inputs.transpose(0, 1).flatten(1, 2)
        outputs = F.conv2d(beside, weight.flatten(0, 1), None, self.window.stride, self.window.padding, groups=tasks)
        return outputs.view(examples, tasks, -1, *outputs.shape[2:]).transpose(0, 1)


def patches_of(inputs: Tensor, window: Window) -> Tensor:
    """What a kernel sees of pictures [N, H, W, C] at each of its places: [N, h, w, k * l * C]."""
    patches: Tensor = _Patches.apply(inputs, window)  # type: ignore[no-untyped-call]
    return patches


def put_back(patches: Tensor, size: tuple[int, int], window: Window) -> Tensor:
    """The transpose of `patches_of`: pictures [N, H, W, C] with each value of a patch added where it came from."""
    pictures: Tensor = _PutBack.apply(patches, size, window)  # type: ignore[no-untyped-call]
    return pictures


class _Patches(Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, window: Window) -> Tensor:
        n, height, width, channels = inputs.shape
        ctx.size, ctx.window = (height, width), window
        (k, l), (down, right), (top, left) = window  # noqa: E741
        h, w = window.steps(height, width)
        padded = inputs.new_empty(n, height + 2 * top, width + 2 * left, channels)
        padded[:, top : top + height, left : left + width] = inputs
        for margin in (padded[:, :top], padded[:, top + height :], padded[:, :, :left], padded[:, :, left + width :]):
            margin.zero_()
        example, row, column, _ = padded.stride()
        # k * l * C values are k rows of l * C that lie side by side.
        seen = padded.as_strided((n, h, w, k, l * channels), (example, down * row, right * column, row, 1))
        return seen.reshape(n, h, w, -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return put_back(gradient, ctx.size, ctx.window), None


class _PutBack(Function):
    @staticmethod
    def forward(ctx: Any, patches: Tensor, size: tuple[int, int], window: Window) -> Tensor:
        ctx.window = window
        n, h, w, _ = patches.shape
        (k, l), (down, right), (top, left) = window  # noqa: E741
        patches = patches.reshape(n, h, w, k, l, -1)
        height, width = size
        padded = patches.new_empty(n, height + 2 * top, width + 2 * left, patches.shape[-1])
        # The kernel's first stride x stride places cover disjoint pixels, so they can be set; the others are added.
        covered = (h * down, w * right) if k >= down and l >= right else (0, 0)
        padded[:, covered[0] :].zero_()
        padded[:, : covered[0], covered[1] :].zero_()
        for i in range(k):
            for j in range(l):
                seen = padded[:, i : i + down * (h - 1) + 1 : down, j : j + right * (w - 1) + 1 : right]
                part = patches[:, :, :, i, j]
                seen.copy_(part) if i < down and j < right and covered[0] else seen.add_(part)
        return padded[:, top : top + height, left : left + width]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return patches_of(gradient, ctx.window), None, None
