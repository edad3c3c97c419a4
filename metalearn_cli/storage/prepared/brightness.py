"""Compares the brightness of pictures with that of the training pictures, to find inverted ones.

The brightness of a picture is its mean pixel, from 0 to 1. If it is far outside the range of the training pictures, the
picture is most often inverted (black on white instead of white on black).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.datasets import Split
from metalearn_cli.storage.prepared.dataset import ClassEntry

_FAR = 6.0
"""The standard deviations from which on pictures are far. Of 37,881 pictures that were not trained on (Omniglot and
photos), none was farther than 4.9."""
_LEAST_SPREAD = 0.02  # training pictures may all have almost the same mean
_MOST = 1000  # pictures

Ink = tuple[float, float]
"""The mean and the standard deviation of the pictures' mean pixels."""


def ink(picture: Callable[[int], NDArray[np.uint8]], entries: Sequence[ClassEntry], names: Sequence[str]) -> Ink | None:
    """The brightness of the pictures of the classes `names`, from at most 1,000 of them; None if there are none.

    `picture(number)` returns a picture [H, W, C]; numbers count through all classes in the order of `entries`.
    """
    starts = dict(zip((entry.name for entry in entries), accumulate(entry.count for entry in entries), strict=True))
    counts = {entry.name: entry.count for entry in entries}
    numbers = [number for name in names for number in range(starts[name] - counts[name], starts[name])]
    if not numbers:
        return None
    means = [picture(number).mean() / 255 for number in numbers[:: math.ceil(len(numbers) / _MOST)]]
    return round(float(np.mean(means)), 4), round(float(np.std(means)), 4)


def far(mean: float, trained: Ink | None) -> int:
    """1 if the mean pixel is far above those of the training pictures, -1 if far below, 0 if near or unknown."""
    if trained is None or abs(mean - trained[0]) <= _FAR * max(trained[1], _LEAST_SPREAD):
        return 0
    return 1 if mean > trained[0] else -1


def remark(what: str, mean: float, trained: Ink | None) -> str:
    """A remark on pictures with the mean pixel `mean`; "" if it is near to those of the training pictures `trained`.

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
    """A remark for each part with a mean brightness far from that of the training part."""
    told = []
    for parts in splits.values():
        inks = {part: ink(images.__getitem__, entries, names) for part, names in parts.items()}
        told += [remark(f"the pictures of part {part!r}", of[0], inks.get("train")) for part, of in inks.items() if of]
    return [*filter(None, dict.fromkeys(told))]
