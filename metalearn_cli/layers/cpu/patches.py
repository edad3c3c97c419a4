"""The forms of a convolution as matrix products over patches, several tasks in one product (the legend: bilinear.py).

This suits small tasks, whose patches fit into a core's cache.
"""

from functools import cached_property
from itertools import product

import torch
from torch import Tensor

from metalearn_cli.layers.cpu.bilinear import Forms, Seen, Window, tiles_of
from metalearn_cli.layers.cpu.kernels import Kernels

PATCHES_AT_ONCE = 5 << 19
"""The bytes of patches in a tile (measured): more would not fit into a core's cache, fewer would mean more calls."""


class Patches(Forms):
    """The forms by matrices of patches, which compiled `kernels` cut and put back if there are some."""

    def __init__(self, shape: tuple[int, ...], element_size: int, window: Window, kernels: Kernels | None) -> None:
        super().__init__(shape, element_size, window)
        self.kernels = kernels

    @property
    def fit(self) -> bool:
        """Whether the patches of one task fit into a core's cache."""
        return self._size <= PATCHES_AT_ONCE

    @cached_property
    def tiles(self) -> list[slice]:
        """Tasks whose patches fit into a core's cache together."""
        return tiles_of(self.tasks, self._size, PATCHES_AT_ONCE)

    def see(self, inputs: Tensor) -> Seen:
        """The contiguous inputs [t, N, H, W, C] of a tile as patches."""
        return _Patched(inputs, self)

    def to_inputs(self, gradient: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """The gradient for inputs [t, N, H, W, C], given that for outputs [t, M, O] and a weight [t, O, S]."""
        out = gradient.new_empty(self.pictures(len(gradient))) if out is None else out
        # [t, M, O] @ [t, O, S]: what each value of a patch gets; pixels of several patches sum up.
        patches = torch.bmm(gradient, weight)
        if self.kernels is None:
            self._put_back(patches, out)
        else:
            self.kernels.call("put_back", self.sizes(len(gradient)), (patches, out))
        return out

    @property
    def _size(self) -> int:
        """The bytes of one task's patches, M * S values."""
        places, values = self.examples * self.h * self.w, self.window.kernel[0] * self.window.kernel[1] * self.channels
        return places * values * self.element_size

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


class _Patched:
    """Inputs as matrices of patches [t, M, S]: a row for each place of the kernel."""

    def __init__(self, inputs: Tensor, of: Patches) -> None:
        if of.kernels is None:
            self._patches = self._cut(inputs, of)
        else:
            values = of.window.kernel[0] * of.window.kernel[1] * of.channels
            self._patches = inputs.new_empty(len(inputs), of.examples * of.h * of.w, values)
            of.kernels.call("patches", of.sizes(len(inputs)), (inputs, self._patches))

    @staticmethod
    def _cut(inputs: Tensor, of: Patches) -> Tensor:
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
