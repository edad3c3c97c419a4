"""The choice of a way to compute the convolution of a shape."""

from functools import lru_cache

from metalearn_cli.layers.cpu.bilinear import Forms, Window
from metalearn_cli.layers.cpu.by_kernels import ByKernels, way_for
from metalearn_cli.layers.cpu.direct import Direct
from metalearn_cli.layers.cpu.kernels import Kernels
from metalearn_cli.layers.cpu.patches import Patches


@lru_cache(maxsize=256)
def forms(
    shape: tuple[int, ...], outputs: int, element_size: int, window: Window, kernels: Kernels | None = None
) -> Forms:
    """The forms for inputs [T, N, H, W, C] of this shape and O = `outputs` (cached, as they depend on nothing else)."""
    _, examples, height, width, channels = shape
    way = way_for(window, (examples, *window.steps(height, width)), (channels, outputs), element_size)
    if kernels is not None and way is not None:
        return ByKernels(shape, element_size, window, kernels, way)
    by_patches = Patches(shape, element_size, window, kernels)
    return by_patches if by_patches.fit else Direct(shape, element_size, window)
