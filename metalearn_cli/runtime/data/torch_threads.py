"""Keeps torch to one thread, for small work, or for work that several threads of this package share."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from metalearn_cli.layers.cpu.kernels import threads_of_torch


@contextmanager
def torch_alone() -> Iterator[int]:
    """Inside the block torch uses one thread; the block gets the number of threads that torch has otherwise.

    Torch's threads wait for each other after every operation in a busy loop. For one picture or a few small matrices
    this takes more processor time than the work itself, and on a busy machine ten times as long.
    """
    own = torch.get_num_threads()
    with threads_of_torch(1):
        yield own
