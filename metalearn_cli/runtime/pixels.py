"""Stored pictures where they are worked on, in the device's own memory where they fit there, and as network inputs.

A picture is a byte a value until it is drawn, and what names it is a number; so to a device goes either the whole
dataset, once, or the bytes of the pictures drawn. Nothing here waits for the device.

Legend: T tasks, W ways, E examples per class, N pictures, H height, W width, C channels.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metalearn_cli.core.augmentation import per_channel
from metalearn_cli.datasets import Preprocessing

CPU = torch.device("cpu")
_SHARE = 0.5
"""Of the memory that is free on a device, what a dataset may take; the rest is for what is computed."""


class Pixels:
    """Pictures uint8 [N, H, W, C] of a store, to be taken by number to a device."""

    def __init__(self, stored: Tensor, device: torch.device) -> None:
        self.device = device
        self._stored = stored

    @property
    def resident(self) -> bool:
        """Whether all of them are in the device's own memory."""
        return self._stored.device == self.device

    def taken(self, numbers: Tensor) -> Tensor:
        """The pictures of these numbers [...], on the device: [..., H, W, C]."""
        wanted = numbers.flatten()
        wanted = sent(wanted, self.device) if self.resident else wanted
        found = sent(self._stored.index_select(0, wanted), self.device)
        return found.view(*numbers.shape, *found.shape[1:])


def pixels_on(images: NDArray[np.uint8], device: torch.device = CPU) -> Pixels:
    """The pictures of a store, uint8 [N, H, W, C], for a device: copied into its memory if they take half of what is
    free there or less, mapped from the disk otherwise.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nobody writes here
        stored = torch.from_numpy(images)
    if device.type != "cuda":
        return Pixels(stored, device)
    numbered = torch.empty(0, device=device).device
    return Pixels(stored.to(numbered) if fits(stored.nbytes, numbered) else stored, numbered)


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
