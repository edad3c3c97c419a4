"""Labelled pictures with one of each class left out, in turn: what tells how new ones would be answered.

Legend: N pictures, W classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_MOST_FOLDS = 200


class Fold(NamedTuple):
    """One picture of each class, to be left out together [W], and which of them were not left out before [W]."""

    left_out: Tensor
    first: Tensor


def folds(targets: Tensor) -> list[Fold]:
    """Folds of labelled pictures [N], each of which takes one picture of every class away.

    So every class keeps its share of the rest: without one picture of a single class, that class would be the
    smallest, and its pictures the least likely to be told. There are as many folds as the largest class has pictures,
    or 200, then spread evenly over it. A class that has fewer gives the same pictures again, in turn. Of a class with
    at most 200 every picture is left out at least once.
    """
    places = [torch.nonzero(targets == way).flatten() for way in range(int(targets.max()) + 1)]
    count = min(max(map(len, places)), _MOST_FOLDS)

    def fold(number: int) -> Fold:
        taken = [number % len(own) if len(own) < count else number * len(own) // count for own in places]
        left_out = torch.stack([own[place] for own, place in zip(places, taken, strict=True)])
        return Fold(left_out, torch.tensor([number < len(own) for own in places]))

    return [fold(number) for number in range(count)]


def others(targets: Tensor, left_out: Tensor) -> Tensor:
    """Which of the pictures [N] are not left out."""
    rest = torch.ones(len(targets), dtype=torch.bool)
    rest[left_out] = False
    return rest
