"""Warns about pictures unlike the training pictures: inverted, or of another kind altogether.

A learner answers such pictures too, and often with high probabilities.

Legend: N pictures, C channels, H height, W width, F features.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from metalearn_cli.datasets import Preprocessing
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.data.view import Typical
from metalearn_cli.storage.prepared import brightness

FAR = 3.0
"""The distance, in deviations of the training pictures, above which a picture is far. Measured with EfficientNet-Lite0:
the median picture of a new grocery class is at most 1.9 away, of five classes with one picture each 2.96; drawings are
3.9 away, noise 4.7."""


class PictureGroup(NamedTuple):
    """Some pictures: `what` they are in messages, their files, inputs [N, C, H, W] or [N, F], and brightness 0 to 1."""

    what: str
    files: Sequence[str]
    inputs: Tensor
    brightness: Sequence[float]


def alien_remarks(batch: PictureGroup, interface: Interface, expected: Typical | None = None) -> list[str]:
    """Remarks on pictures that are much brighter or darker than the training pictures, or have far other features.

    A learner without training has no training pictures: its features are then compared with `expected`, if given.
    """
    told = [] if interface.preprocessing is None else _by_brightness(batch, interface.preprocessing)
    if interface.view is None:
        return told
    trained = interface.view.typical
    typical, like = (trained, "training pictures") if trained is not None else (expected, "support pictures")
    return told if typical is None else [*told, *_by_features(batch, typical, like)]


def _by_features(batch: PictureGroup, typical: Typical, like: str) -> list[str]:
    """A remark if more than half of the pictures are far away; a few of a new class may be."""
    distances = typical.distances(batch.inputs)
    far = [number for number, distance in enumerate(distances.tolist()) if distance > FAR]
    if len(far) <= len(batch.files) // 2:
        return []
    return [
        f"{_named(batch, far)}: unlike the {like}, their features are {float(distances.median()):.1f} deviations away "
        f"(the median; up to {FAR:.0f} is usual); is it another kind of picture? Answers may be worth nothing"
    ]


def _by_brightness(batch: PictureGroup, seen: Preprocessing) -> list[str]:
    told = []
    for direction in (1, -1):
        # `brightness.far` is 1 for too bright, -1 for too dark, 0 for neither.
        odd = [number for number, mean in enumerate(batch.brightness) if brightness.far(mean, seen.ink) == direction]
        if odd:
            mean = sum(batch.brightness[number] for number in odd) / len(odd)
            told.append(brightness.remark(_named(batch, odd), mean, seen.ink))
    return told


def _named(batch: PictureGroup, odd: Sequence[int]) -> str:
    more = ", ..." if len(odd) > 1 else ""
    return f"{len(odd)} of {len(batch.files)} {batch.what} ({batch.files[odd[0]]}{more})"
