"""Divides classes or tasks into training, validation and test: by a column, by name, or by a seed."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from metalearn_cli.datasets import PARTS, Part
from metalearn_cli.datasets.layouts.classes import split_by_seed
from metalearn_cli.datasets.tabular import Division
from metalearn_cli.errors import DataError

Parts = dict[Part, list[str]]


def divided(
    groups: Sequence[str], part_of: Mapping[str, Part], division: Division, kind: str, where: str
) -> Parts:  # fmt: skip
    """The groups of each part, sorted by name if a seed divides them, else in their own order.

    `part_of` is the part of every group if a column names it, else empty. Messages call a group a `kind` ("class" or
    "task") of the table `where`.

    Raises DataError if both a column and names divide the groups, if a name is no group's, or if a part has no group.
    """
    named: dict[Part, tuple[str, ...]] = {"val": division.val, "test": division.test}
    if part_of:
        given = [key for key, names in named.items() if names]
        if given:
            raise DataError(
                f"dataset.{given[0]}: found names, but a column of the table says which {kind} is in which part; "
                "--set dataset.split=null to go by the names"
            )
        found: Parts = {part: [name for name in groups if part_of[name] == part] for part in PARTS}
    elif any(named.values()):
        found = _by_name(groups, named, kind)
    else:
        found = _by_seed(groups, division, kind, where)
    empty = [part for part in PARTS if not found[part]]
    if empty:
        raise DataError(f"{where}: no {kind} is for {' and '.join(empty)}; each part needs one or more")
    return found


def _by_name(groups: Sequence[str], named: Mapping[Part, Sequence[str]], kind: str) -> Parts:
    known, part_of = set(groups), dict[str, Part]()
    for part, names in named.items():
        for name in names:
            if name not in known:
                near = get_close_matches(name, groups, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise DataError(f"dataset.{part}: {name!r} is no {kind} of the table{hint}")
            if part_of.setdefault(name, part) != part:
                raise DataError(f"dataset.test: {kind} {name!r} is in dataset.val, too")
    return {part: [name for name in groups if part_of.get(name, "train") == part] for part in PARTS}


def _by_seed(groups: Sequence[str], division: Division, kind: str, where: str) -> Parts:
    if len(groups) < len(PARTS):
        plural = kind if len(groups) == 1 else "classes" if kind == "class" else "tasks"
        told = f"has {len(groups)} {plural}; {len(PARTS)} or more are needed, one each for train, val and test"
        raise DataError(f"{where}: {told}")
    parts = split_by_seed(groups, division.seed, division.val_fraction, division.test_fraction)
    # The checksum of a prepared table depends on this order, and checkpoints remember the checksum.
    return {"val": parts["val"], "test": parts["test"], "train": parts["train"]}
