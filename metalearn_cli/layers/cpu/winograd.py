"""The forms of a convolution by 3 x 3 in steps of one, with 4/9 of the multiplications, by compiled kernels.

The legend is in bilinear.py, the method in cpp/winograd.h.

No patches are made: the kernels transform a few places at a time, which stay in the cache. Float32 rounds a little more
than in a plain sum of products: all values of a tile of 4 x 4 pixels are added and subtracted first.
"""

from functools import cached_property

from torch import Tensor

from metalearn_cli.layers.cpu.bilinear import Forms, Seen, Window, tiles_of
from metalearn_cli.layers.cpu.kernels import Kernels

_BYTES_AT_ONCE = 1 << 20
"""The bytes of inputs and outputs in a tile (measured)."""

_WEIGHTS_UP_TO = 128 * 128
"""C * O above which the transformed weights would have to be fetched into the cache again and again."""


def suits(window: Window, outputs: tuple[int, int], channels: tuple[int, int], element_size: int) -> bool:
    """Whether this way can compute outputs of h x w, and is the faster one; `channels` are C and O."""
    steps = window.kernel == (3, 3) and window.stride == (1, 1) and max(window.padding) <= 2
    # Kernels compute whole vectors of 64 bytes, and tiles of 2 x 2 outputs.
    whole = all(number % (64 // element_size) == 0 for number in channels)
    return steps and whole and min(outputs) >= 3 and channels[0] * channels[1] <= _WEIGHTS_UP_TO


class Winograd(Forms):
    """The forms by compiled kernels."""

    kernels: Kernels

    @cached_property
    def tiles(self) -> list[slice]:
        """Tasks whose inputs fit into a core's cache together."""
        size = self.examples * max(self.height * self.width, self.h * self.w) * self.channels * self.element_size
        return tiles_of(self.tasks, 2 * size, _BYTES_AT_ONCE)

    def see(self, inputs: Tensor) -> Seen:
        """The contiguous inputs [t, N, H, W, C] of a tile as they are."""
        return _Plain(inputs, self)

    def to_inputs(self, gradient: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """The gradient for inputs [t, N, H, W, C], given that for outputs [t, M, O] and a weight [t, O, S]."""
        tasks = len(gradient)
        out = gradient.new_empty(self.pictures(tasks)) if out is None else out
        # The gradient is convolved with each kernel turned by half a turn; a margin of 2 - p puts it in its place.
        (top, left), pictures = self.window.padding, (tasks * self.examples, self.h, self.w, weight.shape[1])
        sizes = (*pictures, 3, 3, 1, 1, 2 - top, 2 - left, self.height, self.width)
        turned, add = 1, 0
        self.kernels.call("winograd", sizes, (tasks, gradient, weight.contiguous(), self.channels, turned, out, add))
        return out


class _Plain:
    """The inputs of a tile, which the kernels transform where they need them."""

    def __init__(self, inputs: Tensor, of: Winograd) -> None:
        self._inputs, self._of = inputs, of

    def forward(self, weight: Tensor, out: Tensor | None = None, add: bool = False) -> Tensor:
        of, inputs, tasks, turned = self._of, self._inputs, len(self._inputs), 0
        out = inputs.new_empty(tasks, of.examples * of.h * of.w, weight.shape[1]) if out is None else out
        weight = weight.contiguous()
        of.kernels.call("winograd", of.sizes(tasks), (tasks, inputs, weight, weight.shape[1], turned, out, int(add)))
        return out

    def to_weight(self, gradient: Tensor, out: Tensor) -> None:
        tasks = len(self._inputs)
        arguments = (tasks, self._inputs, gradient, gradient.shape[2], out)
        self._of.kernels.call("winograd_to_weight", self._of.sizes(tasks), arguments)
