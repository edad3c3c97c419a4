"""Stored pictures where they are worked on, in the device's own memory where they fit there, and as network inputs.

A picture is a byte a value until it is drawn, and what names it is a number; so to a device goes either the whole
dataset, once, or the bytes of the pictures drawn. Nothing here waits for the device.

Legend: T tasks, W ways, E examples per class, N pictures, H height, W width, C channels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metalearn_cli.datasets import Preprocessing
from metalearn_cli.runtime.data.augmentation import per_channel
from metalearn_cli.storage.prepared.rows import Rows

CPU = torch.device("cpu")
_SHARE = 0.5
"""Of the memory that is free on a device, what a dataset may take; the rest is for what is computed."""
_SMALL, _ROWS_AT_ONCE = 64 << 20, 4096


class Pixels:
    """Pictures uint8 [N, H, W, C] of a store, to be taken by number to a device: in memory, or read from their file."""

    def __init__(self, stored: Tensor | Rows, device: torch.device) -> None:
        self.device = device
        self._stored = stored

    @property
    def resident(self) -> bool:
        """Whether all of them are in the device's own memory."""
        return isinstance(self._stored, Tensor) and self._stored.device == self.device

    def taken(self, numbers: Tensor) -> Tensor:
        """The pictures of these numbers [...], on the device: [..., H, W, C].

        Raises DataError if their file is not what it was when it was opened.
        """
        wanted = numbers.flatten()
        if isinstance(self._stored, Rows):
            found = torch.from_numpy(self._stored.taken(wanted.numpy()))
        else:
            found = self._stored.index_select(0, sent(wanted, self.device) if self.resident else wanted)
        found = sent(found, self.device)
        return found.view(*numbers.shape, *found.shape[1:])


def pixels_on(rows: Rows, device: torch.device = CPU) -> Pixels:
    """The pictures of a store for a device: in a GPU's memory if they take half of what is free there or less, in the
    host's if they take less than 64 MiB, read from the disk otherwise.
    """
    if device.type != "cuda":
        return Pixels(_in_memory(rows, device) if rows.nbytes <= _SMALL else rows, device)
    numbered = torch.empty(0, device=device).device
    if fits(rows.nbytes, numbered):
        return Pixels(_in_memory(rows, numbered), numbered)
    return Pixels(rows, numbered)


def _in_memory(rows: Rows, device: torch.device) -> Tensor:
    """All rows on a device; never more than a few at once on their way there."""
    stored = torch.empty(rows.shape, dtype=torch.uint8, device=device)
    for start in range(0, rows.shape[0], _ROWS_AT_ONCE):
        numbers = np.arange(start, min(start + _ROWS_AT_ONCE, rows.shape[0]))
        stored[start : start + len(numbers)] = torch.from_numpy(rows.taken(numbers)).to(device)
    return stored


def fits(size: int, device: torch.device) -> bool:
    """Whether so many bytes take half of the memory that is free on a GPU or less."""
    return size <= _SHARE * torch.cuda.mem_get_info(device)[0]


def sent(values: Tensor, device: torch.device) -> Tensor:
    """The same values on a device; towards a GPU without waiting until they are there."""
    if values.device.type == "cpu" and device.type == "cuda":
        return values.contiguous().pin_memory().to(device, non_blocking=True)
    return values.to(device)


def turned(pixels: Tensor, turns: NDArray[np.int64]) -> Tensor:
    """Pixels [T, W, E, H, W, C], those of each class turned in place by its number of quarters [T, W]."""
    each = pixels.flatten(0, 1)
    for quarters in (1, 2, 3):
        if len(places := np.flatnonzero(turns == quarters)):
            these = sent(torch.from_numpy(places), pixels.device)
            each.index_copy_(0, these, each.index_select(0, these).rot90(quarters, (2, 3)))
    return pixels


def normalised(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Pixels [..., H, W, C] as network inputs [..., C, H, W], float32."""
    inputs = pixels.movedim(-1, -3).to(torch.float32, memory_format=torch.contiguous_format)
    scale = tuple(1 / (255 * deviation) for deviation in std)
    shift = tuple(-average / deviation for average, deviation in zip(mean, std, strict=True))
    return inputs.mul_(per_channel(scale, pixels.device)).add_(per_channel(shift, pixels.device))


def inputs_of_stored(pictures: Sequence[NDArray[np.uint8]], seen: Preprocessing) -> Tensor:
    """Pictures [H, W, C] as `prepare` stores them, as network inputs [N, C, H, W] on the CPU."""
    return normalised(torch.from_numpy(np.stack(pictures)), seen.mean, seen.std)
