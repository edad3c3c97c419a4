"""Finds the class and the part of each picture of a person's own dataset, from its folder or from a list."""

from collections.abc import Iterable, Mapping, Sequence

from metalearn_cli.datasets import PARTS, Source
from metalearn_cli.datasets.layouts import is_row
from metalearn_cli.datasets.layouts.classes import Row
from metalearn_cli.datasets.layouts.lists import Lists
from metalearn_cli.datasets.layouts.parts import (
    Folders,
    names_a_split,
    part_in,
    parts_of_names,
    places,
    require_no_lone_part,
)
from metalearn_cli.errors import DataError

_UNREAD_LISTS = (".txt", ".lst", ".list", ".json", ".yaml", ".yml", ".xls", ".xlsx", ".ods", ".mat", ".npy")


def labelled(source: Source, pictures: Sequence[str], lists: Lists, given: bool) -> list[Row]:
    """The class of each picture and, with `given`, its part. Pictures that are not used are added to the omissions.

    Raises DataError if a picture is in no class, if lists and folders contradict each other, or if neither has classes.
    """
    rows = _by_list(source, pictures, lists) if lists.rows else _by_folders(source, pictures, lists, given)
    for unread in lists.unread:
        source.omissions.add("list", unread.why, unread.member)
    if not given:
        return [row._replace(part=None) for row in rows]
    return _with_parts_of_classes(source, rows, lists)


def require_split_read(source: Source, lists: Lists) -> None:
    """Raise DataError for a file that looks like a split and was not read."""
    unread = next((list_ for list_ in lists.unread if list_.splits), None)
    if unread is not None:
        raise DataError(
            f"{unread.member}: looks like a split, but {unread.why}; or leave it, and split the classes by the seed, "
            "with --set dataset.parts=ignore"
        )
    by_folder: dict[str, dict[str, str]] = {}
    for member in source.members:
        folder, _, name = member.rpartition("/")
        if name.lower().endswith(_UNREAD_LISTS):
            by_folder.setdefault(folder, {})[name.rpartition(".")[0]] = member
    for stems in by_folder.values():
        parts = parts_of_names(stems)
        splits = [*parts] if len({*parts.values()}) > 1 else [stem for stem in stems if names_a_split(stem)]
        if splits:
            raise DataError(
                f"{stems[splits[0]]}: looks like a split, which is read from folders train, val and test or from a csv "
                "with the columns filename, label and split; or leave it, and split the classes by the seed, with "
                "--set dataset.parts=ignore"
            )


def _by_list(source: Source, pictures: Sequence[str], lists: Lists) -> list[Row]:
    """The rows of the lists; the parts come from the folders if the lists have none."""
    _require_agreement(lists.rows)
    where = places(_folders(picture) for picture in pictures)
    rows = []
    for row in lists.rows:
        part = where[_folders(row.picture)].part
        if part not in (None, row.part) and row.part is not None:
            folder = row.picture.rpartition("/")[0]
            source.omissions.add("folder of a part", "a list gives its pictures another part", folder)
        rows.append(row._replace(part=row.part or part))
    named = {row.picture for row in rows}
    for picture in pictures:
        if picture not in named:
            source.omissions.add("picture", "no list names it", picture)
    return rows


def _require_agreement(rows: Iterable[Row]) -> None:
    """Raise DataError if a list uses the names of class folders as labels, but with another folder's pictures."""
    rows = [row for row in rows if "/" in row.picture]
    folders = [_folders(row.picture)[-1] for row in rows]
    labels = {row.label for row in rows}
    for row, folder in zip(rows, folders, strict=True):
        if row.label != folder and folder in labels and row.label in folders:
            raise DataError(
                f"{row.place}: {row.picture!r} is {row.label!r}, but lies in the folder of {folder!r}; mend one "
                "of them, or move the list away"
            )


