"""Reads a table once, from its first row to its last: numbers go into a file on disk, names into lists.

A table may be larger than the memory. So its rows stand in a nameless file (the spool), from which they are read again
once for the moments and once for writing. In memory are a few bytes for each row, and each name once.

Legend: N rows, n rows of a block, V raw values of a row, P targets.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_cli.datasets import Part
from metalearn_cli.datasets.layouts.parts import PARTS_EXPECTED, part_named
from metalearn_cli.datasets.tabular import Roles
from metalearn_cli.errors import DataError
from metalearn_cli.storage.files.atomic import disk_errors
from metalearn_cli.storage.inputs.downloads import Progress
from metalearn_cli.storage.tabular.blocks import Block, Numbers, TableReader, column, is_empty, shown
from metalearn_cli.storage.tabular.column_roles import Layout, layout_of
from metalearn_cli.storage.tabular.files import TableFile

_MOST_VALUES = 1000  # of a categorical column; each becomes an input of its own
LARGEST = 1e100
"""The largest absolute value of a number: a sum of squares, as the standard deviation needs it, would overflow."""
_ROWS_AT_ONCE = 1 << 14


class Gathered(NamedTuple):
    """All rows of a table: `spool` holds them as float64 [N, width], width = V + P, the raw inputs before the targets.

    `groups` are the names of the classes, or of the tasks, in order of first appearance; `group_of` [N] is the index of
    each row's group. `classes` and `class_of` [N] (only kind "labelled", tasks that share their classes): in the same
    way each row's class. `part_of`: the part of each group, if a column names it. `values[column][code]` is the word
    for which `code` stands in the spool. `shape` (only files of arrays): the shape of a row of x.
    """

    layout: Layout
    shape: tuple[int, ...] | None
    spool: BinaryIO
    width: int
    groups: list[str]
    group_of: NDArray[np.int32]
    classes: list[str]
    class_of: NDArray[np.int32]
    part_of: Mapping[str, Part]
    values: Mapping[str, list[str]]

    def blocks(self) -> Iterator[tuple[int, Numbers]]:
        """Read the spool again, as blocks [n, V + P], each with the number of its first row in the table."""
        at_once = max(1, _ROWS_AT_ONCE * 64 // max(64, self.width))  # at most 8 MiB
        self.spool.seek(0)
        for start in range(0, len(self.group_of), at_once):
            content = self.spool.read(at_once * self.width * 8)
            yield start, np.frombuffer(content, np.float64).reshape(-1, self.width)


def gathered(files: Sequence[TableFile], roles: Roles, spool: BinaryIO, progress: Progress) -> Gathered:
    """Read the rows of all files, which must have the same columns; their numbers are written to the empty `spool`.

    Raises DataError, with file, row and column, for the first cell that does not fit its column, and if there is no
    row; RunError if the disk refuses the spool.
    """
    gathering: _Gathering | None = None
    for file in files:
        reader = file.read(roles.length, roles.fit)
        if gathering is None:
            gathering = _Gathering(reader, roles, spool)
        else:
            gathering.require_alike(reader)
        for block in reader.blocks():
            gathering.add(block)
            progress("reading rows", gathering.rows, gathering.rows)
    assert gathering is not None
    if gathering.rows == 0:
        raise DataError(f"{files[0].name}: has no rows below the names of its columns")
    return gathering.finished()


class _Gathering:
    """The rows that have been read so far. Each dictionary gives a new name the next free index."""

    def __init__(self, reader: TableReader, roles: Roles, spool: BinaryIO) -> None:
        self._first, self._roles, self._spool = reader, roles, spool
        self._layout = layout_of(reader, roles)
        self._groups: dict[str, int] = {}
        self._classes: dict[str, int] = {}
        self._values: dict[str, dict[str, int]] = {name: {} for name in self._layout.categorical}
        self._parts: dict[str, tuple[Part, str]] = {}
        self._group_of, self._class_of = array("i"), array("i")
        self._width = 0

    @property
    def rows(self) -> int:
        """The number of rows so far."""
        return len(self._group_of)

    def require_alike(self, reader: TableReader) -> None:
        """Raise DataError if a file has other columns than the first file; their order may differ."""
        if reader.shape != self._first.shape:
            told = f"rows of shape {list(reader.shape or ())}, but those of {self._first.name} are of shape"
            raise DataError(f"{reader.name}: has {told} {list(self._first.shape or ())}")
        for fuller, other in ((self._first, reader), (reader, self._first)):
            lacking = [name for name in fuller.header if name not in set(other.header)]
            if lacking:
                raise DataError(f"{other.name}: has no {column(lacking[0])}, which {fuller.name} has")

    def add(self, block: Block) -> None:
        """Add the rows of one block. Raises DataError for a cell that does not fit its column."""
        layout = self._layout
        by = layout.task or layout.label
        names = _filled(block, by)
        self._group_of.extend([self._groups.setdefault(name, len(self._groups)) for name in names])
        if layout.kind == "labelled":
            of_rows = _filled(block, layout.label)
            self._class_of.extend([self._classes.setdefault(name, len(self._classes)) for name in of_rows])
        if layout.split:
            self._note_parts(block, names)
        columns = [*self._inputs(block), *(_target(block, name) for name in layout.targets)]
        rows = np.column_stack(columns)
        self._width = rows.shape[1]
        with disk_errors(Path(str(self._spool.name))):
            self._spool.write(np.ascontiguousarray(rows).data)

    def _inputs(self, block: Block) -> Iterator[Numbers]:
        """The raw inputs of a block: a series [n, V], or columns [n], the numeric ones first; words as their codes."""
        if block.series is not None:
            require_numbers(block, block.series, "array x", self._roles.missing == "error")
            yield block.series
            return
        for name in self._layout.numeric:
            values = numbers_in(block, name)
            require_numbers(block, values[:, None], column(name), self._roles.missing == "error")
            yield values
        for name, codes in self._values.items():
            words = block.words(name)
            if self._roles.missing == "error":
                _require_filled(block, name, words)
            # A new word gets the next free code; all words for a missing value are "".
            coded = [codes.setdefault("" if is_empty(word) else word, len(codes)) for word in words]
            if len(codes) > _MOST_VALUES:
                told = f"has more than {_MOST_VALUES:,} values; leave it out with dataset.inputs"
                raise DataError(f"{self._first.name}: {column(name)} (dataset.categorical) {told}")
            yield np.array(coded, np.float64)

    def _note_parts(self, block: Block, names: Sequence[str]) -> None:
        """Remember the part of each group, and the place that named it first. `names` [n] are the rows' groups."""
        cells: dict[str, Part | None] = {}  # a column has few different words, and each is read once
        for row, (name, cell) in enumerate(zip(names, block.words(self._layout.split), strict=True)):
            if cell not in cells:
                cells[cell] = part_named(cell)
            part = cells[cell]
            if part is None:
                where = f"{block.place(row)}: {column(self._layout.split)}"
                raise DataError(
                    f"{where}: found {shown(cell)}, expected {PARTS_EXPECTED}; --set dataset.split=null if it is none"
                )
            known = self._parts.setdefault(name, (part, block.place(row)))
            if known[0] != part:
                kind = "task" if self._layout.task else "class"
                told = f"is in {known[0]} ({known[1]}) and in {part} ({block.place(row)})"
                raise DataError(f"{kind} {shown(name)} {told}; each is whole in one part")

    def finished(self) -> Gathered:
        """The result, after the last block."""
        values = {name: list(codes) for name, codes in self._values.items()}
        return Gathered(
            self._layout,
            self._first.shape,
            self._spool,
            width=self._width,
            groups=list(self._groups),
            group_of=np.frombuffer(self._group_of, np.int32),
            classes=list(self._classes),
            class_of=np.frombuffer(self._class_of, np.int32) if self._class_of else np.zeros(0, np.int32),
            part_of={name: part for name, (part, _) in self._parts.items()},
            values=values,
        )


