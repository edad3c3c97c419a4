"""Groups labelled pictures into classes, and classes into the parts of a split."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from metalearn_cli.datasets import PARTS, Part, Split
from metalearn_cli.datasets.layouts.parts import PARTS_EXPECTED
from metalearn_cli.errors import DataError
from metalearn_cli.omissions import Omissions

Classes = Mapping[str, Sequence[str]]

_IGNORE = "or split the classes anew, by the seed, with --set dataset.parts=ignore"


class Row(NamedTuple):
    """A picture, its class and its part, if known. `place`: the file and line that says so, for messages."""

    picture: str
    label: str
    part: Part | None
    place: str


class Grouped(NamedTuple):
    """The pictures of each class, and the part of each class, if there are parts."""

    classes: Classes
    part_of: Mapping[str, Part]


def grouped(rows: Iterable[Row], omissions: Omissions) -> Grouped:
    """The rows grouped by class; a picture that comes twice counts once.

    Raises DataError if a picture is in two classes or two parts, a class in two parts, or some classes have no part.
    """
    by_picture: dict[str, Row] = {}
    for row in rows:
        known = by_picture.setdefault(row.picture, row)
        if known is row:
            continue
        if known.label != row.label:
            raise DataError(
                f"{row.place}: {row.picture!r} is {row.label!r}, but {known.label!r} in {known.place}; "
                "a picture has one class"
            )
        part = known.part or row.part
        if part != (row.part or part):
            raise DataError(
                f"{row.place}: {row.picture!r} is in {row.part}, but in {known.part} in {known.place}; "
                f"a picture is in one part"
            )
        by_picture[row.picture] = known._replace(part=part)
        if known.place.rpartition(":")[0] == row.place.rpartition(":")[0]:
            omissions.add("line of a list", "another line says the same of its picture", row.place)
    return _in_parts([*by_picture.values()])


def _in_parts(rows: list[Row]) -> Grouped:
    without = next((row for row in rows if row.part is None), None)
    within = next((row for row in rows if row.part is not None), None)
    if without is not None and within is not None:
        raise DataError(
            f"{without.place}: {without.picture!r} is in no part, but {within.picture!r} is in {within.part} "
            f"({within.place}); expected {PARTS_EXPECTED} for each, {_IGNORE}"
        )
    classes: dict[str, list[str]] = {}
    first: dict[str, Row] = {}
    for row in rows:
        classes.setdefault(row.label, []).append(row.picture)
        other = first.setdefault(_folded(row.label) if row.part else row.label, row)
        if other.part != row.part:
            raise DataError(
                f"class {row.label!r} is in {other.part} ({other.place}) and in {row.part} ({row.place}): what is "
                f"tested on would be trained on; put each class into one part, {_IGNORE}"
            )
    return Grouped(classes, {row.label: row.part for row in rows if row.part is not None})


def split_by_seed(names: Sequence[str], seed: int, val_fraction: float, test_fraction: float) -> dict[Part, list[str]]:
    """Three or more names, shuffled by the seed and divided by these shares; each part is sorted and has one or more.

    Raises DataError if the two shares leave nothing for training.
    """
    names = sorted(names)
    val = max(1, round(val_fraction * len(names)))
    test = max(1, min(round(test_fraction * len(names)), len(names) - val - 1))
    if val + test >= len(names):
        raise DataError(
            f"nothing is left for train: dataset.val_fraction takes {val} of {len(names)} and "
            f"dataset.test_fraction {test}; make them smaller"
        )
    # Philox by name: numpy may change the generator behind default_rng, and with it every split.
    order = np.random.Generator(np.random.Philox(key=[seed, 0])).permutation(len(names))
    shuffled = [names[place] for place in order]
    return {
        "train": sorted(shuffled[val + test :]),
        "val": sorted(shuffled[:val]),
        "test": sorted(shuffled[val : val + test]),
    }


def _folded(name: str) -> str:
    """The name in lower case without spaces and dashes; two names with the same result are probably one class."""
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()


def named_split(named: Mapping[Part, list[str]], classes: Mapping[str, object], part_of: Mapping[str, Part]) -> Split:
    """The split in which `dataset.val_classes` and `dataset.test_classes` are these; the others stay where they are.

    Raises DataError for a class that is not there, is in both, or lies in another part than is asked.
    """
    for part, names in named.items():
        unknown = [name for name in names if name not in classes]
        if unknown:
            raise DataError(f"dataset.{part}_classes: {unknown[0]!r} has no pictures; there are {', '.join(classes)}")
        elsewhere = [name for name in names if part_of.get(name, "train") not in ("train", part)]
        if elsewhere:
            where = part_of[elsewhere[0]]
            raise DataError(f"dataset.{part}_classes: {elsewhere[0]!r} lies in {where}; name it there, {_IGNORE}")
    both = sorted({*named["val"]} & {*named["test"]})
    if both:
        raise DataError(f"class {both[0]!r} is in both dataset.val_classes and dataset.test_classes")
    chosen: dict[str, Part] = {name: part for part, names in named.items() for name in names}
    found: dict[str, Part] = {name: chosen.get(name) or part_of.get(name, "train") for name in classes}
    unnamed = next((n for n in classes if n not in chosen and found[n] != "train" and named[found[n]]), None)
    if unnamed is not None:
        part = found[unnamed]
        raise DataError(
            f"class {unnamed!r} lies in {part}, and dataset.{part}_classes does not name it; add it, {_IGNORE}"
        )
    return {part: [name for name in (classes if part == "train" else sorted(classes)) if found[name] == part]
            for part in PARTS}  # fmt: skip
