"""Lists of pictures: csv and tsv files that say what class each picture is of, and perhaps in which part it is."""

import csv
import io
import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from metalearn_cli.datasets import Part, Source
from metalearn_cli.datasets.layouts.classes import Row
from metalearn_cli.datasets.layouts.naming import Names
from metalearn_cli.datasets.layouts.parts import PARTS_EXPECTED, names_a_split, part_named, parts_of_names
from metalearn_cli.errors import DataError, can_be_a_name

_FILE_COLUMNS = (
    "filename", "file_name", "file", "image", "path", "filepath", "file_path", "image_path", "image_name", "image_file",
    "image_id", "img", "img_path", "img_name", "picture", "photo", "id",
)  # fmt: skip
_LABEL_COLUMNS = (
    "label", "category", "class", "class_name", "classname", "label_name", "category_name", "labels", "target", "species",
    "breed", "kind",
)  # fmt: skip
_PART_COLUMNS = ("split", "part", "partition", "dataset_split", "data_split")
_PREDICTED = {"predicted", "prediction", "predictions", "pred", "probability", "probabilities", "prob", "confidence"}
_EXPECTED = (
    "expected a first line that names a column for the file (filename, file, image, path, ...) and one for its class "
    "(label, category, class, ...)"
)
_DELIMITERS = {",": "','", ";": "';'", "\t": "tabs", "|": "'|'"}


class Unread(NamedTuple):
    """A list that is passed over: its path, why, and whether it looks like a split."""

    member: str
    why: str
    splits: bool


class Lists(NamedTuple):
    """What the lists of a source say: of pictures; of whole classes (part and place by name); and those unread."""

    rows: Sequence[Row]
    classes: Mapping[str, tuple[Part, str]]
    unread: Sequence[Unread]


class _List(NamedTuple):
    """A list's lines, each with its number, and its columns by name; `part` is what the list's own name says."""

    member: str
    columns: Mapping[str, int]
    lines: Sequence[tuple[int, Sequence[str]]]
    part: Part | None

    def cells(self, column: str) -> Iterator[str]:
        """Those of a column, "" where a line is too short."""
        place = self.columns[column]
        return (cells[place] if place < len(cells) else "" for _number, cells in self.lines)


class _NotUnderstoodError(Exception):
    def __init__(self, why: str, splits: bool = False) -> None:
        super().__init__(why)
        self.splits = splits


def read_lists(source: Source, pictures: Sequence[str]) -> Lists:
    """All csv and tsv files of the source, as far as they are lists of these pictures or of their classes.

    Raises DataError for a mistake in a list that names some of the pictures.
    """
    names = Names(pictures)
    members = [member for member in source.members if member.lower().endswith((".csv", ".tsv"))]
    parts = {
        member: part
        for folder in {member.rpartition("/")[0] for member in members}
        for member, part in _parts_in(folder, members).items()
    }
    rows: list[Row] = []
    classes: dict[str, tuple[Part, str]] = {}
    unread: list[Unread] = []
    for member in members:
        try:
            found = _opened(source, member, parts.get(member))
            file, label, part = _columns(found, names, _renamed(source, member))
            if file is not None:
                rows += _rows(found, names, (file, label, part))
            else:
                classes |= _class_parts(found, label, part)
        except _NotUnderstoodError as error:
            splits = error.splits or member in parts or names_a_split(_stem(member))
            unread.append(Unread(member, str(error), splits))
    return Lists(rows, classes, unread)


def _parts_in(folder: str, members: Sequence[str]) -> dict[str, Part]:
    """The parts that the names of the lists in a folder say, "train.csv"."""
    stems = {_stem(member): member for member in members if member.rpartition("/")[0] == folder}
    return {stems[stem]: part for stem, part in parts_of_names(stems).items()}


def _stem(member: str) -> str:
    return member.rpartition("/")[2].rpartition(".")[0]


def _opened(source: Source, member: str, part: Part | None) -> _List:
    text = _decoded(source.content(member))
    found = re.match(r"sep=(.)\r?\n", text)  # Excel writes and reads this line
    text = text[found.end() :] if found else text
    delimiters = [found[1]] if found else sorted(_DELIMITERS, key=lambda d: d != "\t" or not member.lower().endswith("tsv"))
    try:
        tables = [_table(text, delimiter) for delimiter in delimiters]
    except csv.Error as error:
        raise _NotUnderstoodError(f"is no list that can be read: {error}") from error
    table = max(tables, key=lambda lines: (_is_header(lines[:1]), len(lines[0][1]) if lines else 0))
    if not table:
        raise _NotUnderstoodError("is empty")
    header = [re.sub(r"[\s-]+", "_", cell.strip("'\"").lower()) for cell in table[0][1]]
    shift = 1 if found else 0
    lines = [(number + shift, cells) for number, cells in table[1:]]
    return _List(member, {name: place for place, name in reversed([*enumerate(header)]) if name}, lines, part)


def _decoded(content: bytes) -> str:
    try:
        utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # as Excel's "Unicode text"
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise _NotUnderstoodError("is no UTF-8 text; save it as UTF-8") from error


