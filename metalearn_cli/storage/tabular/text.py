"""Reads csv and tsv files: text in UTF-8 whose first row names the columns.

If pyarrow is installed, it reads plain rows in blocks. A block that pyarrow refuses, or would read too leniently, is
read by Python's csv module cell by cell: about four times slower, but messages then name the line and the column.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from metalearn_cli.errors import DataError
from metalearn_cli.storage.tabular.blocks import (
    VALUES_AT_ONCE,
    Block,
    Numbers,
    TableReader,
    column,
    number_in,
    printable_words,
    require_names,
)

_LONGEST_LINE = 4 << 20  # bytes; a file without line ends must not fill the memory
_OTHER_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x1f\x8b": "a compressed file"}

Row = list[str]


def text_reader(name: str, file: BinaryIO) -> TableReader:
    """A reader for a csv or tsv file. Raises DataError, with file and line, if the file is no table.

    Tabs divide the columns of a file named .tsv. In others commas do, or semicolons if the first row has no comma.
    """
    lines = _Lines(name, file)
    line, first = next(lines.rows(), (0, []))
    if not line:
        raise DataError(f"{name}: is empty; expected a row of column names, and rows of numbers")
    header = _header(name, line, first)
    return TableReader(name, header, lambda: _blocks(name, header, lines))


class _Lines:
    """The lines of a file, which can be taken as parsed rows (`rows`) or as raw text (`some`, then `take`)."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name = name
        self._lines = _lines(name, file)
        self._first = next(self._lines, "")
        tabs, plain = name.lower().endswith(".tsv"), self._first
        self.delimiter = "\t" if tabs else ";" if "," not in plain and ";" in plain else ","
        self._waiting = [self._first] if self._first else []
        self._reader = csv.reader(self._each(), delimiter=self.delimiter, strict=True)
        self.number = 0

    def _each(self) -> Iterator[str]:
        while True:
            line = self._waiting.pop(0) if self._waiting else next(self._lines, None)
            if line is None:
                return
            self.number += 1
            yield line

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Each row with the number of its last line (a quoted cell may span lines); blank lines are skipped."""
        while True:
            try:
                row = next(self._reader, None)
            except csv.Error as error:
                raise DataError(f"{self._name}:{self.number}: is no table: {_in_words(str(error))}") from None
            if row is None:
                return
            if row:
                yield self.number, row

    def some(self, most: int) -> list[str]:
        """Up to `most` next lines, without taking them: after this, `rows` still begins at the first of them."""
        while len(self._waiting) < most and (line := next(self._lines, None)) is not None:
            self._waiting.append(line)
        return self._waiting

    def take(self) -> None:
        """Skip the lines that `some` gave: they have been read."""
        self.number += len(self._waiting)
        self._waiting = []


def _in_words(error: str) -> str:
    """The csv module's message in words for a person; its own advises programmers to change its settings."""
    if "end of data" in error:
        return "a quoted cell does not end"
    if "limit" in error:
        return f"has a cell of more than {csv.field_size_limit():,} characters; does a quoted cell not end?"
    return "holds a carriage return with no line feed after it" if "new-line" in error else error


def _lines(name: str, file: BinaryIO) -> Iterator[str]:
    """The lines of a file as text. Raises DataError, with the line's number, if it is no UTF-8 text."""
    number = 0
    while raw := file.readline(_LONGEST_LINE + 1):
        number += 1
        if number == 1 and raw[:2] in _OTHER_ENCODINGS:
            raise DataError(f"{name}: is {_OTHER_ENCODINGS[raw[:2]]}, expected UTF-8; save it as csv in UTF-8")
        if len(raw) > _LONGEST_LINE:
            raise DataError(f"{name}:{number}: has a line of more than {_LONGEST_LINE >> 20} MB, expected a row")
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            found = f"byte {raw[error.start]:#04x} at {error.start + 1} is not UTF-8"
            raise DataError(f"{name}:{number}: {found}; save the file as csv in UTF-8") from None
        if "\0" in text:
            raise DataError(f"{name}:{number}: holds a NUL byte; expected text")
        yield text


