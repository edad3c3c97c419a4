"""The tail of a block on a CPU: batch norm, max-pool and activation of a tile of tasks, with their derivatives.

    y = a(max over a window of (scale * (c - [c]) * root + shift)),    root = ([c^2] - [c]^2 + eps)^(-1/2)

for the outputs c of a convolution and the activation a. There are two forms that give the same numbers: `TorchTail` has
no max-pool; `CompiledTail` needs a compiler, and less than half the passes over memory.

Legend: t tasks of a tile, N pictures, h x w places of a map, M = N * h * w, P places after the pool, O channels,
[.] mean over M.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from metalearn_cli.layers.cpu.activation import activate_, let_through
from metalearn_cli.layers.cpu.kernels import Kernels, Maps
from metalearn_cli.layers.cpu.normalising import Known, gradients, normalise, second_gradients


class TailResult(NamedTuple):
    """The results of a tail: the outputs y [t, P, O], and the values that its derivatives need besides c.

    `mean` [c] and `root`, [t, O]. With a max-pool, `chosen` [t, P, O] are the values of c from which the maxima came,
    and `origin` [t, P, O] says which of a window they are; without one both are empty, [t, 0].
    """

    outputs: Tensor
    mean: Tensor
    root: Tensor
    chosen: Tensor
    origin: Tensor

    def of(self, tile: slice) -> "TailResult":
        """The results of the tasks of a tile."""
        return TailResult(*(value[tile] for value in self))


class At(NamedTuple):
    """The point at which a tail is differentiated: c [t, M, O], scale [t, O], the tail's results there, map sizes."""

    convolved: Tensor
    scale: Tensor
    made: TailResult
    maps: Maps

    def known(self) -> Known:
        """The values that the derivatives of the norm need."""
        return Known(self.convolved, self.made.mean, self.made.root)


class Cotangents(NamedTuple):
    """The cotangents of a tail's gradients: u [t, M, O] for dL/dc, v for dL/dscale and z for dL/dshift, [t, O]."""

    of_convolved: Tensor
    of_scale: Tensor
    of_shift: Tensor


class Tail(Protocol):
    """A tail's values and derivatives. All tensors are contiguous; `gradient` is dL/dy [t, P, O]."""

    def empty(self, scale: Tensor, maps: Maps, /) -> TailResult:
        """Tensors without values for the results of `forward`, for the tasks of a scale [T, O]."""

    def forward(self, at: At, shift: Tensor, /) -> None:
        """Fill `at.made`."""

    def gradients(
        self, gradient: Tensor, at: At, more: Tensor | None, found: tuple[Tensor, Tensor], /
    ) -> Tensor:  # fmt: skip
        """The gradient for c [t, M, O], plus `more`; those for scale and shift [t, O] are written into `found`."""

    def second_gradients(
        self,
        cotangents: Cotangents,
        gradient: Tensor,
        at: At,
        found: tuple[Tensor, Tensor],
        out: tuple[Tensor, Tensor, Tensor],
        /,
    ) -> None:
        """Write the derivatives of `gradients` for dL/dy, c and scale into `out`, given its results `found`."""


