"""Applies an Encoding: raw rows become inputs of a network, and outputs of a network become values.

Legend: n rows, F inputs, C channels, V raw values of a row, P targets.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.datasets.tabular import Encoding

Raw = NDArray[np.float64]


@np.errstate(over="ignore")  # a value beyond float32 becomes infinite; the callers look for these and name the column
def encoded(raw: Raw, encoding: Encoding) -> NDArray[np.float32]:
    """Inputs [n, *input_shape] of raw rows [n, V]; the arithmetic is in float64.

    In `raw`, NaN stands for a missing number, and a word is its place in the encoding's list, or any higher number if
    the list does not have it. A value beyond float32 becomes infinite.

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
        # A row of the identity matrix has its 1 at the code; all unknown words share the last one.
        parts.append(np.eye(len(values) + 1, dtype=np.float32)[np.minimum(codes, len(values))])
    return np.concatenate(parts, 1)


@np.errstate(over="ignore")
def encoded_targets(values: Raw, encoding: Encoding) -> NDArray[np.float32]:
    """Targets [n, P] in their own units, standardised as a network learns them: (value - mean) / std."""
    mean, std = np.array(encoding.target_mean), np.array(encoding.target_std)
    found: NDArray[np.float32] = ((values - mean) / std).astype(np.float32)
    return found


def in_own_unit(outputs: NDArray[np.float32], encoding: Encoding) -> NDArray[np.float32]:
    """A network's outputs [n, P] as values in the targets' own units: output * std + mean."""
    mean, std = np.array(encoding.target_mean), np.array(encoding.target_std)
    found: NDArray[np.float32] = (outputs.astype(np.float64) * std + mean).astype(np.float32)
    return found


def place_of(word: str, values: Sequence[str]) -> int:
    """The place of a word among the known `values`, or the place behind the last for an unknown word."""
    return values.index(word) if word in values else len(values)


def with_support_moments(encoding: Encoding, inputs: NDArray[np.float32]) -> Encoding:
    """The encoding that standardises numbers a second time, by the mean and std of encoded support `inputs` [n, ...].

    Only `dataset.standardise=task` uses it. With x = (v - m) / s, (x - mean) / std is (v - (m + mean s)) / (s std), so
    the result is again one subtraction and one division. A number that hardly varies in the support set keeps its
    scale: five equal rows say nothing of the sixth.
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
"""A number keeps its scale if its std in a support set is below this, in units of its std in the training part."""


def cells(inputs: NDArray[np.float32], encoding: Encoding) -> list[list[str]]:
    """Encoded inputs [n, *input_shape] as the cells of a table: numbers in their own units, then words.

    The cell of a missing number shows the value that it was given (`fill`). The rows of a series are empty.

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
    """The size of a row for a message: "12 inputs", or "arrays of 12 x 29" for a series."""
    if encoding.series is None:
        return f"{math.prod(encoding.input_shape)} inputs"
    return f"arrays of {' x '.join(map(str, encoding.series))}"
