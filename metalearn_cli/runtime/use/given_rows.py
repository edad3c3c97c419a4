"""Reads rows of a table that a Python caller gives, and converts inputs from one encoding to another.

Legend: N rows, V raw values of a row.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metalearn_cli.datasets.tabular import Encoding
from metalearn_cli.datasets.tabular.encoding import place_of
from metalearn_cli.errors import DataError

RowsGiven = NDArray[Any] | Tensor | Mapping[str, Any]
"""Rows [N, V] or one row [V], with the columns in the order of training; or a mapping from names to columns."""


def raw_rows(given: object, encoding: Encoding) -> NDArray[np.float64]:
    """Rows as numbers, float64 [N, V], from an array, or from columns by name (a mapping, or a data frame).

    Raises DataError for any other value, a missing column, or an infinite number; also for a missing number, unless
    `dataset.missing` is "mean".
    """
    if hasattr(given, "keys") and hasattr(given, "__getitem__"):
        raw = _of_columns(given, encoding)
    else:
        raw = _of_array(given, encoding)
    if np.isinf(raw).any() or (encoding.missing == "error" and np.isnan(raw).any()):
        row = int(np.flatnonzero(~np.isfinite(raw).all(1))[0])
        raise DataError(f"rows: row {row} has a number that is missing or infinite")
    return raw


def _of_columns(given: Any, encoding: Encoding) -> NDArray[np.float64]:
    lacking = [name for name in (*encoding.numeric, *encoding.categorical) if name not in given.keys()]  # noqa: SIM118
    if lacking:
        raise DataError(f"rows: have no column {lacking[0]!r}; expected {', '.join(_names(encoding))}")
    columns = []
    for name in encoding.numeric:
        try:
            columns.append(np.asarray(given[name], np.float64).reshape(-1))
        except (TypeError, ValueError):
            raise DataError(f"rows: column {name!r} holds something else than numbers") from None
    for name, values in encoding.categorical.items():
        columns.append(np.array([place_of(str(word), values) for word in given[name]], np.float64))
    if len(lengths := {len(column) for column in columns}) > 1:
        raise DataError(f"rows: have columns of {', '.join(map(str, sorted(lengths)))} cells, expected equal lengths")
    return np.column_stack(columns)


def _of_array(given: object, encoding: Encoding) -> NDArray[np.float64]:
    if encoding.categorical:
        raise DataError(f"rows: columns of words have names; give a mapping with {', '.join(_names(encoding))}")
    try:
        values = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    except ValueError as error:
        raise DataError(f"rows: are no array: {error}") from None
    shape = encoding.raw_shape
    if values.dtype.kind not in "biuf" or values.shape[-len(shape) :] != shape or values.ndim > len(shape) + 1:
        expected = f"numbers [N, {', '.join(map(str, shape))}]"
        told = f"rows of type {values.dtype} and shape {values.shape}; expected {expected}"
        raise DataError(f"{told}{_in_words(encoding)}")
    return values.astype(np.float64).reshape(-1, int(np.prod(shape)))


def _in_words(encoding: Encoding) -> str:
    return f": {', '.join(_names(encoding))}" if encoding.series is None else ""


def _names(encoding: Encoding) -> list[str]:
    names = [*encoding.numeric, *encoding.categorical]
    return names if len(names) <= 10 else [*names[:10], f"and {len(names) - 10} more"]


def rebased(inputs: Tensor, before: Encoding | None, after: Encoding | None) -> Tensor:
    """Inputs [N, ...] of the encoding `before` as those of `after`, which may differ only in means and scales.

    With v = x std + mean, (v - new mean) / new std = x (std / new std) + (mean - new mean) / new std.
    """
    if before is None or after is None or before == after:
        return inputs
    channels = len(before.numeric)  # categorical inputs stand behind them and have neither mean nor scale
    scale, shift = torch.ones(inputs.shape[1]), torch.zeros(inputs.shape[1])
    mean, std, new_mean, new_std = (
        torch.tensor(values, dtype=torch.float64) for values in (before.mean, before.std, after.mean, after.std)
    )
    scale[:channels], shift[:channels] = (std / new_std).float(), ((mean - new_mean) / new_std).float()
    shape = (1, -1, *[1] * (inputs.dim() - 2))
    return inputs * scale.view(shape) + shift.view(shape)