class TorchTail(NamedTuple):
    """Norm and activation by torch alone; `slope` multiplies negative values (0: a ReLU, 1: no activation)."""

    eps: float
    slope: float

    def empty(self, scale: Tensor, maps: Maps, /) -> TailResult:
        """Tensors without values for the results of `forward`, for the tasks of a scale [T, O]."""
        # Of [2, T, O] one half is the mean and one the root; `chosen` and `origin` are empty, [T, 0].
        outputs, of_channels = scale.new_empty(len(scale), maps.pooled, maps.channels), scale.new_empty(2, *scale.shape)
        return TailResult(outputs, *of_channels, *scale.new_empty(2, len(scale), 0))

    def forward(self, at: At, shift: Tensor, /) -> None:
        """Fill `at.made`."""
        normalise(at.known(), at.scale, shift, self.eps, at.made.outputs)
        activate_(at.made.outputs, self.slope)

    def gradients(self, gradient: Tensor, at: At, more: Tensor | None, found: tuple[Tensor, Tensor], /) -> Tensor:
        """The gradient for c [t, M, O], plus `more`; those for scale and shift [t, O] are written into `found`."""
        # Backwards: first through the activation, then through the norm.
        through = let_through(gradient, at.made.outputs, self.slope)
        back, *of_channels = gradients(through, at.scale, at.known(), self.eps)
        for to, values in zip(found, of_channels, strict=True):
            to.copy_(values)
        return back if more is None else back.add_(more)

    def second_gradients(
        self,
        cotangents: Cotangents,
        gradient: Tensor,
        at: At,
        found: tuple[Tensor, Tensor],
        out: tuple[Tensor, Tensor, Tensor],
        /,
    ) -> None:
        """Write the derivatives of `gradients` for dL/dy, c and scale into `out`, given its results `found`."""
        of_gradient, of_convolved, of_scale = out
        # gradients = N(a g) with the norm's N and the activation's factors a, which are constant almost everywhere. So
        # its derivative for g is a times that of N, and only N has one for c and scale.
        through = let_through(gradient, at.made.outputs, self.slope)
        back, again = second_gradients(
            cotangents, through, at.scale, at.known(), found, eps=self.eps, out=of_convolved
        )  # fmt: skip
        of_scale.copy_(again)
        of_gradient.copy_(let_through(back, at.made.outputs, self.slope))


class CompiledTail(NamedTuple):
    """Norm, max-pool and activation by compiled kernels, a task at a time.

    `known` (only without derivatives): the mean and root are those of the first `known` pictures; None takes all.
    """

    eps: float
    slope: float
    kernels: Kernels
    known: int | None = None

    def empty(self, scale: Tensor, maps: Maps, /) -> TailResult:
        """Tensors without values for the results of `forward`, for the tasks of a scale [T, O]."""
        size = (len(scale), maps.pooled, maps.channels)
        chosen = size if maps.pool > 1 else (len(scale), 0)
        origin = torch.empty(chosen, dtype=torch.uint8)
        mean, root = scale.new_empty(2, *scale.shape)  # one tensor, halved
        return TailResult(scale.new_empty(size), mean, root, scale.new_empty(chosen), origin)

    def forward(self, at: At, shift: Tensor, /) -> None:
        """Fill `at.made`."""
        tasks = zip(at.convolved, at.scale.contiguous(), shift.contiguous(), *at.made, strict=True)
        known = at.maps.examples if self.known is None else self.known
        # The kernels take one task; threads share out its places (cpp/vectors.h).
        for c, w, b, y, mean, root, chosen, origin in tasks:
            arguments = (known, c, w, b, self.eps, self.slope, mean, root, y, chosen, origin)
            self.kernels.call("forward", at.maps, arguments)

    def gradients(self, gradient: Tensor, at: At, more: Tensor | None, found: tuple[Tensor, Tensor], /) -> Tensor:
        """The gradient for c [t, M, O], plus `more`; those for scale and shift [t, O] are written into `found`."""
        back = torch.empty_like(at.convolved)
        others = [None] * len(back) if more is None else more  # None is passed as no address
        tasks = zip(gradient, *self._read(at), others, back, *found, strict=True)
        for g, y, chosen, origin, c, mean, root, w, other, *to in tasks:
            arguments = (g, y, chosen, origin, self.slope, c, mean, root, w, other, *to)
            self.kernels.call("gradients", at.maps, arguments)
        return back

    def second_gradients(
        self,
        cotangents: Cotangents,
        gradient: Tensor,
        at: At,
        found: tuple[Tensor, Tensor],
        out: tuple[Tensor, Tensor, Tensor],
        /,
    ) -> None:
        """Write the derivatives of `gradients` for dL/dy, c and scale into `out`, given its results `found`."""
        dense = (value.contiguous() for value in cotangents)
        for u, v, z, g, y, chosen, origin, *rest in zip(*dense, gradient, *self._read(at), *found, *out, strict=True):
            self.kernels.call("second_gradients", at.maps, (u, v, z, g, y, chosen, origin, self.slope, *rest))

    @staticmethod
    def _read(at: At) -> tuple[Tensor, ...]:
        """The tensors that both derivatives read, in the order of cpp/kernels.cpp."""
        made = at.made
        return made.outputs, made.chosen, made.origin, at.convolved, made.mean, made.root, at.scale.contiguous()
