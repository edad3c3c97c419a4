"""Rows as a network sees them, and a network's outputs as values: what an Encoding says, done.

Legend: n rows, F inputs, C channels, V raw values of a row.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.datasets.tabular import Encoding

Raw = NDArray[np.float64]


@np.errstate(over="ignore")  # a value that float32 cannot hold is infinite, and whoever asked looks for these
def encoded(raw: Raw, encoding: Encoding) -> NDArray[np.float32]:
    """Inputs [n, *input_shape] of raw rows [n, V]: numbers, then for each categorical column the place of its value.

    NaN stands for a missing number; one too large for float32 becomes infinite. For a word there
    stands its place, for a word that is not known any place beyond.

    >>> columns = Encoding(kind="classes", numeric=["a"], mean=[1.0], std=[2.0], fill=[1.0], categorical={"b": ["u"]})
    >>> encoded(np.array([[5.0, 0.0], [np.nan, 1.0]]), columns).tolist()
    [[2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    count = len(raw)
    mean, std, fill = (np.array(values) for values in (encoding.mean, encoding.std, encoding.fill))
    if encoding.series is not None:
        by_channel = raw.reshape(count, len(mean), -1)
        filled = np.where(np.isnan(by_channel), fill[:, None], by_channel)
        channels: NDArray[np.float32] = ((filled - mean[:, None]) / std[:, None]).astype(np.float32)
        return channels.reshape(count, *encoding.series)
    numbers = raw[:, : len(mean)]
    parts = [((np.where(np.isnan(numbers), fill, numbers) - mean) / std).astype(np.float32)]
    for place, values in enumerate(encoding.categorical.values(), len(mean)):
        codes = raw[:, place].astype(np.int64)
        parts.append(np.eye(len(values) + 1, dtype=np.float32)[np.minimum(codes, len(values))])
    return np.concatenate(parts, 1)


@np.errstate(over="ignore")
def encoded_targets(values: Raw, encoding: Encoding) -> NDArray[np.float32]:
    """Targets [n, targets] as a network learns them."""
    mean, std = np.array(encoding.target_mean), np.array(encoding.target_std)
    found: NDArray[np.float32] = ((values - mean) / std).astype(np.float32)
    return found


def in_own_unit(outputs: NDArray[np.float32], encoding: Encoding) -> NDArray[np.float32]:
    """A network's outputs [n, targets] as values in the units of the targets."""
    mean, std = np.array(encoding.target_mean), np.array(encoding.target_std)
    found: NDArray[np.float32] = (outputs.astype(np.float64) * std + mean).astype(np.float32)
    return found


def place_of(word: str, values: Sequence[str]) -> int:
    """The place of a categorical value among those known, or the one behind them."""
    return values.index(word) if word in values else len(values)


def with_support_moments(encoding: Encoding, inputs: NDArray[np.float32]) -> Encoding:
    """The encoding whose numbers also lose the mean of encoded support `inputs` [n, ...], by their standard deviation.

    A number that hardly varies there keeps its scale: five equal rows say nothing of the sixth.
    """
    rows = np.asarray(inputs, np.float64)
    channels = len(encoding.numeric)
    rows = rows.reshape(len(rows), channels, -1) if encoding.series is not None else rows[:, :channels, None]
    mean, std = rows.mean((0, 2)), rows.std((0, 2))
    std = np.where(std > LEAST_SPREAD, std, 1.0)
    own_mean, own_std = np.array(encoding.mean), np.array(encoding.std)
    found = {"mean": (own_mean + mean * own_std).tolist(), "std": (own_std * std).tolist(), "standardise": "training"}
    return encoding.model_copy(update=found)


LEAST_SPREAD = 1e-3
"""Spread of a number in a support set, in standard deviations of the training part, below which it keeps its scale."""


def cells(inputs: NDArray[np.float32], encoding: Encoding) -> list[list[str]]:
    """Inputs [n, *input_shape] as the cells of a table again, a row each: numbers in their own units, and words.

    A number that was missing is the one that took its place. A series has no cells.

    >>> columns = Encoding(kind="classes", numeric=["a"], mean=[1.0], std=[2.0], fill=[1.0], categorical={"b": ["u"]})
    >>> cells(np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), columns)
    [['5', 'u'], ['1', '(other)']]
    """
    if encoding.series is not None:
        return [[] for _ in inputs]
    values = inputs[:, : len(encoding.mean)].astype(np.float64) * np.array(encoding.std) + np.array(encoding.mean)
    found = [[f"{value:.6g}" for value in row] for row in values.tolist()]
    start = len(encoding.mean)
    for words in encoding.categorical.values():
        places = inputs[:, start : start + len(words) + 1].argmax(1).tolist()
        for row, place in zip(found, places, strict=True):
            row.append([*words, "(other)"][place])
        start += len(words) + 1
    return found


def size_in_words(encoding: Encoding) -> str:
    """What rows a network sees: 12 inputs, or series of 12 channels and 29 steps."""
    if encoding.series is None:
        return f"{math.prod(encoding.input_shape)} inputs"
    return f"arrays of {' x '.join(map(str, encoding.series))}"
