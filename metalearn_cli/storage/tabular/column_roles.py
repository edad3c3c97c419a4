"""Assigns a role to each column of a table: the role that a person named, or the one that the column's name tells."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import NamedTuple

from metalearn_cli.datasets.tabular import MOST_INPUTS, Kind, Roles
from metalearn_cli.errors import DataError
from metalearn_cli.storage.tabular.blocks import TableReader, column, shown

_MOST_NAMED = 8  # columns that a message lists


class Layout(NamedTuple):
    """The columns of a table by role; a role without a column is "" or ()."""

    kind: Kind
    label: str
    task: str
    targets: tuple[str, ...]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    split: str


def layout_of(reader: TableReader, roles: Roles) -> Layout:
    """The roles of the columns of a file, from the `roles` that a person named and the names of the others.

    Raises DataError if a named column does not exist, or if the roles do not make a kind of task.
    """
    header = set(reader.header)
    targets = roles.target or (() if roles.label else _usual_targets(reader))
    label = roles.label or ("" if roles.target else _usual("label", header))
    task = roles.task or _usual("task", header)
    if label and targets and not roles.target:
        raise DataError(
            f"{reader.name}: has both a label and a target; say which is learned: --set dataset.label={label} or "
            f"--set dataset.target=[{targets[0]}]"
        )
    split = roles.split if roles.split in header else ""
    for key, name in [("label", label), ("task", task), *(("target", name) for name in targets)]:
        if name:
            require_column(reader, f"dataset.{key}", name)
    kind: Kind = "regression" if targets else "labelled" if task else "classes"
    if not label and not targets:
        raise DataError(
            f"{reader.name}: no column is named as the label or the target; give --set dataset.label=COLUMN, or "
            f"--set dataset.task=COLUMN --set dataset.target=[COLUMN]; its columns: {_listed(reader.header)}"
        )
    if targets and not task:
        raise DataError(
            f"{reader.name}: a regression needs a column that says which task a row is of; give --set "
            f"dataset.task=COLUMN; its columns: {_listed(reader.header)}"
        )
    used = {label, task, split, *targets}
    numbers, words = _inputs(reader, roles, used)
    return Layout(kind, label, task, targets, numbers, categorical=words, split=split)


def _inputs(reader: TableReader, roles: Roles, used: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The numeric and the categorical columns to predict from, each in the order of the file."""
    if reader.shape is not None:
        for key, given in (("inputs", roles.inputs), ("categorical", roles.categorical)):
            if given:
                raise DataError(f"dataset.{key}: has no meaning for arrays ({reader.name}), whose inputs are x")
        return series_names(reader.shape), ()
    for key, names in (("inputs", roles.inputs), ("categorical", roles.categorical)):
        for name in names:
            require_column(reader, f"dataset.{key}", name)
            if name in used:
                raise DataError(
                    f"dataset.{key}: {column(name)} is the label, the task, the target or the split already"
                )
    named = [name for name in reader.header if name not in used and (not roles.inputs or name in roles.inputs)]
    loose = sorted(set(roles.categorical) - set(named))
    if loose:
        raise DataError(f"dataset.categorical: {column(loose[0])} is not among dataset.inputs")
    if not named:
        raise DataError(f"{reader.name}: no column is left to predict from")
    if len(named) > MOST_INPUTS:
        raise DataError(f"{reader.name}: has {len(named):,} inputs, expected at most {MOST_INPUTS:,}")
    return tuple(n for n in named if n not in roles.categorical), tuple(n for n in named if n in roles.categorical)


def series_names(shape: Sequence[int]) -> tuple[str, ...]:
    """Names for the columns of an array x, for the `shape` (V,) of a row or (C, L) of a series: x[0], x[1], ..."""
    return tuple(f"x[{place}]" for place in range(shape[0]))


def require_column(reader: TableReader, key: str, name: str) -> None:
    """Raise DataError, with the setting `key` that named the column, if the file does not have it."""
    if name not in reader.header:
        near = get_close_matches(name, reader.header, 1)
        hint = f"; did you mean {shown(near[0])}?" if near else f"; its columns: {_listed(reader.header)}"
        raise DataError(f"{reader.name}: has no {column(name)} ({key}){hint}")


def _usual(name: str, header: set[str]) -> str:
    return name if name in header else ""


def _usual_targets(reader: TableReader) -> tuple[str, ...]:
    # target[0], target[1], ... stand for an array `target` [N, targets]; a csv file may have such a name by chance.
    return tuple(name for name in reader.header if name == "target" or (reader.shape and name.startswith("target[")))


def _listed(header: Sequence[str]) -> str:
    more = f" and {len(header) - _MOST_NAMED:,} more" if len(header) > _MOST_NAMED else ""
    return ", ".join(shown(name)[1:-1] for name in header[:_MOST_NAMED]) + more
