"""The patches of a first block, by torch alone or by compiled kernels, and the products of its kernel with them.

`TorchPatches` and `CompiledPatches` give the same numbers; first_block.py says what each function computes.

Legend: T tasks, t of them in a tile, N examples, C channels in, O channels out, H x W input size, h x w output size,
k x l kernel, S = k * l * C values in a patch, M = N * h * w patches of a task, P places after the max-pool, [.] mean
over M.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from metalearn_cli.layers.cpu.activation import activate_, let_through, let_through_
from metalearn_cli.layers.cpu.bilinear import Window, tiles_of
from metalearn_cli.layers.cpu.block import Kind
from metalearn_cli.layers.cpu.kernels import Kernels

_BYTES_AT_ONCE = 5 << 19
"""The bytes of outputs in a tile: more would not fit into a core's cache, fewer would mean more calls."""

_PLACES_AT_ONCE = 512
"""The number of places over which float32 sums products accurately enough."""


class TorchPatches:
    """The patches by torch alone, all in one tensor; without a max-pool."""

    def __init__(self, inputs: Tensor, kind: Kind) -> None:
        self._patches, self._slope = _centred_patches(inputs, kind.window), kind.slope

    def covariance(self) -> Tensor:
        return torch.stack([_covariance(of_task[:-1]) for of_task in self._patches])  # without the row of ones

    def forward(self, kernel: Tensor) -> tuple[Tensor, Tensor]:
        outputs = kernel.new_empty(len(kernel), self._patches.shape[2], kernel.shape[1])
        for tile in _tiles(outputs):
            # [t, M, S + 1] @ [t, S + 1, O]: P^T K^T.
            torch.bmm(self._patches[tile].mT, kernel[tile].mT, out=(out := outputs[tile]))
            activate_(out, self._slope)
        return outputs, outputs.new_empty(0)

    def to_kernel(self, gradient: Tensor, outputs: Tensor, _origin: Tensor, /) -> Tensor:
        of_kernel = gradient.new_empty(len(gradient), outputs.shape[2], self._patches.shape[1])
        for tile in _tiles(outputs):
            through = let_through(gradient[tile], outputs[tile], self._slope)
            torch.bmm(through.mT, self._patches[tile].mT, out=of_kernel[tile])
        return of_kernel

    def let_through(self, kernel: Tensor, outputs: Tensor, _origin: Tensor, /) -> Tensor:
        products = torch.empty_like(outputs)
        for tile in _tiles(outputs):
            torch.bmm(self._patches[tile].mT, kernel[tile].mT, out=(out := products[tile]))
            let_through_(out, outputs[tile], self._slope)
        return products


