"""A table read once, from its first row to its last: numbers into a spool, words into lists of what there is.

Legend: N rows, V raw values of a row, P targets.
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
from metalearn_cli.storage.tabular.files import TableFile
from metalearn_cli.storage.tabular.layouts import Layout, layout_of

_MOST_VALUES = 1000
LARGEST = 1e100
"""What a number may be at most: the squares of larger ones overflow when they are summed."""
_ROWS_AT_ONCE = 1 << 14


class Gathered(NamedTuple):
    """All rows of a table: `spool` holds them as float64 [N, V + P], the raw inputs and then the targets.

    `groups` are the classes, or the tasks, in the order in which they came; `group_of` [N] is each row's. With classes
    that are the same in every task, `classes` are these and `class_of` [N] each row's. `part_of` are the parts that a
    column says. `values` are those of each categorical column, by the codes that stand in the spool.
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
        """The rows again, some at a time, each with the number of its first."""
        at_once = max(1, _ROWS_AT_ONCE * 64 // max(64, self.width))
        self.spool.seek(0)
        for start in range(0, len(self.group_of), at_once):
            content = self.spool.read(at_once * self.width * 8)
            yield start, np.frombuffer(content, np.float64).reshape(-1, self.width)


def gathered(files: Sequence[TableFile], roles: Roles, spool: BinaryIO, progress: Progress) -> Gathered:
    """The rows of all files, which have the same columns; numbers go into the `spool`, an empty file.

    Raises DataError, with file, row and column, for the first cell that is not what its column is for.
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
    """What has been read so far."""

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
        """How many rows there are."""
        return len(self._group_of)

    def require_alike(self, reader: TableReader) -> None:
        """Raise DataError for a file that has other columns than the first."""
        if reader.shape != self._first.shape:
            told = f"rows of shape {list(reader.shape or ())}, but those of {self._first.name} are of shape"
            raise DataError(f"{reader.name}: has {told} {list(self._first.shape or ())}")
        for one, other in ((self._first, reader), (reader, self._first)):
            lacking = [name for name in one.header if name not in set(other.header)]
            if lacking:
                raise DataError(f"{other.name}: has no {column(lacking[0])}, which {one.name} has")

    def add(self, block: Block) -> None:
        """The rows of one more block."""
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
        found = np.column_stack(columns)
        self._width = found.shape[1]
        with disk_errors(Path(str(self._spool.name))):
            self._spool.write(np.ascontiguousarray(found).data)

    def _inputs(self, block: Block) -> Iterator[Numbers]:
        if block.series is not None:
            require_numbers(block, block.series, "array x", self._roles.missing == "error")
            yield block.series
            return
        for name in self._layout.numeric:
            found = numbers_in(block, name)
            require_numbers(block, found[:, None], column(name), self._roles.missing == "error")
            yield found
        for name, codes in self._values.items():
            words = block.words(name)
            if self._roles.missing == "error":
                _require_filled(block, name, words)
            coded = [codes.setdefault("" if is_empty(word) else word, len(codes)) for word in words]
            if len(codes) > _MOST_VALUES:
                told = f"has more than {_MOST_VALUES:,} values; leave it out with dataset.inputs"
                raise DataError(f"{self._first.name}: {column(name)} (dataset.categorical) {told}")
            yield np.array(coded, np.float64)

    def _note_parts(self, block: Block, names: Sequence[str]) -> None:
        cells: dict[str, Part | None] = {}
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
        """All of it."""
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
    """A column as numbers. Raises DataError, with what to do about a column of words."""
    try:
        return block.numbers(name)
    except DataError as error:
        if "expected a number" in str(error) and "decimals" not in str(error):
            told = "name the column in dataset.categorical, or leave it out of dataset.inputs"
            raise DataError(f"{error}; {told}") from None
        raise


def require_numbers(block: Block, found: Numbers, what: str, none_missing: bool) -> None:
    """Raise DataError, with the row, for a number [n, V] that is far too large, or missing where none may be."""
    with np.errstate(invalid="ignore"):
        large = np.abs(found) > LARGEST
    infinite = (np.isinf(found), "is infinite, expected a number")
    for wrong, told in (infinite, (large, f"is beyond {LARGEST:g}"), (np.isnan(found), "is empty")):
        if wrong.any() and (none_missing or told != "is empty"):
            row = int(np.flatnonzero(wrong.any(1))[0])
            cure = "; fill it, or --set dataset.missing=mean" if told == "is empty" else ""
            raise DataError(f"{block.place(row)}: {what} {told}{cure}")


def _target(block: Block, name: str) -> Numbers:
    found = block.numbers(name)
    for row in np.flatnonzero(~np.isfinite(found))[:1]:
        raise DataError(f"{block.place(int(row))}: {column(name)}: found no finite number, and a target needs one")
    require_numbers(block, found[:, None], column(name), none_missing=True)
    return found


def _filled(block: Block, name: str) -> Sequence[str]:
    """The cells of a column that says whose a row is."""
    words = block.words(name)
    if "" in words:
        raise DataError(f"{block.place(words.index(''))}: {column(name)} is empty, expected a name")
    return words


def _require_filled(block: Block, name: str, words: Sequence[str]) -> None:
    empty = next((row for row, word in enumerate(words) if is_empty(word)), None)
    if empty is not None:
        raise DataError(f"{block.place(empty)}: {column(name)} is empty; fill it, or --set dataset.missing=mean")
