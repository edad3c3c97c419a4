"""Reads the rows that a person gives to a trained learner, as support or as queries, by the table's own encoding.

Legend: n rows, V raw values of a row, P targets.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metalearn_cli.datasets.tabular import Encoding
from metalearn_cli.datasets.tabular.encoding import place_of
from metalearn_cli.errors import DataError
from metalearn_cli.omissions import Omission, Omissions
from metalearn_cli.storage.tabular.blocks import Block, Numbers, TableReader, column, is_empty, shown
from metalearn_cli.storage.tabular.column_roles import series_names
from metalearn_cli.storage.tabular.files import table_files
from metalearn_cli.storage.tabular.gathering import numbers_in, require_numbers

_CURE = "fill it, as the checkpoint was trained without missing values (dataset.missing)"
MOST_ROWS = 1_000_000  # these rows are held in memory, unlike those of a table that is prepared


class GivenRows(NamedTuple):
    """Rows: raw inputs [n, V], class names (None if unknown), and targets [n, P] in their own units (NaN if unknown).

    `places` tell messages where each row stands; `tasks` are the different names in the task's column, if there is one.
    """

    places: list[str]
    raw: Numbers
    labels: list[str | None]
    targets: Numbers
    tasks: set[str]
    left_out: Sequence[Omission]


def rows_given(paths: Sequence[Path], encoding: Encoding) -> GivenRows:
    """Read all rows of some files, folders and archives, in this order.

    Raises DataError, with file, row and column, if a column of the encoding is missing or a cell does not fit its
    column, and for no row or more than a million.
    """
    omissions, parts = Omissions(), list[GivenRows]()
    length = encoding.series[1] if encoding.series is not None and len(encoding.series) == 2 else None
    for path in paths:
        with table_files(path, None, omissions) as files:
            for file in files:
                if file.of_arrays and _is_of_columns(encoding):
                    raise DataError(f"{file.name}: the checkpoint was trained on columns, which this file has not")
                reader = file.read(length, encoding.fit)
                _require_columns(reader, encoding)
                parts += [_of_block(block, reader, encoding) for block in reader.blocks()]
                if sum(len(part.raw) for part in parts) > MOST_ROWS:
                    raise DataError(f"{path}: has more than {MOST_ROWS:,} rows; give fewer at a time")
    if not parts:
        raise DataError(f"{paths[0]}: has no rows below the names of its columns")
    return GivenRows(
        [place for part in parts for place in part.places],
        np.concatenate([part.raw for part in parts]),
        [label for part in parts for label in part.labels],
        np.concatenate([part.targets for part in parts]),
        set().union(*(part.tasks for part in parts)),
        left_out=omissions.listed(),
    )


def _require_columns(reader: TableReader, encoding: Encoding) -> None:
    """Raise DataError if a file lacks an input of the encoding, or has an array x in place of columns or vice versa."""
    if (reader.shape is None) != _is_of_columns(encoding):
        wanted = "columns" if _is_of_columns(encoding) else f"an array x of shape [N, {_sizes(encoding)}]"
        raise DataError(f"{reader.name}: the checkpoint was trained on {wanted}, which this file has not")
    if reader.shape is not None:
        expected = encoding.input_shape
        if reader.shape != expected:
            raise DataError(f"{reader.name}: array x has rows of shape {list(reader.shape)}, expected {list(expected)}")
        return
    lacking = [name for name in (*encoding.numeric, *encoding.categorical) if name not in set(reader.header)]
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise DataError(f"{reader.name}: has no {column(lacking[0])}{more}, which the checkpoint was trained with")


def _is_of_columns(encoding: Encoding) -> bool:
    """Whether the learner was trained on columns of text or parquet, and not on an array x."""
    # An array x [N, V] has columns that `series_names` named x[0], x[1], ...
    return encoding.series is None and encoding.numeric != list(series_names((len(encoding.numeric),)))


def _sizes(encoding: Encoding) -> str:
    return ", ".join(map(str, encoding.input_shape))


def _of_block(block: Block, reader: TableReader, encoding: Encoding) -> GivenRows:
    header, none_missing = set(reader.header), encoding.missing == "error"
    if block.series is not None:
        raw = block.series
        require_numbers(block, raw, "array x", none_missing, _CURE)
    else:
        columns = []
        for name in encoding.numeric:
            values = numbers_in(block, name)
            require_numbers(block, values[:, None], column(name), none_missing, _CURE)
            columns.append(values)
        for name, known_words in encoding.categorical.items():
            columns.append(np.array([place_of(word, known_words) for word in block.words(name)], np.float64))
        raw = np.column_stack(columns)
    known = bool(encoding.targets) and all(name in header for name in encoding.targets)
    targets = np.column_stack([block.numbers(name) for name in encoding.targets]) if known else None
    return GivenRows(
        [block.place(row) for row in range(block.rows)],
        raw,
        _labels(block, encoding, header),
        targets if targets is not None else np.full((block.rows, len(encoding.targets)), np.nan),
        set(block.words(encoding.task)) if encoding.task in header else set(),
        left_out=(),
    )


def _labels(block: Block, encoding: Encoding, header: set[str]) -> list[str | None]:
    if encoding.kind == "regression" or encoding.label not in header:
        return [None] * block.rows
    labels = [None if is_empty(word) else word for word in block.words(encoding.label)]
    for row, label in enumerate(labels):
        if encoding.classes and label is not None and label not in encoding.classes:
            listed = ", ".join(encoding.classes[:8])
            where = f"{block.place(row)}: {column(encoding.label)}"
            raise DataError(f"{where}: found {shown(label)}, expected one of the classes of all tasks: {listed}")
    return labels