def _by_folders(source: Source, pictures: Sequence[str], lists: Lists, given: bool) -> list[Row]:
    source.require_filled(pictures)
    try:
        rows = [*_of_files(source, [p for p in pictures if not is_row(p)], given),
                *_of_containers(source, [p for p in pictures if is_row(p)])]  # fmt: skip
    except DataError as error:
        raise _unread(lists) or error from error
    if len({row.label for row in rows}) < len(PARTS) and (unread := _unread(lists)):
        raise unread
    return rows


def _unread(lists: Lists) -> DataError | None:
    """A text on why no list could be used, for pictures that are not in class folders either."""
    return DataError("; ".join(f"{member}: {why}" for member, why, _splits in lists.unread)) if lists.unread else None


def _of_files(source: Source, files: Sequence[str], given: bool) -> list[Row]:
    folders = [_folders(file) for file in files]
    above = {path[:depth] for path in folders for depth in range(len(path))}
    where = places(folders)
    if given:
        require_no_lone_part(folders)
    elif any(not place.rest for place in where.values()):
        where = {path: place._replace(rest=path) for path, place in where.items()}
    # Beside folders of classes a picture is loose too: taken for a class, it would undo train/, val/ and test/.
    loose = [file for file, path in zip(files, folders, strict=True) if path in above or not where[path].rest]
    if loose:
        raise DataError(f"{loose[0]!r} lies outside a class; expected CLASS/picture.jpg")
    within = [(file, path) for file, path in zip(files, folders, strict=True) if not where[path].beside]
    for file in {*files}.difference(file for file, _path in within):
        source.omissions.add("picture", "it lies beside the folders of the parts, in none of them", file)
    cut = _wrappers([where[path].rest for _file, path in within])
    return [Row(file, "/".join(where[path].rest[cut:]), where[path].part, "/".join(path)) for file, path in within]


def _of_containers(source: Source, rows: Sequence[str]) -> list[Row]:
    """Rows of pictures inside larger files, by their labels; the names of these files may be parts."""
    files = {row: row.rsplit("/", 2)[0] for row in rows}
    parts = {file: part_in(f"{file}/") for file in {*files.values()}}
    if len({*parts.values()} - {None}) < 2:
        parts = dict.fromkeys(parts)
    elif None in parts.values():
        for file in (file for file, part in parts.items() if part is None):
            source.omissions.add("table", "it lies beside those of the parts", file)
        rows = [row for row in rows if parts[files[row]] is not None]
    return [Row(row, row.split("/")[-2], parts[files[row]], files[row]) for row in rows]


def _folders(member: str) -> Folders:
    return tuple(member.split("/")[:-1])


def _wrappers(paths: Sequence[Folders]) -> int:
    """The number of outer folders that all paths share; the folder of a single class is not counted."""
    count = 0
    while paths and min(map(len, paths)) > count + 1 and len({path[count] for path in paths}) == 1:
        count += 1
    return count


def _with_parts_of_classes(source: Source, rows: Sequence[Row], lists: Lists) -> list[Row]:
    """The rows with the parts that lists of classes give them."""
    if not lists.classes:
        return [*rows]
    labels = {row.label for row in rows}
    # A list may name a class "wren" whose label is "birds/wren", below a group folder.
    by_end: Mapping[str, str] = {label.rpartition("/")[2]: label for label in labels}
    named = {name if name in labels else by_end.get(name): of for name, of in lists.classes.items()}
    for name, (_part, place) in lists.classes.items():
        if name not in labels and name not in by_end:
            source.omissions.add("line of a list", "its class has no pictures", place)
    if named.keys() == {None}:
        member = next(iter(lists.classes.values()))[1].rpartition(":")[0]
        raise DataError(f"{member}: names none of the classes, which are {', '.join(sorted(labels)[:5])}, ...")
    divided = []
    for row in rows:
        part, place = named.get(row.label, (None, ""))
        if part is not None and row.part not in (None, part):
            raise DataError(f"{place}: class {row.label!r} is in {part}, but in {row.part} in {row.place}")
        divided.append(row._replace(part=part or row.part, place=place or row.place))
    return divided
