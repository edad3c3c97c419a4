"""The arithmetic of a convolution for a few tasks with weights of their own, on a CPU.

A convolution is linear in its inputs and in its weights; its derivatives are made of the same three bilinear forms:
forward, to the weights and to the inputs. There are two ways to them. Small tasks go as matrix products over patches,
several tasks in one product, while their patches fit a core's cache. A task too large for that goes to torch's own
convolution, which is near the speed of a matrix product there if channels lie last in memory.

Legend: T tasks, t of them in a tile, N examples, C channels in, O channels out, H x W input size, h x w output size,
k x l kernel, S = k * l * C values in a patch, M = N * h * w patches of a task.
"""

from functools import lru_cache
from itertools import product
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

PATCHES_AT_ONCE = 5 << 19
"""Bytes of patches that are worked on together: more leave a core's cache, fewer are mostly calls (measured)."""


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


class Seen(Protocol):
    """A tile's inputs [t, N, H, W, C] in the form in which they are multiplied, as often as need be."""

    def forward(self, weight: Tensor, out: Tensor, add: bool = False) -> None:
        """`out` [t, M, O] holds the outputs for a weight [t, O, S], or has them added."""

    def to_weight(self, gradient: Tensor, out: Tensor) -> None:
        """`out` [t, O, S] is the derivative of sum(gradient * outputs), gradient [t, M, O], for the weight."""


class Forms:
    """The three forms for inputs of one shape, and the tiles of tasks to which they are applied."""

    def __init__(self, shape: tuple[int, ...], element_size: int, window: Window) -> None:
        tasks, self.examples, self.height, self.width, self.channels = shape
        self.window, (self.h, self.w) = window, window.steps(self.height, self.width)
        size = self.examples * self.h * self.w * window.kernel[0] * window.kernel[1] * self.channels * element_size
        self.by_patches = size <= PATCHES_AT_ONCE
        self.tiles = tiles_of(tasks, size, PATCHES_AT_ONCE)

    def see(self, inputs: Tensor) -> Seen:
        """A tile's contiguous inputs [t, N, H, W, C], to be multiplied."""
        return _Patched(inputs, self) if self.by_patches else _Direct(inputs, self)

    def to_inputs(self, gradient: Tensor, weight: Tensor, out: Tensor) -> None:
        """`out` [t, N, H, W, C] is the derivative of sum(gradient * outputs) for the inputs.

        For a gradient [t, M, O] and a weight [t, O, S].
        """
        if self.by_patches:
            self._put_back(torch.bmm(gradient, weight), out)
        else:
            like = out[0].permute(0, 3, 1, 2)
            like.copy_(self.derivative(gradient, like, self.kernels(weight), of=0))

    def padded(self) -> tuple[int, int]:
        """The size of the inputs with zeros around."""
        return self.height + 2 * self.window.padding[0], self.width + 2 * self.window.padding[1]

    def _put_back(self, patches: Tensor, out: Tensor) -> None:
        """Each value of the patches [t, M, S] is added where it came from.

        Patches overlap, but a stride's rows and columns of all of them do not, so these go at once. The first ones
        cover all that any covers, so they can be set where the others are added.
        """
        (k, l), (down, right), (top, left) = self.window  # noqa: E741
        (height, width), c = self.padded(), self.channels
        pictures = len(patches) * self.examples
        padded = patches.new_empty(pictures, height, width, c)
        full = k >= down and l >= right
        covered = (self.h * down, self.w * right) if full else (0, 0)
        if covered[0] < height:
            padded[:, covered[0] :].zero_()
        if covered[1] < width:
            padded[:, : covered[0], covered[1] :].zero_()
        of_place = (self.h * self.w * k * l * c, self.w * k * l * c, k * l * c, l * c, 1)
        of_pixel = (height * width * c, down * width * c, right * c, width * c, 1)
        for i, j in product(range(0, k, down), range(0, l, right)):
            size = (pictures, self.h, self.w, min(down, k - i), min(right, l - j) * c)
            part = patches.as_strided(size, of_place, (i * l + j) * c)
            place = padded.as_strided(size, of_pixel, (i * width + j) * c)
            place.copy_(part) if full and i == j == 0 else place.add_(part)
        inside = padded[:, top : top + self.height, left : left + self.width] if top or left else padded
        out.copy_(inside.view(out.shape))

    def derivative(self, gradient: Tensor, inputs: Tensor, weight: Tensor, of: int) -> Tensor:
        """Of one task's convolution in torch's layout, for its inputs (`of` 0) or its weight (1)."""
        pictures = gradient.reshape(self.examples, self.h, self.w, -1).permute(0, 3, 1, 2)
        wanted = [of == 0, of == 1, False]
        rest = (self.window.stride, self.window.padding, (1, 1), False, (0, 0), 1, wanted)
        found: Tensor = torch.ops.aten.convolution_backward.default(pictures, inputs, weight, None, *rest)[of]
        return found

    def kernels(self, weight: Tensor) -> Tensor:
        """One task's weight [1, O, S] in torch's layout, channels last in memory."""
        return weight.view(-1, *self.window.kernel, self.channels).permute(0, 3, 1, 2)


