"""The forms of a convolution by compiled kernels, which write no patches down (the legend: bilinear.py).

There are two ways. A kernel of 3 x 3 in steps of one needs only 4/9 of the multiplications (cpp/winograd.h); float32
rounds a little more there than in a plain sum of products, as the values of a tile of 4 x 4 pixels are added and
subtracted first. All others are products that read the patches where they are in the pictures (cpp/implicit.h).
"""

import math
from functools import cached_property
from typing import Literal

from torch import Tensor

from metalearn_cli.layers.cpu.bilinear import Forms, Seen, Window, tiles_of
from metalearn_cli.layers.cpu.kernels import Kernels

Way = Literal["winograd", "implicit"]

_BYTES_AT_ONCE = 1 << 20
"""The bytes of inputs and outputs in a tile (measured)."""

_WEIGHT_UP_TO = 1 << 20
"""The bytes of a transformed weight above which it would have to be fetched into a core's cache again and again."""

_WEIGHT_OF_MANY_PLACES, _MANY = 8 << 20, 1000
"""The same for a task of so many places that fewer multiplications are worth it (measured: 320 channels in and out)."""


def way_for(window: Window, outputs: tuple[int, int, int], channels: tuple[int, int], element_size: int) -> Way | None:
    """The faster way for outputs of N x h x w places, and None if neither is fast; `channels` are C and O."""
    # Kernels compute whole vectors of 64 bytes.
    if any(number % (64 // element_size) for number in channels):
        return None
    size = channels[0] * channels[1] * element_size
    filtered = window.kernel == (3, 3) and window.stride == (1, 1) and max(window.padding) <= 2
    largest = _WEIGHT_OF_MANY_PLACES if math.prod(outputs) >= _MANY else _WEIGHT_UP_TO
    if filtered and min(outputs[1:]) >= 3 and 16 * size <= largest:
        return "winograd"
    return "implicit" if window.kernel[0] * window.kernel[1] * size <= _WEIGHT_UP_TO else None


class ByKernels(Forms):
    """The forms by compiled kernels, in the way that `way_for` names."""

    def __init__(self, shape: tuple[int, ...], element_size: int, window: Window, kernels: Kernels, way: Way) -> None:
        super().__init__(shape, element_size, window)
        self._kernels, self._way = kernels, way

    @cached_property
    def tiles(self) -> list[slice]:
        """Tasks whose inputs, and outputs of about their size, fit into a core's cache together."""
        size = self.examples * max(self.height * self.width, self.h * self.w) * self.channels * self.element_size
        return tiles_of(self.tasks, 2 * size, _BYTES_AT_ONCE)

    def see(self, inputs: Tensor) -> Seen:
        """The contiguous inputs [t, N, H, W, C] of a tile as they are."""
        return _Plain(inputs, self)

    def to_inputs(self, gradient: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """The gradient for inputs [t, N, H, W, C], given that for outputs [t, M, O] and a weight [t, O, S]."""
        out = gradient.new_empty(self.pictures(len(gradient))) if out is None else out
        self.call("_to_inputs", len(gradient), (gradient, weight.contiguous(), weight.shape[1], out))
        return out

    def call(self, form: str, tasks: int, arguments: tuple[Tensor | int, ...]) -> None:
        """Call the kernel of one of the three forms for so many tasks."""
        self._kernels.call(self._way + form, self.sizes(tasks), (tasks, *arguments))


class _Plain:
    """The inputs of a tile, which the kernels read where they need them."""

    def __init__(self, inputs: Tensor, of: ByKernels) -> None:
        self._inputs, self._of = inputs, of

    def forward(self, weight: Tensor, out: Tensor | None = None, add: bool = False) -> Tensor:
        of, inputs, outputs = self._of, self._inputs, weight.shape[1]
        out = inputs.new_empty(len(inputs), of.examples * of.h * of.w, outputs) if out is None else out
        of.call("", len(inputs), (inputs, weight.contiguous(), outputs, int(add), out))
        return out

    def to_weight(self, gradient: Tensor, out: Tensor) -> None:
        self._of.call("_to_weight", len(self._inputs), (self._inputs, gradient, gradient.shape[2], out))