def _header(name: str, line: int, row: Row) -> list[str]:
    header = [word.strip() for word in row]
    place = f"{name}:{line}"
    if all(_is_number(word) for word in header):
        raise DataError(f"{place}: the first row is numbers, expected the names of the columns")
    require_names(place, header)
    return header


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _blocks(name: str, header: Sequence[str], lines: _Lines) -> Iterator[Block]:
    most = max(1, VALUES_AT_ONCE // len(header))
    while waiting := lines.some(most):
        if (columns := _plain(waiting, header, lines.delimiter)) is not None:
            yield _plain_block(name, columns, lines.number + 1)
            lines.take()
        else:
            yield from _one_by_one(name, header, lines, most)


def _plain(lines: Sequence[str], header: Sequence[str], delimiter: str) -> Any:
    """Some lines as pyarrow's table of text columns; None if pyarrow is missing, or cannot be trusted with them."""
    text = "".join(lines)
    lone_return = text.count("\r") > text.count("\r\n")  # ends a row for pyarrow, and is a mistake for Python
    if lone_return or not _plainly_quoted(text, delimiter) or any(not line.strip() for line in lines):
        return None
    try:
        import pyarrow as arrow
        from pyarrow import csv as arrow_csv

        as_text = dict.fromkeys(header, arrow.string())
        found = arrow_csv.read_csv(
            io.BytesIO(text.encode()),
            arrow_csv.ReadOptions(column_names=list(header), use_threads=False, block_size=max(1 << 20, 8 * len(text))),
            arrow_csv.ParseOptions(delimiter=delimiter),
            arrow_csv.ConvertOptions(column_types=as_text, strings_can_be_null=False),
        )
    except Exception:  # Python then reads the same lines, finds the same mistake and names its line
        return None
    return found if found.num_rows == len(lines) else None  # fewer: a quoted cell spans lines, so places would be wrong


def _plainly_quoted(text: str, delimiter: str) -> bool:
    """Whether every quotation mark begins or ends a cell, and as many begin one as end one.

    pyarrow reads other quotation marks (`"a"b`) without an error, and Python's strict reader refuses them.

    >>> [_plainly_quoted(text, ",") for text in ('"a,b",1', '"a"b,1', '"a""b",1')]
    [True, False, False]
    """
    if not (quotes := text.count('"')):
        return True
    begins = text.count(f'{delimiter}"') + text.count('\n"') + text.startswith('"')
    ends = text.count(f'"{delimiter}') + text.count('"\n') + text.count('"\r\n') + text.endswith('"')
    return begins == ends and begins + ends == quotes


def _plain_block(name: str, columns: Any, first: int) -> Block:
    """The block of the columns that pyarrow read; their first row stands in line `first` of the file."""

    def place(row: int) -> str:
        return f"{name}:{first + row}"

    def words(wanted: str) -> Sequence[str]:
        return printable_words(columns.column(wanted).to_pylist(), wanted, place)

    def numbers(wanted: str) -> Numbers:
        try:
            values = np.asarray(columns.column(wanted).cast("float64").to_numpy(), np.float64)
        except ValueError:  # pyarrow's error for a cell that is empty or no number
            values = np.array([np.nan])
        if np.isfinite(values).all():
            return values
        # pyarrow takes words such as NaN(1) for numbers, so a column with a value that is not finite is read again.
        return _numbers(columns.column(wanted).to_pylist(), wanted, place)

    return Block(columns.num_rows, place, words, numbers)


def _one_by_one(name: str, header: Sequence[str], lines: _Lines, most: int) -> Iterator[Block]:
    """Up to `most` next rows, read cell by cell, as one block; no block at the end of the file."""
    numbers, cells, width = list[int](), list[Row](), len(header)
    for line, row in lines.rows():
        if len(row) != width:
            cells_ = f"{len(row):,} cell{'' if len(row) == 1 else 's'}"
            raise DataError(f"{name}:{line}: has {cells_}, expected {width:,}, one for each column")
        numbers.append(line)
        cells.append(row)
        if len(cells) == most:
            break
    if cells:
        yield _block(name, header, numbers, cells)


def _block(name: str, header: Sequence[str], lines: list[int], cells: list[Row]) -> Block:
    columns = dict(zip(header, zip(*cells, strict=True), strict=True))

    def place(row: int) -> str:
        return f"{name}:{lines[row]}"

    def words(wanted: str) -> Sequence[str]:
        return printable_words(columns[wanted], wanted, place)

    def numbers(wanted: str) -> Numbers:
        return _numbers(columns[wanted], wanted, place)

    return Block(len(cells), place, words, numbers)


def _numbers(cells: Sequence[str], name: str, place: Callable[[int], str]) -> Numbers:
    try:
        values = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        pass
    else:
        if not any("_" in word for word in cells) and not np.isinf(values).any():
            return values
    # The slow way, only for columns with a missing or a wrong cell: it builds the place of every row for the message.
    checked = (number_in(word, f"{place(row)}: {column(name)}") for row, word in enumerate(cells))
    return np.fromiter(checked, np.float64, len(cells))
