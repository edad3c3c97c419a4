"""The convolution of a few tasks with different weights, on a CPU.

A convolution is linear in its inputs and in its weights, so all its derivatives consist of three bilinear forms:
forward, to the weights, and to the inputs. There are two ways to compute them. For small tasks, whose patches fit into
a core's cache, they are matrix products over patches, several tasks in one product. For larger tasks, torch's own
convolution computes them; with channels last in memory, it is nearly as fast as a matrix product.

Legend: T tasks, t of them in a tile, N examples, C channels in, O channels out, H x W input size, h x w output size,
k x l kernel, S = k * l * C values in a patch, M = N * h * w patches of a task.
"""

from functools import lru_cache
from itertools import product
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from metalearn_cli.layers.cpu.kernels import Kernels

PATCHES_AT_ONCE = 5 << 19
"""The bytes of patches in a tile (measured): more would not fit into a core's cache, fewer would mean more calls."""


class Window(NamedTuple):
    """The size and the path of a kernel over a picture; each field is (rows, columns)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    def steps(self, height: int, width: int) -> tuple[int, int]:
        """The output size (h, w) for pictures of this size."""
        sizes = (height, width)
        h, w = ((sizes[i] + 2 * self.padding[i] - self.kernel[i]) // self.stride[i] + 1 for i in range(2))
        return h, w


class Seen(Protocol):
    """The inputs [t, N, H, W, C] of a tile, prepared once for several products."""

    def forward(self, weight: Tensor, out: Tensor | None = None, add: bool = False) -> Tensor:
        """The outputs [t, M, O] for a weight [t, O, S]; with `out` they are written into it, or with `add` added."""

    def to_weight(self, gradient: Tensor, out: Tensor) -> None:
        """Write d sum(gradient * outputs) / d weight, [t, O, S], for a gradient [t, M, O], into `out`."""


class Forms:
    """The three bilinear forms for inputs of one shape, and the division of the tasks into tiles."""

    def __init__(
        self, shape: tuple[int, ...], element_size: int, window: Window, kernels: Kernels | None = None
    ) -> None:
        tasks, self.examples, self.height, self.width, self.channels = shape
        self.window, (self.h, self.w) = window, window.steps(self.height, self.width)
        self.kernels = kernels
        # The bytes of one task's patches, M * S values.
        size = self.examples * self.h * self.w * window.kernel[0] * window.kernel[1] * self.channels * element_size
        self.by_patches = size <= PATCHES_AT_ONCE
        self.tiles = tiles_of(tasks, size, PATCHES_AT_ONCE)

    def sizes(self, tasks: int) -> tuple[int, ...]:
        """The window as the kernels have it: pictures of `tasks` tasks, their size, the kernel, steps and margins."""
        pictures = (tasks * self.examples, self.height, self.width, self.channels)
        return *pictures, *self.window.kernel, *self.window.stride, *self.window.padding, self.h, self.w

    def see(self, inputs: Tensor) -> Seen:
        """The contiguous inputs [t, N, H, W, C] of a tile, prepared for products."""
        return _Patched(inputs, self) if self.by_patches else _Direct(inputs, self)

    def to_inputs(self, gradient: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """The gradient for inputs [t, N, H, W, C], given that for outputs [t, M, O] and a weight [t, O, S].

        With `out` it is written there.
        """
        if not self.by_patches:
            # [N, H, W, C] seen as torch's [N, C, H, W]; a view.
            like = gradient.new_empty(self.examples, self.height, self.width, self.channels).permute(0, 3, 1, 2)
            found = self.derivative(gradient, like, self.kernel(weight), of=0).permute(0, 2, 3, 1).unsqueeze(0)
            return found.contiguous() if out is None else out.copy_(found)
        size = (len(gradient), self.examples, self.height, self.width, self.channels)
        out = gradient.new_empty(size) if out is None else out
        # [t, M, O] @ [t, O, S]: what each value of a patch gets; pixels of several patches sum up.
        patches = torch.bmm(gradient, weight)
        if self.kernels is None:
            self._put_back(patches, out)
        else:
            self.kernels.call("put_back", self.sizes(len(gradient)), (patches, out))
        return out

    def padded(self) -> tuple[int, int]:
        """The height and the width of the inputs with their padding."""
        return self.height + 2 * self.window.padding[0], self.width + 2 * self.window.padding[1]

    def _put_back(self, patches: Tensor, out: Tensor) -> None:
        """Add each value of the patches [t, M, S] to the input from which it came: the adjoint of cutting patches.

        Patches overlap. But blocks of `down` rows and `right` columns, taken at the same offset (i, j) of every patch,
        do not overlap each other, so each offset is one vectorised addition. If the kernel is at least as large as the
        stride, the blocks at offset (0, 0) cover everything, so they are copied, and only the others are added.
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
        # Strides that read block (i, j) of every patch, and strides of the same values in the padded pictures.
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


def tiles_of(tasks: int, size: int, at_once: int) -> list[slice]:
    """The tasks, of `size` bytes each, in groups of at most `at_once` bytes; a larger task is a group of its own."""
    together = max(1, at_once // max(1, size))
    return [slice(start, start + together) for start in range(0, tasks, together)]


@lru_cache(maxsize=256)
def forms(shape: tuple[int, ...], element_size: int, window: Window, kernels: Kernels | None = None) -> Forms:
    """The Forms for inputs [T, N, H, W, C] of this shape (cached, as they depend on nothing else)."""
    return Forms(shape, element_size, window, kernels)


class _Patched:
    """Inputs as matrices of patches [t, M, S]: a row for each place of the kernel."""

    def __init__(self, inputs: Tensor, of: Forms) -> None:
        if of.kernels is None:
            self._patches = self._cut(inputs, of)
        else:
            values = of.window.kernel[0] * of.window.kernel[1] * of.channels
            self._patches = inputs.new_empty(len(inputs), of.examples * of.h * of.w, values)
            of.kernels.call("patches", of.sizes(len(inputs)), (inputs, self._patches))

    @staticmethod
    def _cut(inputs: Tensor, of: Forms) -> Tensor:
        (k, l), (down, right), (top, left) = of.window  # noqa: E741
        padded = inputs
        if top or left:
            # Only the margins are filled with zeros; the inside is copied.
            padded = inputs.new_empty(len(inputs), of.examples, *of.padded(), of.channels)
            padded[:, :, top : top + of.height, left : left + of.width] = inputs
            for axis, margin, inside in ((2, top, of.height), (3, left, of.width)):
                padded.narrow(axis, 0, margin).zero_()
                padded.narrow(axis, margin + inside, margin).zero_()
        task, example, row, column, _ = padded.stride()
        # A patch is k rows of l * C values that lie side by side in memory. as_strided makes a view of all patches; the
        # reshape below copies it into a matrix.
        size = (len(inputs), of.examples, of.h, of.w, k, l * of.channels)
        seen = padded.as_strided(size, (task, example, down * row, right * column, row, 1), padded.storage_offset())
        return seen.reshape(len(inputs), of.examples * of.h * of.w, -1)

    def forward(self, weight: Tensor, out: Tensor | None = None, add: bool = False) -> Tensor:
        if out is None:
            return torch.bmm(self._patches, weight.mT)
        return out.baddbmm_(self._patches, weight.mT) if add else torch.bmm(self._patches, weight.mT, out=out)

    def to_weight(self, gradient: Tensor, out: Tensor) -> None:
        torch.bmm(gradient.mT, self._patches, out=out)


class _Direct:
    """The inputs of one task in the layout of torch's own convolution."""

    def __init__(self, inputs: Tensor, of: Forms) -> None:
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
