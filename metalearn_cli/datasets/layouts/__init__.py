"""What the official datasets have in common: shipped lists, checked counts, and the layouts that people keep.

The registry does not look here: a dataset is one file in the folder above.
"""

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, Literal

from metalearn_cli.datasets import PARTS, Preprocessing, Resize, Split
from metalearn_cli.errors import DataError

_PICTURE = re.compile(r"\.(png|jpe?g|webp|bmp)$", re.IGNORECASE)
_ROW = re.compile(r"\.(pkl|pickle|npz|parquet)/[^/]+/\d{6,}$|(^|/)(train|test)/[^/]+/\d{6,}$", re.IGNORECASE)
_SHOWN = 5


def is_picture(member: str) -> bool:
    """Whether the member is a picture: by its suffix, or as one of many in a larger file."""
    return bool(_PICTURE.search(member) or _ROW.search(member))


def is_row(member: str) -> bool:
    """Whether the member is one of many pictures in a larger file."""
    return _ROW.search(member) is not None


def json_list(name: str) -> dict[str, Any]:
    """The shipped lists/NAME.json."""
    found: dict[str, Any] = json.loads(_shipped(f"{name}.json"))
    return found


def split_list(name: str) -> Split:
    """The class names by part in the shipped lists/NAME.json."""
    found = json_list(name)
    return {part: found[part] for part in PARTS}


def shipped_rows(name: str) -> Iterator[list[str]]:
    """The rows of the shipped lists/NAME, tab-separated, without comments; gunzipped if need be."""
    return (line.split("\t") for line in _shipped(name).splitlines() if not line.startswith("#"))


def photos(size: int, resize: Resize, fit: Literal["crop", "squash"] = "squash") -> Preprocessing:
    """Colour squares, to be normalised by the mean and spread of a split's training classes."""
    return Preprocessing(channels=3, height=size, width=size, resize=resize, fit=fit, mean=(), std=())


def require_complete(
    name: str, found: Mapping[str, Sequence[str]], expected: Mapping[str, int | None], allow_partial: bool
) -> str:
    """What is missing of the classes and of the pictures expected of each (None: any number): nothing, unless allowed.

    Raises DataError for a class that the dataset does not have, and without `allow_partial` for what is missing.
    """
    unknown = sorted(found.keys() - expected.keys())
    if unknown or not found:
        there = f"class {unknown[0]!r}, which it does not have" if unknown else "no pictures of it"
        raise DataError(f"{name}: found {there}")
    missing = sorted(expected.keys() - found.keys())
    odd = [
        f"{one} has {len(found[one]):,} of {count:,}"
        for one, count in expected.items()
        if one in found and count is not None and len(found[one]) != count
    ]
    problems = [f"{len(found)} of {len(expected)} classes; missing {_some(missing)}"] if missing else []
    problems += [f"pictures: {_some(odd)}"] if odd else []
    if problems and not allow_partial:
        raise incomplete(name, "; ".join(problems))
    return "; ".join(problems)


def require_total(name: str, classes: Mapping[str, Sequence[str]], expected: int, allow_partial: bool) -> str:
    """What is missing of the pictures: nothing, unless allowed. Raises DataError without `allow_partial`."""
    pictures = sum(len(members) for members in classes.values())
    if pictures == expected:
        return ""
    partial = f"{pictures:,} of {expected:,} pictures"
    if not allow_partial:
        raise incomplete(name, partial)
    return partial


def incomplete(name: str, partial: str) -> DataError:
    """The error that says what is missing and how to go on without it."""
    return DataError(f"{name}: found {partial}; complete it, or take it as it is with --set dataset.allow_partial=true")


def kept(split: Split, classes: Mapping[str, object], name: str) -> Split:
    """The split without classes that are not there. Raises DataError if a part is left without any."""
    found: Split = {part: [one for one in names if one in classes] for part, names in split.items()}
    empty = [part for part in PARTS if not found[part]]
    if empty:
        raise DataError(f"{name}: has no classes of {' and '.join(empty)}")
    return found


def in_order(split: Split, classes: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """The classes part after part, sorted in each: the order in which every layout is stored."""
    return {name: classes[name] for part in PARTS for name in sorted(split[part]) if name in classes}


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _shipped(name: str) -> str:
    content = files("metalearn_cli.datasets").joinpath(f"lists/{name}").read_bytes()
    return (gzip.decompress(content) if name.endswith(".gz") else content).decode()
