"""Drop-block: in training, blocks of neighbouring values of a feature map are set to zero.

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
from metalearn_cli.layers.random_bits import random_bits, threshold_of

Sides = tuple[int, int]
"""A height and a width."""


class DropBlock(nn.Module):
    """Sets a share `rate` of the values [N, C, H, W] to zero, in blocks of `block` x `block`, and scales up the rest.

    It drops only if the pass has keys (layers/passing.py), which only training passes have; otherwise the outputs are
    the inputs. The dropped places are a function of the task's key, the layer's `number` in its network, the example,
    the channel and the place. So all inner steps of a task drop the same places of a support picture: the inner loss
    stays the same function from step to step, and a step that is run again gives the same result.

    Every block lies within the map; if the map is smaller than a block, the block has the size of the map. Blocks
    overlap, so with the chance of equation 1 in the paper the share of dropped values would be below `rate`;
    `chance_of_a_block` corrects this, and the mean share is `rate`. The kept values are multiplied by
    (all values) / (kept values), counted over the examples of a task in this pass, as in the paper.
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

        Raises ConfigError under vmap, where a layer cannot tell which of the tasks it is computing.
        """
        if how.keys is None:
            return inputs
        if len(how.keys) != len(inputs):
            raise ConfigError("backbone: drop-block needs a network of this package's layers alone")
        with torch.no_grad():
            kept = self._kept(how.keys, how.before, inputs)
            staying = kept.sum((1, 2, 3, 4), keepdim=True, dtype=torch.float64)  # exact in any order of summation
            kept.mul_((kept[0].numel() / staying.clamp(min=1)).to(kept.dtype))
        return inputs * kept

    def _kept(self, keys: Tensor, before: int, inputs: Tensor) -> Tensor:
        """A mask [T, N, C, H, W]: 1 for values that are kept, 0 for values that are dropped."""
        tasks, examples, channels, *sides = inputs.shape
        block = min(self.block, sides[0]), min(self.block, sides[1])
        # A block is named by its upper left corner; these are the corners of blocks that fit into the map.
        corners = sides[0] - block[0] + 1, sides[1] - block[1] + 1
        each = channels * corners[0] * corners[1]
        # The queries come after the support set, so their numbers start after those of `before` support examples.
        bits = random_bits(keys, self.number, before * each, examples * each)
        # Uniform int64 numbers below a threshold, compared as integers: exact on every device.
        first = bits < threshold_of(chance_of_a_block(self.rate, (sides[0], sides[1]), block))
        dropped = first.view(tasks * examples, channels, *corners).to(inputs.dtype)
        if block != (1, 1):
            # A maximum over a window grows each dropped corner to its block.
            up, left = (side - 1 for side in block)
            dropped = F.max_pool2d(F.pad(dropped, (left, left, up, up)), block, 1)
        return (1 - dropped).view(inputs.shape)


@lru_cache
def chance_of_a_block(rate: float, sides: Sides, block: Sides) -> float:
    """The probability p of a block at each corner that makes the expected share of dropped values `rate`.

    A value that b blocks can cover is kept with probability (1 - p)^b. Bisection finds the p for which the mean of
    1 - (1 - p)^b over the map is `rate`.
    """
    # A place in row r and column c is covered by rows[r] * columns[c] blocks; equal numbers are counted together.
    rows, columns = (_covering(side, length) for side, length in zip(sides, block, strict=True))
    places = Counter(row * column for row in rows for column in columns)
    low, high = 0.0, 1.0
    for _ in range(60):  # halvings: more than the 53 bits of a float
        middle = (low + high) / 2
        kept = sum(times * (1 - middle) ** blocks for blocks, times in places.items()) / places.total()
        low, high = (middle, high) if 1 - kept < rate else (low, middle)
    return low


def _covering(side: int, length: int) -> list[int]:
    """For each place of a side: the number of intervals of `length` within the side that cover it."""
    return [min(place, side - length) - max(0, place - length + 1) + 1 for place in range(side)]