class CompiledPatches:
    """The patches by compiled kernels, which cut them again for each product, while the pictures are in the cache."""

    def __init__(self, inputs: Tensor, kind: Kind, kernels: Kernels) -> None:
        (k, l), stride, (top, left) = kind.window  # noqa: E741
        self._kind, self._kernels = kind, kernels
        # The mean of each channel is taken away (also from the margin), so that the products cancel less.
        padded = F.pad(inputs, (left, left, top, top)) - inputs.mean((1, 3, 4), keepdim=True)
        last = padded.permute(0, 1, 3, 4, 2)
        # The kernels read whole vectors of 64 bytes, so 16 values more than there are.
        self._pictures = inputs.new_empty(last.numel() + 16)[: last.numel()].view(last.shape).copy_(last)
        _, examples, *size = self._pictures.shape
        h, w = kind.window.steps(*inputs.shape[3:])
        self._window = (examples, *size, k, l, *stride, 0, 0, h, w)
        values, self._places = k * l * inputs.shape[2], examples * h * w
        pooled = examples * (h // kind.pool) * (w // kind.pool)
        self._size = (len(inputs), pooled)
        wide = -(-values // 16) * 16  # values, rounded up to whole vectors of 16 floats
        # Row i holds the sums over all places of (value i of a patch) * (each value); the last, of the values.
        products = inputs.new_empty(len(inputs), values + 1, wide, dtype=torch.float64)
        for picture, product in zip(self._pictures, products, strict=True):
            kernels.call("patch_products", self._window, (picture, wide, product))
        self._products = products[..., :values] / self._places
        self._means = self._products[:, -1].to(inputs.dtype)

    def covariance(self) -> Tensor:
        means = self._products[:, -1]
        # [P P^T] - [P] [P]^T, for patches that are not centred.
        return self._products[:, :-1] - means.unsqueeze(2) * means.unsqueeze(1)

    def forward(self, kernel: Tensor) -> tuple[Tensor, Tensor]:
        outputs = kernel.new_empty(*self._size, kernel.shape[1])
        origin = torch.empty(outputs.shape if self._kind.pool > 1 else (len(outputs), 0), dtype=torch.uint8)
        for picture, of_task, out, of in zip(self._pictures, self._raw(kernel), outputs, origin, strict=True):
            self._call("first_forward", (picture, of_task, kernel.shape[1], self._kind.slope, out, of))
        return outputs, origin

    def to_kernel(self, gradient: Tensor, outputs: Tensor, origin: Tensor, /) -> Tensor:
        count = outputs.shape[2]
        raw = gradient.new_empty(len(gradient), self._means.shape[1] + 1, count)
        for picture, g, y, of, to in zip(self._pictures, gradient, outputs, origin, raw, strict=True):
            self._call("first_to_kernel", (picture, g, y, of, count, self._kind.slope, to))
        raw[:, :-1] -= self._means.unsqueeze(2) * raw[:, -1:]  # centred: P - [P]
        return raw.mT

    def let_through(self, kernel: Tensor, outputs: Tensor, origin: Tensor, /) -> Tensor:
        to, count = torch.empty_like(outputs), kernel.shape[1]
        for picture, of_task, y, of, out in zip(self._pictures, self._raw(kernel), outputs, origin, to, strict=True):
            self._call("first_let_through", (picture, of_task, y, of, count, self._kind.slope, out))
        return to

    def _raw(self, kernel: Tensor) -> Tensor:
        """The kernel [T, S + 1, O] that gives for patches what `kernel` gives for centred ones: K (P - [P]) + b."""
        shift = kernel[..., -1] - (kernel[..., :-1] @ self._means.unsqueeze(2)).squeeze(2)
        return torch.cat([kernel[..., :-1].mT, shift.unsqueeze(1)], 1)

    def _call(self, function: str, arguments: tuple[Any, ...]) -> None:
        self._kernels.call(function, self._window, (self._kind.pool, *arguments))


def _centred_patches(inputs: Tensor, window: Window) -> Tensor:
    """Patches [T, S + 1, M]: each value minus its mean over the M patches, and a last row of ones for the shift b."""
    (k, l), (down, right), (top, left) = window  # noqa: E741
    padded = F.pad(inputs, (left, left, top, top)) if top or left else inputs.contiguous()
    tasks, examples, channels = inputs.shape[:3]
    h, w = window.steps(*inputs.shape[3:])
    task, example, channel, row, column = padded.stride()
    # A view [k, l, C, N, h, w] of each task: the value at offset (k, l) of the window that starts at (h, w) times the
    # stride. Copied, it is a matrix with a row for each of the S values and a column for each of the M places.
    size, places = (k, l, channels, examples, h, w), (row, column, channel, example, down * row, right * column)
    patches = inputs.new_empty(tasks, channels * k * l + 1, examples * h * w)
    seen = patches[:, :-1]
    seen.view(tasks, *size).copy_(padded.as_strided((tasks, *size), (task, *places)))
    seen.sub_(seen.mean(-1, keepdim=True))
    patches[:, -1] = 1
    return patches


def _covariance(patches: Tensor) -> Tensor:
    """The covariance [P P^T], [S, S] in float64, of centred patches [S, M].

    If a filter reads differences of neighbouring pixels and pictures are smooth, w [P P^T] w^T cancels almost
    completely, so the covariance must be accurate. It is summed over short pieces in float32, and over the pieces in
    float64; float64 throughout would take four times as long.
    """
    values, places = patches.shape
    full = places // _PLACES_AT_ONCE
    # [S, M] seen as pieces [M / 512, S, 512], without a copy.
    pieces = patches.as_strided((full, values, _PLACES_AT_ONCE), (_PLACES_AT_ONCE, patches.stride(0), 1))
    rest = patches[:, full * _PLACES_AT_ONCE :]
    return ((pieces @ pieces.mT).sum(0, dtype=torch.float64) + (rest @ rest.mT).double()) / places


def _tiles(outputs: Tensor) -> list[slice]:
    return tiles_of(len(outputs), outputs[0].nbytes, _BYTES_AT_ONCE)
