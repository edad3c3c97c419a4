"""Random numbers for the layers of a network, as functions of a task's key and of where they are needed.

There is no generator and so no state. A random number is the same whichever tasks run beside its own, on whatever
thread, process or device, and however often it is asked for.

Legend: T tasks, M random numbers of a task.
"""

import torch
from torch import Tensor

_STRIDE, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
"""The constants of SplitMix64, as int64."""


def random_bits(keys: Tensor, layer: int, start: int, count: int) -> Tensor:
    """Random numbers `start` to `start + count` - 1 of a layer for each task, [T, M] from keys [T].

    Each is uniform over all of int64: SplitMix64 (Steele, Lea & Flood 2014), begun at a hash of key and layer. Its
    products and sums are meant modulo 2^64, as torch computes them.
    """
    starts = _mixed(_mixed(keys.clone()) + layer)
    places = torch.arange(start + 1, start + count + 1, device=keys.device) * _STRIDE
    return _mixed(starts.unsqueeze(1) + places)


def below(chance: float) -> int:
    """The number that a share `chance` of all int64 lie below."""
    return min(int(chance * 2.0**64), 2**64 - 1) - 2**63


def _mixed(bits: Tensor) -> Tensor:
    """The finaliser of SplitMix64, in place: every bit of the outcome depends on every bit of `bits`."""
    bits = bits.bitwise_xor_(_shifted(bits, 30)).mul_(_FIRST)
    bits = bits.bitwise_xor_(_shifted(bits, 27)).mul_(_SECOND)
    return bits.bitwise_xor_(_shifted(bits, 31))


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Unsigned right shift: torch's >> on int64 copies the sign bit."""
    return (bits >> by).bitwise_and_(2 ** (64 - by) - 1)
