"""Answers counted: how many are right, with an interval, by inner step and by class, and what is taken for what.

Legend: N pictures, W classes, K inner steps.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_NORMAL_QUANTILE = 1.959963984540054  # 95 % of a normal distribution lie so many standard deviations around its mean
NO_ANSWER = -1
"""The place of no class: the answer to a picture whose outputs are not finite."""


class Share(NamedTuple):
    """So many right of so many pictures."""

    right: int
    pictures: int

    @property
    def accuracy(self) -> float | None:
        """The share of them; None of no pictures."""
        return self.right / self.pictures if self.pictures else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the accuracy on pictures like these, as if each were drawn by itself; None of none.

        The score interval of Wilson 1927, which keeps its promise for few pictures and for none or all right (Brown,
        Cai & DasGupta 2001, https://doi.org/10.1214/ss/1009213286).

        >>> [round(end, 4) for end in Share(8, 10).interval]
        [0.4902, 0.9433]
        >>> [round(end, 4) for end in Share(5, 5).interval]
        [0.5655, 1.0]
        """
        if self.accuracy is None:
            return None
        squared = _NORMAL_QUANTILE**2 / self.pictures
        middle = self.accuracy + squared / 2
        half = math.sqrt(squared * (self.accuracy * (1 - self.accuracy) + squared / 4))
        low, high = (middle - half) / (1 + squared), (middle + half) / (1 + squared)
        # Of none or all right one end is exact, which rounding would miss.
        return (low if self.right else 0.0), (high if self.right < self.pictures else 1.0)


class Counted(NamedTuple):
    """Which class each of N pictures was taken for after 0..K inner steps [K + 1, N], and which it is of [N].

    Both are places in a list of classes; an answer may be NO_ANSWER, which is wrong.
    """

    answers: NDArray[np.int64]
    targets: NDArray[np.int64]

    @property
    def steps(self) -> list[Share]:
        """After each of 0..K inner steps."""
        return [Share(int((row == self.targets).sum()), len(self.targets)) for row in self.answers]

    @property
    def unanswered(self) -> list[int]:
        """How many pictures had no answer after each of 0..K inner steps."""
        return [int((row == NO_ANSWER).sum()) for row in self.answers]

    def classes(self, ways: int) -> list[Share]:
        """Of each class, after the last inner step."""
        right = self.answers[-1] == self.targets
        return [Share(int(right[self.targets == way].sum()), int((self.targets == way).sum())) for way in range(ways)]

    def confusion(self, ways: int) -> list[list[int]]:
        """How many pictures of each class (row) were taken for each class (column), after the last inner step."""
        table = np.zeros((ways, ways), np.int64)
        answered = self.answers[-1] != NO_ANSWER
        np.add.at(table, (self.targets[answered], self.answers[-1][answered]), 1)
        rows: list[list[int]] = table.tolist()
        return rows


def confused(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> list[tuple[str, str, int]]:
    """(class, taken for, times) of every pair of different classes that was confused, the most often first."""
    found = [
        (classes[row], classes[column], times)
        for row, counts in enumerate(confusion)
        for column, times in enumerate(counts)
        if times and row != column
    ]
    return sorted(found, key=lambda pair: -pair[2])
