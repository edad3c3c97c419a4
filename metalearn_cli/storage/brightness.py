"""How bright pictures are: the mean pixel of each, from 0 to 1, and how far these spread from picture to picture.

Pictures far outside what a network was trained on are most often inverted: black on white for white on black.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.datasets import Split

_FAR = 6.0
"""So many spreads apart: of 18,601 pictures that were not trained on, Omniglot's and photos, none was beyond 4.6."""
_LEAST_SPREAD = 0.02

Ink = tuple[float, float]
"""The mean and the standard deviation of the pictures' mean pixels."""


def sums(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The number of pictures [n, H, W, C], and the sum and the sum of squares of their mean pixels: [3]."""
    means = pictures.reshape(len(pictures), -1).mean(1, dtype=np.float64) / 255 if len(pictures) else np.zeros(0)
    return np.array([len(means), means.sum(), np.square(means).sum()])


def ink(summed: NDArray[np.float64]) -> Ink:
    """How bright the pictures are whose `sums` these are."""
    number, total, squares = summed / max(1.0, summed[0])
    assert number <= 1
    return round(float(total), 4), round(float(np.sqrt(max(0.0, squares - total**2))), 4)


def far(mean: float, trained: Ink | None) -> int:
    """1 for a mean pixel far above those that were trained on, -1 far below them, 0 near to them or where unknown."""
    if trained is None or abs(mean - trained[0]) <= _FAR * max(trained[1], _LEAST_SPREAD):
        return 0
    return 1 if mean > trained[0] else -1


def remark(what: str, mean: float, trained: Ink | None) -> str:
    """What to say of pictures of this mean pixel beside those that were trained on; "" if it is near to theirs.

    >>> remark("3 queries", 0.92, (0.08, 0.03))
    '3 queries: far brighter than the training pictures, mean pixel 0.92, there 0.08 +- 0.03; is their ink inverted?'
    >>> remark("3 queries", 0.12, (0.08, 0.03))
    ''
    """
    direction = far(mean, trained)
    if trained is None or not direction:
        return ""
    return (
        f"{what}: far {'brighter' if direction > 0 else 'darker'} than the training pictures, mean pixel {mean:.2f}, "
        f"there {trained[0]:.2f} +- {trained[1]:.2f}; is their ink inverted?"
    )


def of_parts(splits: Mapping[str, Split], sums: Mapping[str, NDArray[np.float64]]) -> dict[str, dict[str, Ink]]:
    """How bright the pictures of each part of each split are, from the `sums` of each class."""
    return {
        split: {part: ink(np.sum([sums[name] for name in names], axis=0)) for part, names in parts.items()}
        for split, parts in splits.items()
    }


def alien_parts(inks: Mapping[str, Mapping[str, Ink]]) -> list[str]:
    """A remark for each part whose pictures are, all in all, far from those of the training part."""
    told = [
        remark(f"the pictures of part {part!r}", mean, parts.get("train"))
        for parts in inks.values()
        for part, (mean, _spread) in parts.items()
    ]
    return [*filter(None, dict.fromkeys(told))]
