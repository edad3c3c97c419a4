"""The three bilinear forms of a convolution of a few tasks with different weights, on a CPU.

A convolution is linear in its inputs and in its weights, so all its derivatives consist of three bilinear forms:
forward, to the weights, and to the inputs. There are three ways to compute them, a file each: as matrix products over
patches (patches.py), by torch's own convolution (direct.py), and by compiled kernels (by_kernels.py). forms.py takes
one of them for a shape.

Legend: T tasks, t of them in a tile, N examples, C channels in, O channels out, H x W input size, h x w output size,
k x l kernel, S = k * l * C values in a patch, M = N * h * w patches of a task.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol

from torch import Tensor


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


class Forms(ABC):
    """The three bilinear forms for inputs of one shape, and the division of the tasks into tiles."""

    def __init__(self, shape: tuple[int, ...], element_size: int, window: Window) -> None:
        self.tasks, self.examples, self.height, self.width, self.channels = shape
        self.window, (self.h, self.w) = window, window.steps(self.height, self.width)
        self.element_size = element_size

    @property
    @abstractmethod
    def tiles(self) -> list[slice]:
        """The tasks that are worked on together."""

    @abstractmethod
    def see(self, inputs: Tensor) -> Seen:
        """The contiguous inputs [t, N, H, W, C] of a tile, prepared for products."""

    @abstractmethod
    def to_inputs(self, gradient: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """The gradient for inputs [t, N, H, W, C], given that for outputs [t, M, O] and a weight [t, O, S].

        With `out` it is written there.
        """

    def sizes(self, tasks: int) -> tuple[int, ...]:
        """The window as the kernels have it: pictures of `tasks` tasks, their size, the kernel, steps and margins."""
        pictures = (tasks * self.examples, self.height, self.width, self.channels)
        return *pictures, *self.window.kernel, *self.window.stride, *self.window.padding, self.h, self.w

    def pictures(self, tasks: int) -> tuple[int, ...]:
        """The size of the inputs of `tasks` tasks, [t, N, H, W, C]."""
        return tasks, self.examples, self.height, self.width, self.channels


def tiles_of(tasks: int, size: int, at_once: int) -> list[slice]:
    """The tasks, of `size` bytes each, in groups of at most `at_once` bytes; a larger task is a group of its own."""
    together = max(1, at_once // max(1, size))
    return [slice(start, start + together) for start in range(0, tasks, together)]
