"""Drop-block: in training, blocks of neighbouring values of a feature map are zero.

Ghiasi, Lin & Le 2018 (https://arxiv.org/abs/1810.12890), algorithm 1.

Legend: T tasks, N examples, C channels, H height, W width.
"""

from collections import Counter
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.passing import BY_BATCH, Params, Pass
from metalearn_cli.layers.random_bits import below, random_bits

Sides = tuple[int, int]
"""A height and a width."""


class DropBlock(nn.Module):
    """A share `rate` of [N, C, H, W] is zero, in blocks of `block` x `block`; what stays is scaled up instead.

    It does so where the pass has keys (layers/passing.py), which is in training alone; anywhere else it gives back its
    inputs. What is dropped is a function of the task's key, of the layer's `number` in its network, and of
    example, channel and place. So a support picture is dropped from in the same places in all inner steps: the inner
    problem of a task stays one problem, and whoever runs a step again finds it as it was.

    Blocks lie wholly in the map and are cut to it where it is smaller. As they overlap, the paper's equation 1 drops
    somewhat less than it says; here the chance of a block is such that the mean share is `rate`. The scale is the
    paper's: all values by those that stay, over the examples of a task that are run together.
    """

    def __init__(self, rate: float, block: int, number: int) -> None:
        super().__init__()
        self.rate, self.block, self.number = rate, block, number
        self.how = BY_BATCH  # set by Network, as in TaskNorm

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs [N, C, H, W] for one task."""
        return self.over_tasks({}, inputs.unsqueeze(0), self.how)[0]

    def over_tasks(self, _params: Params, inputs: Tensor, how: Pass = BY_BATCH) -> Tensor:
        """Outputs [T, N, C, H, W] for inputs [T, N, C, H, W].

        Raises ConfigError under vmap, which hides from a layer which task is which.
        """
        if how.keys is None:
            return inputs
        if len(how.keys) != len(inputs):
            raise ConfigError("backbone: drop-block needs a network of this package's layers alone")
        with torch.no_grad():
            kept = self._kept(how.keys, how.before, inputs)
            staying = kept.sum((1, 2, 3, 4), keepdim=True, dtype=torch.float64)  # exact, whatever the order
            kept.mul_((kept[0].numel() / staying.clamp(min=1)).to(kept.dtype))
        return inputs * kept

    def _kept(self, keys: Tensor, before: int, inputs: Tensor) -> Tensor:
        """1 where a value stays and 0 where it is dropped, [T, N, C, H, W]."""
        tasks, examples, channels, *sides = inputs.shape
        block = min(self.block, sides[0]), min(self.block, sides[1])
        corners = sides[0] - block[0] + 1, sides[1] - block[1] + 1
        each = channels * corners[0] * corners[1]
        bits = random_bits(keys, self.number, before * each, examples * each)
        first = bits < below(chance_of_a_block(self.rate, (sides[0], sides[1]), block))
        dropped = first.view(tasks * examples, channels, *corners).to(inputs.dtype)
        if block != (1, 1):
            up, left = (side - 1 for side in block)
            dropped = F.max_pool2d(F.pad(dropped, (left, left, up, up)), block, 1)
        return (1 - dropped).view(inputs.shape)


@lru_cache
def chance_of_a_block(rate: float, sides: Sides, block: Sides) -> float:
    """The chance of a block at each place where it fits with which, on average, a share `rate` of the map is in one."""
    rows, columns = (_covering(side, length) for side, length in zip(sides, block, strict=True))
    places = Counter(row * column for row in rows for column in columns)
    low, high = 0.0, 1.0
    for _ in range(60):  # halvings, to the last bit of a float
        middle = (low + high) / 2
        kept = sum(times * (1 - middle) ** blocks for blocks, times in places.items()) / places.total()
        low, high = (middle, high) if 1 - kept < rate else (low, middle)
    return low


def _covering(side: int, length: int) -> list[int]:
    """How many of the stretches of a length that fit into a side cover each of its places."""
    return [min(place, side - length) - max(0, place - length + 1) + 1 for place in range(side)]
