"""Reads csv and tsv files with the separators, quotes and encodings that common programs write."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

_DELIMITERS = (",", ";", "\t", "|")

Line = tuple[int, Sequence[str]]
"""A line's number and its cells."""


class UnreadableError(Exception):
    """The file is no table; the text says why."""


class Sheet(NamedTuple):
    """The lines below the header that are not empty, and the place of each column by its name."""

    columns: Mapping[str, int]
    lines: Sequence[Line]

    def cells(self, column: str) -> Iterator[str]:
        """The cells of a column; "" for a line that is too short."""
        place = self.columns[column]
        return (cells[place] if place < len(cells) else "" for _number, cells in self.lines)


def read_sheet(content: bytes, is_better: Callable[[Sequence[str]], bool], tabs: bool) -> Sheet:
    """The table in a file. The separator is the one whose header `is_better`, or else the one with the most columns.

    Raises UnreadableError if the file is no text or no table.
    """
    text = _decoded(content)
    found = re.match(r"sep=(.)\r?\n", text)  # Excel writes and reads this line
    delimiters = [found[1]] if found else sorted(_DELIMITERS, key=lambda delimiter: (delimiter == "\t") != tabs)
    try:
        tables = [_lines(text, delimiter)[1 if found else 0 :] for delimiter in delimiters]
    except csv.Error as error:
        raise UnreadableError(f"is no list that can be read: {error}") from error
    if not tables[0]:
        raise UnreadableError("is empty")
    headers = [[re.sub(r"[\s-]+", "_", cell.strip("'\"").lower()) for cell in table[0][1]] for table in tables]
    best = max(range(len(tables)), key=lambda which: (is_better(headers[which]), len(headers[which])))
    columns = {name: place for place, name in reversed([*enumerate(headers[best])]) if name}
    return Sheet(dict(reversed(columns.items())), tables[best][1:])


def _decoded(content: bytes) -> str:
    try:
        wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # as Excel's "Unicode text"
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError("is no UTF-8 text; save it as UTF-8") from error


def _lines(text: str, delimiter: str) -> list[Line]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    return [(reader.line_num, cells) for line in reader if any(cells := [cell.strip() for cell in line])]
