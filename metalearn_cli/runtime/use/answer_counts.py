"""Counts answers: right ones by inner step and by class, with an interval, and confusions between classes.

Legend: N pictures, W classes, K inner steps.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_NORMAL_QUANTILE = 1.959963984540054  # 95 % of a normal distribution lie within so many standard deviations of its mean
NO_ANSWER = -1
"""The answer to a picture whose outputs are not finite, in the place of a class number."""


class Share(NamedTuple):
    """A number of right answers, and the number of pictures."""

    right: int
    pictures: int

    @property
    def accuracy(self) -> float | None:
        """The ratio right / pictures; None if there are no pictures."""
        return self.right / self.pictures if self.pictures else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the accuracy, as if each picture were drawn independently; None if there are none.

        It is the score interval of Wilson 1927. Its coverage is near 95 % also for few pictures, and if none or all
        answers are right (Brown, Cai & DasGupta 2001, https://doi.org/10.1214/ss/1009213286).

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
        # If no or all answers are right, one end is exactly 0 or 1; rounding would miss it.
        return (low if self.right else 0.0), (high if self.right < self.pictures else 1.0)


class Counted(NamedTuple):
    """The predicted classes `answers` [K + 1, N] of N pictures after 0..K inner steps, and the true ones `targets` [N].

    Both are positions in a list of classes. An answer may be NO_ANSWER, which counts as wrong.
    """

    answers: NDArray[np.int64]
    targets: NDArray[np.int64]

    @property
    def steps(self) -> list[Share]:
        """The right answers after each of 0..K inner steps."""
        return [Share(int((row == self.targets).sum()), len(self.targets)) for row in self.answers]

    @property
    def unanswered(self) -> list[int]:
        """The number of pictures without an answer after each of 0..K inner steps."""
        return [int((row == NO_ANSWER).sum()) for row in self.answers]

    def classes(self, ways: int) -> list[Share]:
        """The right answers for each class, after the last inner step."""
        right = self.answers[-1] == self.targets
        return [Share(int(right[self.targets == way].sum()), int((self.targets == way).sum())) for way in range(ways)]

    def confusion(self, ways: int) -> list[list[int]]:
        """The confusion matrix after the last inner step: rows are true classes, columns predicted ones."""
        table = np.zeros((ways, ways), np.int64)
        answered = self.answers[-1] != NO_ANSWER
        np.add.at(table, (self.targets[answered], self.answers[-1][answered]), 1)
        rows: list[list[int]] = table.tolist()
        return rows


def confused(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> list[tuple[str, str, int]]:
    """(true class, predicted class, times) for every pair of classes that was confused, the most frequent first."""
    found = [
        (classes[row], classes[column], times)
        for row, counts in enumerate(confusion)
        for column, times in enumerate(counts)
        if times and row != column
    ]
    return sorted(found, key=lambda pair: -pair[2])
