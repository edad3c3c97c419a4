"""Reads lists of pictures: csv and tsv files with the class of each picture, and perhaps its part."""

import json
import posixpath
from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import NamedTuple

from metalearn_cli.datasets import Part, Source
from metalearn_cli.datasets.layouts.classes import Row
from metalearn_cli.datasets.layouts.naming import Names
from metalearn_cli.datasets.layouts.parts import PARTS_EXPECTED, names_a_split, part_named, parts_of_names
from metalearn_cli.datasets.layouts.sheets import Sheet, UnreadableError, read_sheet
from metalearn_cli.errors import DataError, can_be_a_name

_FILE_COLUMNS = (
    "filename", "file_name", "file", "image", "path", "filepath", "file_path", "image_path", "image_name", "image_file",
    "image_id", "img", "img_path", "img_name", "picture", "photo", "id",
)  # fmt: skip
_LABEL_COLUMNS = (
    "label", "category", "class", "class_name", "classname", "label_name", "category_name", "labels", "target",
    "species", "breed", "kind",
)  # fmt: skip
_PART_COLUMNS = ("split", "part", "partition", "dataset_split", "data_split")
# Words of columns in a file of answers, such as `finetune --csv` writes; its classes must not become true labels.
_PREDICTED = {"predicted", "prediction", "predictions", "pred", "probability", "probabilities", "prob", "confidence"}
_EXPECTED = (
    "expected a first line that names a column for the file (filename, file, image, path, ...) and one for its class "
    "(label, category, class, ...)"
)


class Unread(NamedTuple):
    """A list that is not used: its path, the reason, and whether it looks like a split."""

    member: str
    why: str
    splits: bool


class Lists(NamedTuple):
    """The contents of the lists of a source: rows of pictures, parts of whole classes by name, and lists not used."""

    rows: Sequence[Row]
    classes: Mapping[str, tuple[Part, str]]
    unread: Sequence[Unread]


class _List(NamedTuple):
    """A list, and the part in its file's name, such as "train.csv"; None if it names none."""

    member: str
    sheet: Sheet
    part: Part | None


class _Columns(NamedTuple):
    """The columns with the file (None for a list of classes), the class, and the part (None if there is none)."""

    file: str | None
    label: str
    part: str | None


class _NotUnderstoodError(Exception):
    def __init__(self, why: str, splits: bool = False) -> None:
        super().__init__(why)
        self.splits = splits


def read_lists(source: Source, pictures: Sequence[str], given: bool) -> Lists:
    """The csv and tsv files of the source that list these pictures or their classes.

    Parts are read only with `given`.

    Raises DataError for a mistake in a list that names some of the pictures.
    """
    names = Names(pictures)
    members = [member for member in source.members if member.lower().endswith((".csv", ".tsv"))]
    folders = {member.rpartition("/")[0] for member in members} if given else set()
    parts = {member: part for folder in folders for member, part in _parts_in(folder, members).items()}
    rows: list[Row] = []
    classes: dict[str, tuple[Part, str]] = {}
    unread: list[Unread] = []
    for member in members:
        try:
            content = read_sheet(source.content(member), _is_header, member.lower().endswith("tsv"))
            found = _List(member, content, parts.get(member))
            columns = _columns(found, names, _renamed(source, member), given)
            if columns.file is not None:
                rows += _rows(found, names, columns.file, columns)
            else:
                classes |= _class_parts(found, columns)
        except (UnreadableError, _NotUnderstoodError) as error:
            splits = getattr(error, "splits", False) or member in parts or names_a_split(_stem(member))
            unread.append(Unread(member, str(error), splits))
    return Lists(rows, classes, unread)


def _parts_in(folder: str, members: Sequence[str]) -> dict[str, Part]:
    """The parts in the names of the lists of a folder, such as "train.csv"."""
    stems = {_stem(member): member for member in members if member.rpartition("/")[0] == folder}
    return {stems[stem]: part for stem, part in parts_of_names(stems).items()}


def _stem(member: str) -> str:
    return member.rpartition("/")[2].rpartition(".")[0]


def _is_header(names: Sequence[str]) -> bool:
    return not {*_FILE_COLUMNS}.isdisjoint(names) and not {*_LABEL_COLUMNS}.isdisjoint(names)


