"""Convolution as a matrix product over patches, for many tasks that each have weights of their own.

A CPU runs one small convolution per task at a fraction of its speed, forward and worse backward; the same sums as
batched matrix products run near its peak. Taking patches is linear and putting them back is its transpose, so
each is the other's derivative, to any order.

Legend: N examples, C channels in, O channels out, H x W input size, h x w output size, k x l kernel.
"""

from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.autograd import Function

from metalearn_cli.core.network import leading

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
    """`nn.Conv2d`, [N, C, H, W] -> [N, O, h, w] with the same parameters, made fast for small tasks on a CPU.

    Outputs lie channels-last in memory. Off the CPU, or with groups, dilation, padding by name or overlaps of
    stride-1 windows over many channels, it is `nn.Conv2d` itself.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        # The same numbers, laid out as the matrix [k * l * C, O] that patches are multiplied with.
        laid_out = self.weight.detach().permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)
        self.weight = nn.Parameter(laid_out)

    def forward(self, input: Tensor) -> Tensor:
        """The convolution."""
        if not self._by_patches(input):
            return super().forward(input)
        window = Window(self.kernel_size, self.stride, self.padding)  # type: ignore[arg-type]
        patches = patches_of(input.permute(0, 2, 3, 1), window)
        n, h, w, size = patches.shape
        outputs = patches.reshape(-1, size) @ self.weight.permute(2, 3, 1, 0).reshape(size, -1)
        if self.bias is not None:
            outputs = outputs + self.bias
        return outputs.view(n, h, w, -1).permute(0, 3, 1, 2)

    def _by_patches(self, inputs: Tensor) -> bool:
        plain = self.groups == 1 and self.dilation == (1, 1) and self.padding_mode == "zeros"
        if inputs.device.type != "cpu" or inputs.dim() != 4 or not plain or isinstance(self.padding, str):
            return False
        expansion = self.kernel_size[0] * self.kernel_size[1] / (self.stride[0] * self.stride[1])
        return expansion <= _LARGEST_EXPANSION or self.in_channels <= _LARGEST_EXPANSION


class _Patches(Function):
    """[N, H, W, C] -> [N, h, w, k * l * C]: what the kernel sees at each of its places."""

    @staticmethod
    def forward(inputs: Tensor, window: Window) -> Tensor:
        n, height, width, channels = inputs.shape
        (k, _), (down, right), (top, left) = window
        h, w = window.steps(height, width)
        padded = inputs.new_empty(n, height + 2 * top, width + 2 * left, channels)
        padded[:, top : top + height, left : left + width] = inputs
        for margin in (padded[:, :top], padded[:, top + height :], padded[:, :, :left], padded[:, :, left + width :]):
            margin.zero_()
        example, row, column, _ = padded.stride()
        # k * l * C is k rows of l * C values that lie side by side
        size = (n, h, w, k, window.kernel[1] * channels)
        seen = padded.as_strided(size, (example, down * row, right * column, row, 1))
        return seen.reshape(n, h, w, -1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Window], _output: Tensor) -> None:
        pictures, ctx.window = inputs
        ctx.size = pictures.shape[1:3]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _PutBack.apply(gradient, ctx.size, ctx.window), None  # type: ignore[no-untyped-call]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], inputs: Tensor, window: Window) -> tuple[Tensor, int]:
        inputs = leading(inputs, in_dims[0], info.batch_size)
        return _Patches.apply(inputs.flatten(0, 1), window).unflatten(0, inputs.shape[:2]), 0  # type: ignore[no-untyped-call]


class _PutBack(Function):
    """[N, h, w, k * l * C] -> [N, H, W, C]: each value of a patch is added where it came from."""

    @staticmethod
    def forward(patches: Tensor, size: tuple[int, int], window: Window) -> Tensor:
        n, h, w, _ = patches.shape
        (k, l), (down, right), (top, left) = window  # noqa: E741
        patches = patches.reshape(n, h, w, k, l, -1)
        height, width = size
        padded = patches.new_empty(n, height + 2 * top, width + 2 * left, patches.shape[-1])
        # The kernel's first stride x stride places cover disjoint pixels, so they can be set; the others are added.
        covered = (min(k, down) == down and h * down, min(l, right) == right and w * right)
        padded[:, covered[0] :].zero_()
        padded[:, : covered[0], covered[1] :].zero_()
        for i in range(k):
            for j in range(l):
                seen = padded[:, i : i + down * (h - 1) + 1 : down, j : j + right * (w - 1) + 1 : right]
                part = patches[:, :, :, i, j]
                seen.copy_(part) if i < down and j < right and all(covered) else seen.add_(part)
        return padded[:, top : top + height, left : left + width]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, tuple[int, int], Window], _output: Tensor) -> None:
        ctx.window = inputs[2]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Patches.apply(gradient, ctx.window), None, None  # type: ignore[no-untyped-call]

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], patches: Tensor, size: tuple[int, int], window: Window
    ) -> tuple[Tensor, int]:
        patches = leading(patches, in_dims[0], info.batch_size)
        return _PutBack.apply(patches.flatten(0, 1), size, window).unflatten(0, patches.shape[:2]), 0  # type: ignore[no-untyped-call]


def patches_of(inputs: Tensor, window: Window) -> Tensor:
    """What a kernel sees of [N, H, W, C] at each of its places: [N, h, w, k * l * C]."""
    patches: Tensor = _Patches.apply(inputs, window)  # type: ignore[no-untyped-call]
    return patches


def put_back(patches: Tensor, size: tuple[int, int], window: Window) -> Tensor:
    """The transpose of `patches_of` for pictures of `size` (H, W)."""
    pictures: Tensor = _PutBack.apply(patches, size, window)  # type: ignore[no-untyped-call]
    return pictures