def _table(text: str, delimiter: str) -> list[tuple[int, Sequence[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    return [(reader.line_num, cells) for line in reader if any(cells := [cell.strip() for cell in line])]


def _is_header(first: Sequence[tuple[int, Sequence[str]]]) -> bool:
    names = {re.sub(r"[\s-]+", "_", cell.strip("'\"").lower()) for _number, cells in first for cell in cells}
    return bool(names & {*_FILE_COLUMNS} and names & {*_LABEL_COLUMNS})


def _columns(found: _List, names: Names, renamed: Sequence[str]) -> tuple[str | None, str, str | None]:
    """The columns for the file (None: the list is one of classes), the class and the part (None: there is none)."""
    shown = "its columns are " + ", ".join(repr(name) for name in found.columns)
    if any(names.find(found.member, cell) for cell in found.columns):
        raise _NotUnderstoodError(f"its first line names a picture and no columns; {_EXPECTED}")
    if predicted := next((name for name in found.columns if _PREDICTED & {*name.split("_")}), None):
        raise _NotUnderstoodError(f"its column {predicted!r} says that it holds predictions")
    files = [name for name in (*renamed[:1], *_FILE_COLUMNS) if name in found.columns]
    file = max(files, key=lambda name: any(names.find(found.member, cell) for cell in found.cells(name)), default=None)
    label = next((name for name in (*renamed[1:], *_LABEL_COLUMNS) if name in found.columns), None)
    part = _part_column(found, [file, label])
    if label is None or (file is None and part is None and found.part is None):
        raise _NotUnderstoodError(f"{shown}; {_EXPECTED}", splits=part is not None)
    flag = next((n for n in found.columns if n not in (file, label, part) and part_named(n) is not None), None)
    if flag is not None and part is None:
        raise _NotUnderstoodError(
            f"its column {flag!r} looks like a split; expected one column 'split' with {PARTS_EXPECTED}", splits=True
        )
    return file, label, part


def _part_column(found: _List, others: Sequence[str | None]) -> str | None:
    """The column named for parts, or else one in which two parts or more are named."""
    names = [name for name in found.columns if name not in others]
    by_name = next((name for name in _PART_COLUMNS if name in names), None)
    if by_name is not None:
        return by_name
    return next((name for name in names if len({*map(part_named, found.cells(name))} - {None}) > 1), None)


def _rows(found: _List, names: Names, columns: tuple[str, str, str | None]) -> list[Row]:
    file, label, part = columns
    cells = zip(found.lines, found.cells(file), found.cells(label), strict=True)
    parts = [*(found.cells(part) if part else [""] * len(found.lines))]
    rows: list[Row] = []
    missing = ""
    for ((number, _cells), picture, name), in_part in zip(cells, parts, strict=True):
        place = f"{found.member}:{number}"
        known = names.find(found.member, picture)
        if len(known) != 1:
            missing = missing or f"{place}: {_missing(found.member, picture, known)}"
            continue
        if not name or not can_be_a_name(name):
            raise DataError(f"{place}: {picture!r} has no {label} that can be printed")
        rows.append(Row(known[0], name, _part(found, place, part, in_part), place))
    if missing and rows:
        raise DataError(missing)
    if missing:
        why = f"none of its {len(found.lines)} lines names a picture: {missing}"
        raise _NotUnderstoodError(why, splits=part is not None)
    return rows


def _missing(member: str, picture: str, known: Sequence[str]) -> str:
    if known:
        return f"{picture!r} may be {known[0]!r} or {known[1]!r}; expected the path from the list's own folder"
    first, second = (posixpath.normpath(posixpath.join(posixpath.dirname(member), below, picture)) for below in ("", "images"))
    return f"{picture!r} is not there; expected {first} or {second}"


def _part(found: _List, place: str, column: str | None, cell: str) -> Part | None:
    if column is None:
        return found.part
    part = part_named(cell)
    if part is None:
        raise DataError(
            f"{place}: {column} is {cell!r}, expected one of {PARTS_EXPECTED}; or split the classes by the seed, with "
            "--set dataset.parts=ignore"
        )
    if found.part not in (None, part):
        raise DataError(f"{place}: {column} is {cell!r}, but the list is called {_stem(found.member)!r}")
    return part


def _class_parts(found: _List, label: str, part: str | None) -> dict[str, tuple[Part, str]]:
    """The part of each class and where that stands."""
    parts: dict[str, tuple[Part, str]] = {}
    cells = found.cells(part) if part else [""] * len(found.lines)
    for (number, _cells), name, cell in zip(found.lines, found.cells(label), cells, strict=True):
        place = f"{found.member}:{number}"
        in_part = _part(found, place, part, cell)
        assert in_part is not None
        if parts.setdefault(name, (in_part, place))[0] != in_part:
            raise DataError(f"{place}: class {name!r} is in {in_part}, but in {parts[name][0]} in {parts[name][1]}")
    return parts


def _renamed(source: Source, member: str) -> tuple[str, ...]:
    """What Meta-Album's info.json says the columns of file and class are called, if there is one."""
    about = posixpath.join(posixpath.dirname(member), "info.json")
    if about not in source.members:
        return ()
    try:
        found = json.loads(source.text(about))
        return tuple(str(found[key]).lower() for key in ("image_column_name", "category_column_name"))
    except (ValueError, KeyError, TypeError):  # some other info.json
        return ()
