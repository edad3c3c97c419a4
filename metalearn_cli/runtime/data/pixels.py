"""Brings stored pictures to the device that computes, and turns them into network inputs.

Pictures stay uint8 until they are drawn, and are named by numbers. Either the whole dataset is sent to the device once,
if it fits there, or the bytes of the drawn pictures are sent for each task. Nothing here waits for the device.

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
"""The share of a device's free memory that a dataset may take; the rest is for the computation."""
_SMALL = 64 << 20  # bytes
_ROWS_AT_ONCE = 4096


class Pixels:
    """Pictures uint8 [N, H, W, C] of a store, or their features float16 [N, F]; each call brings some to a device.

    They are either in memory, or are read from their file.
    """

    def __init__(self, stored: Tensor | Rows, device: torch.device) -> None:
        self.device = device
        self._stored = stored

    @property
    def resident(self) -> bool:
        """Whether all pictures are in the device's own memory."""
        return isinstance(self._stored, Tensor) and self._stored.device == self.device

    def taken(self, numbers: Tensor) -> Tensor:
        """The pictures with these `numbers` [...], on the device: [..., H, W, C].

        Raises DataError if their file has changed since it was opened.
        """
        wanted = numbers.flatten()
        if isinstance(self._stored, Rows):
            rows = torch.from_numpy(self._stored.taken(wanted.numpy()))
        else:
            rows = self._stored.index_select(0, sent(wanted, self.device) if self.resident else wanted)
        rows = sent(rows, self.device)
        return rows.view(*numbers.shape, *rows.shape[1:])


def pixels_on(rows: Rows, device: torch.device = CPU) -> Pixels:
    """The pictures of a stored dataset for a device.

    They are held in a GPU's memory if they take at most half of its free memory, in the host's memory if they take less
    than 64 MiB, and are otherwise read from the disk.
    """
    if device.type != "cuda":
        return Pixels(_in_memory(rows, device) if rows.nbytes <= _SMALL else rows, device)
    numbered = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0", as tensors on it say
    if fits_gpu(rows.nbytes, numbered):
        return Pixels(_in_memory(rows, numbered), numbered)
    return Pixels(rows, numbered)


def _in_memory(rows: Rows, device: torch.device) -> Tensor:
    """All rows on a device. They go there in blocks, so that the host never holds all of them."""
    stored = torch.empty(rows.shape, dtype=torch.from_numpy(np.empty(0, rows.dtype)).dtype, device=device)
    for start in range(0, rows.shape[0], _ROWS_AT_ONCE):
        numbers = np.arange(start, min(start + _ROWS_AT_ONCE, rows.shape[0]))
        stored[start : start + len(numbers)] = torch.from_numpy(rows.taken(numbers)).to(device)
    return stored


def fits_gpu(size: int, device: torch.device) -> bool:
    """Whether `size` bytes are at most half of a GPU's free memory."""
    return size <= _SHARE * torch.cuda.mem_get_info(device)[0]


def sent(values: Tensor, device: torch.device) -> Tensor:
    """The same values on a device; this call does not wait for the end of a copy to a GPU."""
    if values.device.type == "cpu" and device.type == "cuda":  # without pinned memory, non_blocking would wait
        return values.contiguous().pin_memory().to(device, non_blocking=True)
    return values.to(device)


def turned(pixels: Tensor, turns: NDArray[np.int64]) -> Tensor:
    """Pixels [T, W, E, H, W, C], with each class turned in place by `turns` [T, W] times 90 degrees."""
    by_class = pixels.flatten(0, 1)  # a view of the same memory
    for quarters in (1, 2, 3):
        if len(places := np.flatnonzero(turns == quarters)):
            these = sent(torch.from_numpy(places), pixels.device)
            by_class.index_copy_(0, these, by_class.index_select(0, these).rot90(quarters, (2, 3)))
    return pixels


def normalised(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Pixels uint8 [..., H, W, C] as network inputs (pixel / 255 - mean) / std, float32 [..., C, H, W]."""
    inputs = pixels.movedim(-1, -3).to(torch.float32, memory_format=torch.contiguous_format)
    # (p / 255 - mean) / std = p * scale + shift: two passes in place instead of three new tensors.
    scale = tuple(1 / (255 * deviation) for deviation in std)
    shift = tuple(-average / deviation for average, deviation in zip(mean, std, strict=True))
    return inputs.mul_(per_channel(scale, pixels.device)).add_(per_channel(shift, pixels.device))


def inputs_of_stored(pictures: Sequence[NDArray[np.uint8]], seen: Preprocessing) -> Tensor:
    """Stored pictures uint8 [H, W, C] as network inputs [N, C, H, W] on the CPU."""
    return normalised(torch.from_numpy(np.stack(pictures)), seen.mean, seen.std)


def pictures_of_inputs(inputs: Tensor, seen: Preprocessing) -> NDArray[np.uint8]:
    """Network inputs [N, C, H, W] turned back into pictures, uint8 [N, H, W, C]: the inverse of `inputs_of_stored`."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (seen.mean, seen.std))
    values = ((inputs.cpu() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    pictures: NDArray[np.uint8] = values.movedim(1, -1).contiguous().numpy()
    return pictures
