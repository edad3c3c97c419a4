"""Names of parts on people's disks: which folders, files, columns and cells mean train, val or test."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from metalearn_cli.datasets import Part
from metalearn_cli.errors import DataError

PARTS_EXPECTED = "train, val and test (or training, validation, testing; base, novel; dev, eval; meta-train, ...)"

_WORDS: Mapping[str, Part] = {
    "train": "train", "training": "train", "trn": "train", "base": "train", "seen": "train",
    "val": "val", "valid": "val", "validate": "val", "validation": "val", "dev": "val", "devel": "val",
    "development": "val", "vld": "val",
    "test": "test", "testing": "test", "tst": "test", "novel": "test", "eval": "test", "evaluate": "test",
    "evaluation": "test", "holdout": "test", "unseen": "test",
}  # fmt: skip
# Words that name a part in the midst of others; "base" and "novel" may be words of any class's name.
_PLAIN = {"train", "training", "val", "valid", "validation", "test", "testing"}
_SPLIT_WORDS = {"split", "splits", "partition", "partitions", "subset"}
_FILLERS = _SPLIT_WORDS | {
    "meta", "set", "sets", "data", "dataset", "class", "classes", "image", "images", "img", "imgs", "picture",
    "pictures", "photo", "photos", "part", "parts", "file", "files", "list", "lists", "label", "labels", "annotation",
    "annotations", "is",
}  # fmt: skip
_PREFIXES, _SUFFIXES = ("meta",), ("set", "split", "data")

_CONTAINER = re.compile(r"\.(pkl|pickle|npz|parquet)$", re.IGNORECASE)

Folders = tuple[str, ...]


def part_named(name: str) -> Part | None:
    """The part that a name means, in any case and with the usual additions; None if it means none.

    >>> [part_named(name) for name in ("Training", "meta-val", "test_set", "train2017", "base", "train_station")]
    ['train', 'val', 'test', 'train', 'train', None]
    """
    words = [word for word in _words(name) if word not in _FILLERS]
    parts = {_WORDS.get(word) for word in words}
    return parts.pop() if len(parts) == 1 else None


def part_among(name: str) -> Part | None:
    """The first word of the name that means a part, as in "mini-imagenet-cache-val.pkl"; None without one."""
    return next((_WORDS[word] for word in _words(name) if word in _WORDS), None)


def part_in(path: str) -> Part | None:
    """The part that a folder ("val/...") or file ("mini-imagenet-cache-val.pkl/...") of the path names, or None."""
    # Any folder may have a part as a word of its name, such as a class of trains; only a whole name counts there.
    named = (part_among(name) if _CONTAINER.search(name) else part_named(name) for name in path.split("/")[:-1])
    return next((part for part in named if part is not None), None)


def names_a_split(name: str) -> bool:
    """Whether a file of this name, without its suffix, would hold a split: "split", "dataset_splits", "partition"."""
    words = _words(name)
    return bool(_SPLIT_WORDS.intersection(words)) and _FILLERS.issuperset(words)


def parts_of_names(names: Iterable[str]) -> Mapping[str, Part]:
    """The part of each name that means one, among folders or files that lie side by side.

    A word that all of them share is ignored: cub_train and cub_test are parts, train_station is none.
    """
    names = list(names)
    whole = {name: part for name in names if (part := part_named(name)) is not None}
    if len({*whole.values()}) > 1:
        return whole
    by_stem: dict[Folders, dict[str, Part]] = defaultdict(dict)
    for name in names:
        words = _words(name)
        naming = [word for word in words if word in _WORDS]
        if len(naming) == 1:
            by_stem[tuple(word for word in words if word not in naming)][name] = _WORDS[naming[0]]
    stems = (found for found in by_stem.values() if any(_PLAIN.intersection(_words(name)) for name in found))
    return next((found for found in stems if len({*found.values()}) > 1), whole)


def _words(name: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [_bare(word) for word in re.findall(r"[^\W\d_]+", spaced.lower())]


def _bare(word: str) -> str:
    """The word without the usual prefixes and suffixes: "trainset" and "metatest" become "train" and "test"."""
    for stripped in (*(word.removeprefix(p) for p in _PREFIXES), *(word.removesuffix(s) for s in _SUFFIXES)):
        if stripped in _WORDS:
            return stripped
    return word


class Place(NamedTuple):
    """The place of a folder in a split: its part, if any, and its path without the folders that name parts.

    `beside`: the folder lies beside the folders of the parts and belongs to none of them.
    """

    part: Part | None
    rest: Folders
    beside: bool = False


def places(folders: Iterable[Folders]) -> Mapping[Folders, Place]:
    """The Place of each folder of pictures. Two or more parts side by side, at any depth, are a split.

    Raises DataError for a folder that lies in two parts.
    """
    folders = list(dict.fromkeys(folders))
    split = _split(folders)
    return {path: _place(path, split) if split else Place(None, path) for path in folders}


def require_no_lone_part(folders: Iterable[Folders]) -> None:
    """Raise DataError for a folder named like a part that holds class folders, but has no other part beside it."""
    folders = list(dict.fromkeys(folders))
    above = {path[:depth] for path in folders for depth in range(1, len(path))}
    lone = next((path for path in sorted(above) if (part_named(path[-1])) is not None), None)
    if lone is not None and not _split(folders):
        raise DataError(
            f"{'/'.join(lone)!r} looks like the part {part_named(lone[-1])} of a split, and no other part lies beside "
            f"it; expected {PARTS_EXPECTED}; or split its classes by the seed with --set dataset.parts=ignore"
        )


def _split(folders: Sequence[Folders]) -> Mapping[Folders, Mapping[str, Part]]:
    """The parts of the sub-folders, for each folder whose sub-folders are parts."""
    children: dict[Folders, dict[str, None]] = defaultdict(dict)
    for path in folders:
        for depth, name in enumerate(path):
            children[path[:depth]][name] = None
    named = {parent: parts_of_names(names) for parent, names in children.items()}
    return {parent: parts for parent, parts in named.items() if len({*parts.values()}) > 1} or _below_classes(folders)


def _below_classes(folders: Sequence[Folders]) -> Mapping[Folders, Mapping[str, Part]]:
    """As `_split`, for classes that hold folders of parts: cat/train and dog/test."""
    for depth in range(1, max((len(path) for path in folders), default=0)):
        names = {path[depth] if len(path) > depth else "" for path in folders}
        parts = parts_of_names(names)
        if parts.keys() == names and len({*parts.values()}) > 1:
            return {path[:depth]: parts for path in folders}
    return {}


def _place(path: Folders, split: Mapping[Folders, Mapping[str, Part]]) -> Place:
    depths = [depth for depth in range(len(path)) if path[:depth] in split]
    found = {split[path[:depth]].get(path[depth]) for depth in depths}
    if not depths or None in found:
        return Place(None, path, beside=True)
    if len(found) > 1:
        raise DataError(f"{'/'.join(path)!r} lies in two parts of a split; expected one of {PARTS_EXPECTED}")
    return Place(found.pop(), tuple(name for depth, name in enumerate(path) if depth not in depths))