def tiles_of(tasks: int, size: int, at_once: int) -> list[slice]:
    """The tasks, of `size` bytes each, in groups of no more than `at_once` bytes, or of one task."""
    together = max(1, at_once // max(1, size))
    return [slice(start, start + together) for start in range(0, tasks, together)]


@lru_cache(maxsize=256)
def forms(shape: tuple[int, ...], element_size: int, window: Window) -> Forms:
    """The Forms for inputs [T, N, H, W, C] of that shape."""
    return Forms(shape, element_size, window)


class _Patched:
    """Inputs as the matrices [t, M, S] of what a kernel sees at each of its places."""

    def __init__(self, inputs: Tensor, of: Forms) -> None:
        (k, l), (down, right), (top, left) = of.window  # noqa: E741
        padded = inputs
        if top or left:
            padded = inputs.new_empty(len(inputs), of.examples, *of.padded(), of.channels)
            padded[:, :, top : top + of.height, left : left + of.width] = inputs
            for axis, margin, inside in ((2, top, of.height), (3, left, of.width)):
                padded.narrow(axis, 0, margin).zero_()
                padded.narrow(axis, margin + inside, margin).zero_()
        task, example, row, column, _ = padded.stride()
        # S values are k rows of l * C that lie side by side.
        size = (len(inputs), of.examples, of.h, of.w, k, l * of.channels)
        seen = padded.as_strided(size, (task, example, down * row, right * column, row, 1), padded.storage_offset())
        self._patches = seen.reshape(len(inputs), of.examples * of.h * of.w, -1)

    def forward(self, weight: Tensor, out: Tensor, add: bool = False) -> None:
        if add:
            out.baddbmm_(self._patches, weight.mT)
        else:
            torch.bmm(self._patches, weight.mT, out=out)

    def to_weight(self, gradient: Tensor, out: Tensor) -> None:
        torch.bmm(gradient.mT, self._patches, out=out)


class _Direct:
    """The inputs of one task as torch's own convolution takes them."""

    def __init__(self, inputs: Tensor, of: Forms) -> None:
        self._of = of
        self._inputs = inputs[0].permute(0, 3, 1, 2)

    def forward(self, weight: Tensor, out: Tensor, add: bool = False) -> None:
        window = self._of.window
        outputs = torch.conv2d(self._inputs, self._of.kernels(weight), None, window.stride, window.padding)
        rows = outputs.permute(0, 2, 3, 1).reshape(out.shape)
        out.add_(rows) if add else out.copy_(rows)

    def to_weight(self, gradient: Tensor, out: Tensor) -> None:
        like = self._of.kernels(out)
        like.copy_(self._of.derivative(gradient, self._inputs, like, of=1))