def _columns(found: _List, names: Names, renamed: Sequence[str], given: bool) -> _Columns:
    cells, columns = found.sheet.cells, [*found.sheet.columns]
    if any(names.find(found.member, column) for column in columns):
        raise _NotUnderstoodError(f"its first line names a picture and no columns; {_EXPECTED}")
    if predicted := next((name for name in columns if _PREDICTED & {*name.split("_")}), None):
        raise _NotUnderstoodError(f"its column {predicted!r} says that it holds predictions")
    files = [name for name in (*renamed[:1], *_FILE_COLUMNS) if name in columns]
    file = max(files, key=lambda name: any(names.find(found.member, cell) for cell in cells(name)), default=None)
    label = next((name for name in (*renamed[1:], *_LABEL_COLUMNS) if name in columns), None)
    others = [name for name in columns if name not in (file, label)]
    part = _part_column(found, others) if given else None
    if label is None or (file is None and part is None and found.part is None):
        shown = ", ".join(map(repr, columns))
        raise _NotUnderstoodError(f"its columns are {shown}; {_EXPECTED}", splits=part is not None)
    flag = next((name for name in others if part_named(name) is not None), None)
    if given and flag is not None and part is None:
        why = f"its column {flag!r} looks like a split; expected one column 'split' with {PARTS_EXPECTED}"
        raise _NotUnderstoodError(why, splits=True)
    return _Columns(file, label, part)


def _part_column(found: _List, names: Sequence[str]) -> str | None:
    """The column with a name for parts, or else one whose cells name two or more parts."""
    by_name = next((name for name in _PART_COLUMNS if name in names), None)
    return by_name or next((n for n in names if len({*map(part_named, found.sheet.cells(n))} - {None}) > 1), None)


def _rows(found: _List, names: Names, file: str, columns: _Columns) -> list[Row]:
    cells = found.sheet.cells
    parts = cells(columns.part) if columns.part else repeat("")
    rows: list[Row] = []
    missing = ""
    lines = zip(found.sheet.lines, cells(file), cells(columns.label), parts, strict=False)
    for (number, _cells), picture, name, part in lines:
        place = f"{found.member}:{number}"
        known = names.find(found.member, picture)
        if len(known) != 1:
            missing = missing or f"{place}: {_missing(found.member, picture, known)}"
            continue
        if not name or not can_be_a_name(name):
            raise DataError(f"{place}: {picture!r} has no {columns.label} that can be printed")
        rows.append(Row(known[0], name, _part(found, place, columns.part, part), place))
    if missing and rows:  # a list that names some pictures is surely meant, so a line that names none is a mistake
        raise DataError(missing)
    if missing:
        why = f"none of its {len(found.sheet.lines)} lines names a picture: {missing}"
        raise _NotUnderstoodError(why, splits=columns.part is not None)
    return rows


def _missing(member: str, picture: str, known: Sequence[str]) -> str:
    if known:
        return f"{picture!r} may be {known[0]!r} or {known[1]!r}; expected the path from the list's own folder"
    folder = posixpath.dirname(member)
    first, second = (posixpath.normpath(posixpath.join(folder, below, picture)) for below in ("", "images"))
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


def _class_parts(found: _List, columns: _Columns) -> dict[str, tuple[Part, str]]:
    """The part of each class, and the line that says so."""
    parts: dict[str, tuple[Part, str]] = {}
    cells = found.sheet.cells(columns.part) if columns.part else repeat("")
    for (number, _cells), name, cell in zip(found.sheet.lines, found.sheet.cells(columns.label), cells, strict=False):
        place = f"{found.member}:{number}"
        part = _part(found, place, columns.part, cell)
        assert part is not None
        if parts.setdefault(name, (part, place))[0] != part:
            raise DataError(f"{place}: class {name!r} is in {part}, but in {parts[name][0]} in {parts[name][1]}")
    return parts


def _renamed(source: Source, member: str) -> tuple[str, ...]:
    """The names of the columns for file and class in Meta-Album's info.json beside the list; () if there is none."""
    about = posixpath.join(posixpath.dirname(member), "info.json")
    if about not in source.members:
        return ()
    try:
        found = json.loads(source.text(about))
        return tuple(str(found[key]).lower() for key in ("image_column_name", "category_column_name"))
    except (ValueError, KeyError, TypeError):  # some other info.json
        return ()
