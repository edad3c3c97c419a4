"""Which column of a file is what: as a person named them, or by the names that columns usually have."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import NamedTuple

from metalearn_cli.datasets.tabular import MOST_INPUTS, Kind, Roles
from metalearn_cli.errors import DataError
from metalearn_cli.storage.tabular.blocks import TableReader, column, shown

_MOST_NAMED = 8


class Layout(NamedTuple):
    """Columns by what they are for; "" and nothing where there is none."""

    kind: Kind
    label: str
    task: str
    targets: tuple[str, ...]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    split: str


def layout_of(reader: TableReader, roles: Roles) -> Layout:
    """The columns of a file by their roles.

    Raises DataError for a role whose column is not there, and for roles that make no kind of task.
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
    """The columns of numbers and of words to predict from."""
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
    """The numbers of a row in an array of this shape, or the channels of a series."""
    return tuple(f"x[{place}]" for place in range(shape[0]))


def require_column(reader: TableReader, key: str, name: str) -> None:
    """Raise DataError, with the `key` that named it, unless a file has the column."""
    if name not in reader.header:
        near = get_close_matches(name, reader.header, 1)
        hint = f"; did you mean {shown(near[0])}?" if near else f"; its columns: {_listed(reader.header)}"
        raise DataError(f"{reader.name}: has no {column(name)} ({key}){hint}")


def _usual(name: str, header: set[str]) -> str:
    return name if name in header else ""


def _usual_targets(reader: TableReader) -> tuple[str, ...]:
    own = [name for name in reader.header if name == "target" or (reader.shape and name.startswith("target["))]
    return tuple(own)


def _listed(header: Sequence[str]) -> str:
    more = f" and {len(header) - _MOST_NAMED:,} more" if len(header) > _MOST_NAMED else ""
    return ", ".join(shown(name)[1:-1] for name in header[:_MOST_NAMED]) + more
