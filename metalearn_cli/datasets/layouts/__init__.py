"""Functions that the published datasets share: shipped lists, checks of counts, and layouts found on people's disks.

The registry does not look into this folder: a dataset is one file in the folder above.
"""

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, Literal

from metalearn_cli.datasets import PARTS, Preprocessing, Resize, Split
from metalearn_cli.errors import DataError, some_of

_PICTURE = re.compile(r"\.(png|jpe?g|webp|bmp)$", re.IGNORECASE)
_ROW = re.compile(r"\.(pkl|pickle|npz|parquet)/[^/]+/\d{6,}$|(^|/)(train|test)/[^/]+/\d{6,}$", re.IGNORECASE)
_SHOWN = 5  # names in a message


def is_picture(member: str) -> bool:
    """Whether the member is a picture: it has a picture's suffix, or lies in a larger file (pickle, parquet)."""
    return bool(_PICTURE.search(member) or _ROW.search(member))


def is_row(member: str) -> bool:
    """Whether the member is one of many pictures in a larger file."""
    return _ROW.search(member) is not None


def json_list(name: str) -> dict[str, Any]:
    """The shipped lists/NAME.json."""
    found: dict[str, Any] = json.loads(_shipped(f"{name}.json"))
    return found


def split_list(name: str) -> Split:
    """The class names of each part (train, val, test) in the shipped lists/NAME.json."""
    found = json_list(name)
    return {part: found[part] for part in PARTS}


def shipped_rows(name: str) -> Iterator[list[str]]:
    """The tab-separated rows of the shipped lists/NAME (perhaps .gz), without its comments."""
    return (line.split("\t") for line in _shipped(name).splitlines() if not line.startswith("#"))


def photos(size: int, resize: Resize, fit: Literal["crop", "squash"] = "squash") -> Preprocessing:
    """Square colour pictures, normalised by the mean and standard deviation of the training classes of the split."""
    return Preprocessing(channels=3, height=size, width=size, resize=resize, fit=fit, mean=(), std=())


def require_complete(
    name: str, found: Mapping[str, Sequence[str]], expected: Mapping[str, int | None], allow_partial: bool
) -> str:
    """A text on missing classes and pictures; empty if all is there. `expected`: pictures of each class, None for any.

    Raises DataError for a class that the dataset does not have, and for anything missing unless `allow_partial` is set.
    """
    unknown = sorted(found.keys() - expected.keys())
    if unknown or not found:
        there = f"class {unknown[0]!r}, which it does not have" if unknown else "no pictures of it"
        raise DataError(f"{name}: found {there}")
    missing = sorted(expected.keys() - found.keys())
    odd = [
        f"{class_} has {len(found[class_]):,} of {count:,}"
        for class_, count in expected.items()
        if class_ in found and count is not None and len(found[class_]) != count
    ]
    problems = [f"{len(found)} of {len(expected)} classes; missing {some_of(missing, _SHOWN)}"] if missing else []
    problems += [f"pictures: {some_of(odd, _SHOWN)}"] if odd else []
    if problems and not allow_partial:
        raise incomplete(name, "; ".join(problems))
    return "; ".join(problems)


def require_total(name: str, classes: Mapping[str, Sequence[str]], expected: int, allow_partial: bool) -> str:
    """A text on the missing pictures; empty if none is. Raises DataError for any unless `allow_partial` is set."""
    pictures = sum(len(members) for members in classes.values())
    if pictures == expected:
        return ""
    partial = f"{pictures:,} of {expected:,} pictures"
    if not allow_partial:
        raise incomplete(name, partial)
    return partial


def incomplete(name: str, partial: str) -> DataError:
    """A DataError with what was found (`partial`) and the setting that accepts it."""
    return DataError(f"{name}: found {partial}; complete it, or take it as it is with --set dataset.allow_partial=true")


def kept(split: Split, classes: Mapping[str, object], name: str) -> Split:
    """The split without the classes that are missing. Raises DataError if a part then has no class."""
    there: Split = {part: [class_ for class_ in names if class_ in classes] for part, names in split.items()}
    empty = [part for part in PARTS if not there[part]]
    if empty:
        raise DataError(f"{name}: has no classes of {' and '.join(empty)}")
    return there


def in_order(split: Split, classes: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """The classes in the order in which all layouts are stored: train, val, test, and by name within each."""
    return {name: classes[name] for part in PARTS for name in sorted(split[part]) if name in classes}


def _shipped(name: str) -> str:
    content = files("metalearn_cli.datasets").joinpath(f"lists/{name}").read_bytes()
    return (gzip.decompress(content) if name.endswith(".gz") else content).decode()
