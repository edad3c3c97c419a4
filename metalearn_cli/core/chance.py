"""What the random layers of a network go by: a key for each task at hand, and the numbers of its examples.

There is no generator and so no state: a random number is a function of where it stands. It is the same whichever tasks
run beside its own, on whatever thread, process or device, and however often it is asked for.

Legend: T tasks, N examples, M random numbers of a task.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor

_STRIDE, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
"""The constants of SplitMix64, as int64."""


class Chance(NamedTuple):
    """The keys [T] of the tasks at hand, int64, and how many of their examples come before those at hand."""

    keys: Tensor
    before: int = 0


_at_hand: ContextVar[Chance | None] = ContextVar("chance", default=None)


def chance_at_hand() -> Chance | None:
    """What random layers go by now; None where nothing is random, which is everywhere but in training."""
    return _at_hand.get()


@contextmanager
def known_keys(keys: Tensor | None) -> Iterator[None]:
    """Inside the block these are the keys [T] of the tasks at hand; with None nothing is random."""
    with _set(None if keys is None else Chance(keys)):
        yield


@contextmanager
def task_alone(number: int) -> Iterator[None]:
    """Inside the block task `number` is the only one at hand."""
    chance = _at_hand.get()
    with _set(chance and chance._replace(keys=chance.keys[number : number + 1])):
        yield


@contextmanager
def examples_after(examples: int) -> Iterator[None]:
    """Inside the block the examples at hand are numbered from `examples` on: chance tells them from those before."""
    chance = _at_hand.get()
    with _set(chance and chance._replace(before=examples)):
        yield


@contextmanager
def _set(chance: Chance | None) -> Iterator[None]:
    token = _at_hand.set(chance)
    try:
        yield
    finally:
        _at_hand.reset(token)


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
    """To the right, with zeros from the left."""
    return (bits >> by).bitwise_and_(2 ** (64 - by) - 1)
