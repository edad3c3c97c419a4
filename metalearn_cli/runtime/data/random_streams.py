"""The random numbers of tasks: pure functions of (seed, part, step, number), without state.

Legend: T tasks.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from metalearn_cli.datasets import Part


def generator_for(seed: int, part: str, step: int, number: int) -> np.random.Generator:
    """A generator of the random numbers of task `number` of meta-batch `step`."""
    # Philox is counter-based: it needs no warm-up, and streams of different keys are independent (Salmon et al. 2011).
    # A meta-batch has fewer than 2^20 tasks, so the second half of the key is another for every task.
    return np.random.Generator(np.random.Philox(key=[_stream(seed, part), step << 20 | number]))


def keys_for(seed: int, part: Part, step: int, numbers: Sequence[int]) -> Tensor | None:
    """The keys [T] of the tasks `numbers` of meta-batch `step`, for random layers; None except in training.

    They come from a stream of their own, so tasks are the same with and without random layers.
    """
    if part != "train":
        return None
    return torch.tensor([int(generator_for(seed, f"{part} keys", step, number).integers(2**63)) for number in numbers])


@lru_cache
def _stream(seed: int, part: str) -> int:
    """The first half of the key. A hash, so that neighbouring seeds and parts give unrelated keys in every process."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{part}".encode(), digest_size=8).digest(), "little")
