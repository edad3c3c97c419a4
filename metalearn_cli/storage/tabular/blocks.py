"""What every kind of file gives: some rows at a time, by column.

Legend: n rows of a block, V values of a row.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.datasets.tabular import Columns
from metalearn_cli.errors import DataError

Numbers = NDArray[np.float64]
VALUES_AT_ONCE = 1 << 18
_EMPTY = frozenset({"", "na", "n/a", "nan", "null", "none"})
_SHOWN = 40


class Block(NamedTuple):
    """`rows` of them. `place(row)` is where a row stands, as "pumps.csv:17".

    `words(column)` are its cells as text, `numbers(column)` as float64 [n], NaN for an empty one; what is neither is a
    DataError. `series` [n, V] are the inputs of a file of arrays, None for columns.
    """

    rows: int
    place: Callable[[int], str]
    words: Callable[[str], Sequence[str]]
    numbers: Callable[[str], Numbers]
    series: Numbers | None = None


class TableReader(NamedTuple):
    """A file of rows: its name, its columns, and its blocks. `shape` is that of a row in a file of arrays."""

    name: str
    header: list[str]
    blocks: Callable[[], Iterator[Block]]
    shape: tuple[int, ...] | None = None


def columns_reader(name: str, columns: Columns) -> TableReader:
    """A table in memory, as one block."""
    rows = len(next(iter(columns.values())))
    block = Block(
        rows,
        lambda row: f"{name}, row {row}",
        lambda wanted: [str(cell) for cell in columns[wanted]],
        lambda wanted: np.array(columns[wanted], np.float64),
    )
    return TableReader(name, list(columns), lambda: iter([block]))


def is_empty(word: str) -> bool:
    """Whether a cell says nothing.

    >>> [is_empty(word) for word in ("", " NaN ", "n/a", "0")]
    [True, True, True, False]
    """
    return word.strip().lower() in _EMPTY


def number_in(word: str, where: str) -> float:
    """A cell as a number, NaN if it is empty. Raises DataError, with `where`, for anything else."""
    if is_empty(word):
        return float("nan")
    try:
        if "_" in word:  # Python's own 1_000, which no table means
            raise ValueError
        found = float(word)
    except ValueError:
        hint = "decimals need a point" if word.count(",") == 1 and "." not in word else ""
        told = f"{where}: found {shown(word)}, expected a number"
        raise DataError(f"{told}; {hint}" if hint else told) from None
    if found in (float("inf"), float("-inf")):
        raise DataError(f"{where}: found {shown(word)}, expected a finite number")
    return found


def shown(word: str) -> str:
    """A cell for a message, in a line and not too long."""
    return repr(word if len(word) <= _SHOWN else f"{word[:_SHOWN]}...")


def column(name: str) -> str:
    """A column for a message."""
    return f"column {shown(name)}"
