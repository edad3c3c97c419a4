"""How bright pictures are: the mean pixel of each, from 0 to 1, and how far these spread from picture to picture.

Pictures far outside what a network was trained on are most often inverted: black on white for white on black.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.datasets import Split
from metalearn_cli.storage.prepared.dataset import ClassEntry

_FAR = 6.0
"""So many spreads apart: of 37,881 pictures that were not trained on, Omniglot's and photos, none was beyond 4.9."""
_LEAST_SPREAD = 0.02
_MOST = 1000

Ink = tuple[float, float]
"""The mean and the standard deviation of the pictures' mean pixels."""


def ink(picture: Callable[[int], NDArray[np.uint8]], entries: Sequence[ClassEntry], names: Sequence[str]) -> Ink | None:
    """How bright the pictures of the classes `names` are, by at most 1,000 of them; None if there are none.

    `picture(number)` is one [H, W, C] of those of all classes, `entries`, one after the other.
    """
    starts = dict(zip((entry.name for entry in entries), accumulate(entry.count for entry in entries), strict=True))
    counts = {entry.name: entry.count for entry in entries}
    numbers = [number for name in names for number in range(starts[name] - counts[name], starts[name])]
    if not numbers:
        return None
    means = [picture(number).mean() / 255 for number in numbers[:: math.ceil(len(numbers) / _MOST)]]
    return round(float(np.mean(means)), 4), round(float(np.std(means)), 4)


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


def alien_parts(images: NDArray[np.uint8], entries: Sequence[ClassEntry], splits: Mapping[str, Split]) -> list[str]:
    """A remark for each part whose pictures are, all in all, far from those of the training part."""
    told = []
    for parts in splits.values():
        inks = {part: ink(images.__getitem__, entries, names) for part, names in parts.items()}
        told += [remark(f"the pictures of part {part!r}", of[0], inks.get("train")) for part, of in inks.items() if of]
    return [*filter(None, dict.fromkeys(told))]
