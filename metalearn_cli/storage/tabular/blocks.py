"""The form in which every kind of table file is read: blocks of rows, by column. No table is in memory as a whole.

Legend: n rows of a block, V values of a row.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.datasets.tabular import Columns
from metalearn_cli.errors import DataError

Numbers = NDArray[np.float64]
VALUES_AT_ONCE = 1 << 18  # 2 MiB of float64 in a block
_EMPTY = frozenset({"", "na", "n/a", "nan", "null", "none"})  # what pandas, R and databases write for a missing value
_SHOWN = 40  # characters
LONGEST_WORD = 1000  # characters; a class or a task is named on every line about it


class Block(NamedTuple):
    """Some rows of a table; `rows` is their number n. `place(row)` tells a message where a row stands: "pumps.csv:17".

    `words(column)` gives the cells of a column as text, `numbers(column)` as float64 [n] with NaN for an empty cell;
    both raise DataError, with the place, for a cell of another kind. `series` [n, V] (only arrays): the inputs.
    """

    rows: int
    place: Callable[[int], str]
    words: Callable[[str], Sequence[str]]
    numbers: Callable[[str], Numbers]
    series: Numbers | None = None


class TableReader(NamedTuple):
    """An opened table file: its name, the names of its columns, and a function that reads it block by block.

    `shape` (only files of arrays): the shape of one row of x, without the N.
    """

    name: str
    header: list[str]
    blocks: Callable[[], Iterator[Block]]
    shape: tuple[int, ...] | None = None


def require_names(where: str, header: Sequence[str]) -> None:
    """Raise DataError, which begins with `where`, unless each column has a name of its own that can be printed."""
    known: set[str] = set()
    for number, word in enumerate(header, 1):
        if not word.strip():
            hint = "; pandas writes one for its index: use to_csv(index=False)" if number == 1 else ""
            raise DataError(f"{where}: column {number} of {len(header)} has no name{hint}")
        if not word.isprintable():
            raise DataError(f"{where}: {column(word)} has a name that cannot be printed; rename it")
        if len(word) > LONGEST_WORD:
            raise DataError(f"{where}: {column(word)} has a name of {len(word):,} characters, at most {LONGEST_WORD:,}")
        if word in known:
            raise DataError(f"{where}: {column(word)} is there twice, expected each once")
        known.add(word)


def columns_reader(name: str, columns: Columns) -> TableReader:
    """A reader for a table that a program made in memory; it gives one block."""
    rows = len(next(iter(columns.values())))
    block = Block(
        rows,
        lambda row: f"{name}, row {row}",
        lambda wanted: [str(cell) for cell in columns[wanted]],
        lambda wanted: np.array(columns[wanted], np.float64),
    )
    return TableReader(name, list(columns), lambda: iter([block]))


def is_empty(word: str) -> bool:
    """Whether a cell stands for a missing value.

    >>> [is_empty(word) for word in ("", " NaN ", "n/a", "0")]
    [True, True, True, False]
    """
    return word.strip().lower() in _EMPTY


def number_in(word: str, where: str) -> float:
    """A cell as a finite number, NaN if it is empty. Raises DataError, which begins with `where`, for other text."""
    if is_empty(word):
        return float("nan")
    try:
        if "_" in word:  # float() takes Python's 1_000, which in a table is a code and no number
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
    """A cell as a message shows it: quoted, on one line, cut after 40 characters."""
    return repr(word if len(word) <= _SHOWN else f"{word[:_SHOWN]}...")


def column(name: str) -> str:
    """A column as a message names it."""
    return f"column {shown(name)}"


def printable_words(cells: Sequence[str], name: str, place: Callable[[int], str]) -> Sequence[str]:
    """The cells of the column `name` without spaces around them.

    Raises DataError, with the place of the row, for a control character, which would spoil messages and pages, and for
    a text that is too long.
    """
    words = [cell.strip() for cell in cells]
    for row, word in enumerate(words):
        if not word.isprintable():
            raise DataError(f"{place(row)}: {column(name)}: found {shown(word)}, expected printable text")
        if len(word) > LONGEST_WORD:
            raise DataError(f"{place(row)}: {column(name)}: {too_long(word)}")
    return words


def too_long(word: str) -> str:
    """The end of a message about a text that is no name."""
    return f"found {shown(word)}, {len(word):,} characters; expected at most {LONGEST_WORD:,}"
