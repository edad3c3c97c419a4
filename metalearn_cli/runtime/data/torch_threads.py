"""Torch without threads of its own, for work that is small or that threads of ours share out."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_alone() -> Iterator[int]:
    """Torch uses one thread inside; how many it has otherwise.

    Its threads wait for each other after every operation, and do so by turning in a circle. For a layer of a picture or
    some small matrices that takes more of the processors than the work, and on a busy machine ten times as long.
    """
    own = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield own
    finally:
        torch.set_num_threads(own)
