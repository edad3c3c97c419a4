"""Random numbers for layers, as pure functions of the task's key, the layer and a running number.

There is no generator and no state. So a number does not depend on the other tasks in the batch, the thread, the process
or the device, and it can be computed again.

Legend: T tasks, M random numbers of a task.
"""

import torch
from torch import Tensor

_STRIDE, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
"""The constants of SplitMix64 as int64, so less 2^64: 0x9E3779B97F4A7C15 (2^64 / golden ratio), and two factors."""


def random_bits(keys: Tensor, layer: int, start: int, count: int) -> Tensor:
    """Random numbers `start` to `start + count` - 1 of layer number `layer` for each task: [T, M] from `keys` [T].

    Each number is uniform over all of int64. They are SplitMix64 (Steele, Lea & Flood 2014), started at a hash of key
    and layer.
    """
    # int64 sums and products in torch wrap around modulo 2^64, as SplitMix64 requires of its unsigned numbers.
    # Mixed twice, so that neighbouring keys and neighbouring layers get unrelated streams.
    starts = _mixed(_mixed(keys.clone()) + layer)
    places = torch.arange(start + 1, start + count + 1, device=keys.device) * _STRIDE
    return _mixed(starts.unsqueeze(1) + places)


def threshold_of(chance: float) -> int:
    """The threshold x for which a uniform int64 is below x with probability `chance` (0 to 1)."""
    # chance * 2^64 of the 2^64 numbers lie below it; min, because a chance of 1 would need a number beyond int64.
    return min(int(chance * 2.0**64), 2**64 - 1) - 2**63


def _mixed(bits: Tensor) -> Tensor:
    """The last function of SplitMix64, in place: every bit of the result depends on every bit of `bits`."""
    bits = bits.bitwise_xor_(_shifted(bits, 30)).mul_(_FIRST)
    bits = bits.bitwise_xor_(_shifted(bits, 27)).mul_(_SECOND)
    return bits.bitwise_xor_(_shifted(bits, 31))


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Unsigned right shift: torch's >> on int64 copies the sign bit."""
    return (bits >> by).bitwise_and_(2 ** (64 - by) - 1)
