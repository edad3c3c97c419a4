"""Computes the mean and the standard deviation of training pixels.

Legend: n pictures, H height, W width, C channels.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.datasets import Split
from metalearn_cli.storage.prepared.dataset import Moments

_EXACT = 256  # the sum of 256 squared bytes is below 2^24, so float32 holds it exactly


def sums(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The number, the sum and the sum of squares of the pixels in each channel of pictures [n, H, W, C]: [3, C].

    All are whole numbers, so the order of summation does not change them.
    """
    starts = range(0, max(len(pictures), 1), _EXACT)
    added: NDArray[np.float64] = np.sum([_sums(pictures[start : start + _EXACT]) for start in starts], axis=0)
    return added


def _sums(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    channels = pictures.shape[3]
    # Sums over pictures in float32, which is faster and exact here, and only then over pixels in float64.
    columns = pictures.reshape(len(pictures), math.prod(pictures.shape[1:])).astype(np.float32)
    total = columns.sum(0, dtype=np.float32).astype(np.float64).reshape(-1, channels).sum(0)
    squares = np.einsum("ij,ij->j", columns, columns).astype(np.float64).reshape(-1, channels).sum(0)
    number = float(len(pictures) * pictures.shape[1] * pictures.shape[2])
    return np.stack([np.full(channels, number), total, squares])


def of_training(splits: Mapping[str, Split], sums: Mapping[str, NDArray[np.float64]]) -> dict[str, Moments]:
    """The mean and the standard deviation over the training classes of each split, from the `sums` of each class.

    Validation and test classes must not influence them.
    """
    moments = {}
    for split, parts in splits.items():
        number, total, squares = np.sum([sums[name] for name in parts["train"]], axis=0)
        mean = total / number / 255
        std = np.sqrt(np.maximum(squares / number / 255**2 - mean**2, 1e-6))
        moments[split] = Moments(mean=tuple(mean.round(4).tolist()), std=tuple(std.round(4).tolist()))
    return moments