def numbers_in(block: Block, name: str) -> Numbers:
    """A column as numbers [n]. Raises DataError for a word, and says how to use a column of words."""
    try:
        return block.numbers(name)
    except DataError as error:
        if "expected a number" in str(error) and "decimals" not in str(error):
            told = "name the column in dataset.categorical, or leave it out of dataset.inputs"
            raise DataError(f"{error}; {told}") from None
        raise


FILL_IT = "fill it, or --set dataset.missing=mean"


def require_numbers(block: Block, values: Numbers, what: str, none_missing: bool, cure: str = FILL_IT) -> None:
    """Raise DataError, with the row, if one of the `values` [n, V] is infinite or beyond 1e100.

    With `none_missing` also if one is NaN, as an empty cell is read; `cure` is the end of that message. `what` is the
    column as the message names it.
    """
    with np.errstate(invalid="ignore"):  # NaN compares as false
        large = np.abs(values) > LARGEST
    infinite = (np.isinf(values), "is infinite, expected a number")
    for wrong, told in (infinite, (large, f"is beyond {LARGEST:g}"), (np.isnan(values), "is empty")):
        if wrong.any() and (none_missing or told != "is empty"):
            row = int(np.flatnonzero(wrong.any(1))[0])
            raise DataError(f"{block.place(row)}: {what} {told}{f'; {cure}' if told == 'is empty' else ''}")


def _target(block: Block, name: str) -> Numbers:
    values = block.numbers(name)
    for row in np.flatnonzero(~np.isfinite(values))[:1]:
        raise DataError(f"{block.place(int(row))}: {column(name)}: found no finite number, and a target needs one")
    require_numbers(block, values[:, None], column(name), none_missing=True)
    return values


def _filled(block: Block, name: str) -> Sequence[str]:
    """The cells of a column of names (task or label). Raises DataError, with the row, for an empty one."""
    words = block.words(name)
    if "" in words:
        raise DataError(f"{block.place(words.index(''))}: {column(name)} is empty, expected a name")
    return words


def _require_filled(block: Block, name: str, words: Sequence[str]) -> None:
    empty = next((row for row, word in enumerate(words) if is_empty(word)), None)
    if empty is not None:
        raise DataError(f"{block.place(empty)}: {column(name)} is empty; {FILL_IT}")
