"""Folds of a support set, each without one picture of every class, to measure the answers to new pictures.

Legend: N pictures, W classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

MOST_FOLDS = 200  # each fold adapts the learner once more


class Fold(NamedTuple):
    """The pictures to leave out together, one of each class, int64 [W]; `first` [W] is false for those that an earlier
    fold has left out already.
    """

    left_out: Tensor
    first: Tensor


def folds(targets: Tensor) -> list[Fold]:
    """Folds of labelled pictures [N]; each leaves out one picture of every class, so that classes keep their shares.

    Without a picture of a single class, that class would be the smallest, and its pictures the hardest to recognise.
    The number of folds is the number of pictures of the largest class, at most 200; of a larger class the left-out
    pictures are spread evenly. A smaller class starts again at its first picture.
    """
    places = [torch.nonzero(targets == way).flatten() for way in range(int(targets.max()) + 1)]
    count = min(max(map(len, places)), MOST_FOLDS)

    def fold(number: int) -> Fold:
        taken = [number % len(own) if len(own) < count else number * len(own) // count for own in places]
        left_out = torch.stack([own[place] for own, place in zip(places, taken, strict=True)])
        return Fold(left_out, torch.tensor([number < len(own) for own in places]))

    return [fold(number) for number in range(count)]


def others(targets: Tensor, left_out: Tensor) -> Tensor:
    """A mask, bool [N], that is true for the pictures that are not left out."""
    rest = torch.ones(len(targets), dtype=torch.bool)
    rest[left_out] = False
    return rest
