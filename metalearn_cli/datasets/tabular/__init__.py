"""The description of a table of numbers: roles of columns, parts, and how a row becomes a network's input.

Legend: N rows, V raw values of a row, C channels and L steps of a series.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, StringConstraints

from metalearn_cli.nouns import ROW, SERIES, Noun
from metalearn_cli.settings import Settings, Size

Kind = Literal["classes", "labelled", "regression"]
"""The tasks of a table. "classes": each draws some of the classes; "labelled": the column `task` makes the tasks, and
all have the same classes; "regression": the column `task` makes the tasks, and the targets are values."""

Missing = Literal["error", "mean"]
Standardise = Literal["training", "task", "none"]
LengthFit = Literal["resample", "pad"]
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
MOST_INPUTS = 65_536


class Roles(NamedTuple):
    """The columns that a person named for each role ("" or () if none), and how cells become numbers."""

    label: str
    task: str
    target: tuple[str, ...]
    inputs: tuple[str, ...]
    categorical: tuple[str, ...]
    split: str
    missing: Missing
    length: int | None
    fit: LengthFit


class Division(NamedTuple):
    """The division of classes or tasks into parts if no column does it: by name, or else by a seed."""

    seed: int
    val_fraction: float
    test_fraction: float
    val: tuple[str, ...]
    test: tuple[str, ...]


Columns = Mapping[str, Sequence[str] | Sequence[float]]
"""A table in memory: the cells of each column, by its name."""


class Tabular(NamedTuple):
    """A dataset of rows. `store` is the name of the prepared folder; `settings` are those that change its bytes.

    `leave_out_small`: tasks and classes with too few rows are left out of training and tests instead of being an error.
    `made` (only `machines`): a function that generates the rows; it must always return the same.
    """

    store: str
    settings: Mapping[str, object]
    roles: Roles
    division: Division
    standardise: Standardise
    leave_out_small: bool
    made: Callable[[], Columns] | None = None


class Encoding(Settings):
    """The way from a row to a network's input, and from its output to a value. Tables and checkpoints store it.

    `numeric` are the columns of numbers, in order; for a `series` of shape [C, L] or [C, ...] they are its channels.
    Each becomes (value - mean) / std, and a missing value counts as `fill`. Behind them stand the columns of
    `categorical`: one input of 0 or 1 for each word of the training part, and one for all other words. `classes`
    (only kind "labelled") are the classes of every task. `targets` become (value - target_mean) / target_std.
    """

    kind: Kind
    label: str = ""
    task: str = ""
    numeric: list[ColumnName]
    mean: list[float]
    std: list[Annotated[float, Field(gt=0)]]
    fill: list[float]
    categorical: dict[ColumnName, list[str]] = Field(default={})
    series: list[Size] | None = None
    fit: LengthFit = "resample"
    missing: Missing = "error"
    standardise: Standardise = "training"
    classes: list[str] = Field(default=[])
    targets: list[ColumnName] = Field(default=[])
    target_mean: list[float] = Field(default=[])
    target_std: list[Annotated[float, Field(gt=0)]] = Field(default=[])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of a row as a network reads it: `series`, or (F,) with F inputs."""
        if self.series is not None:
            return tuple(self.series)
        return (len(self.numeric) + sum(len(values) + 1 for values in self.categorical.values()),)

    @property
    def noun(self) -> Noun:
        """The word for its rows."""
        return ROW if self.series is None else SERIES

    @property
    def groups(self) -> str:
        """The word for the groups of its rows that make up the parts of the table: classes or tasks."""
        return "classes" if self.kind == "classes" else "tasks"

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """The shape of a row before encoding: `series`, or (V,) with one value for each column."""
        return self.input_shape if self.series is not None else (len(self.numeric) + len(self.categorical),)

    @property
    def values(self) -> int:
        """The number of float32 values in a stored row: inputs and targets."""
        return math.prod(self.input_shape) + len(self.targets)

    def mistake(self) -> str:
        """The first contradiction between the fields, for a message; "" if there is none."""
        if not len(self.numeric) == len(self.mean) == len(self.std) == len(self.fill):
            return f"mean: found {len(self.mean)} numbers, but there are {len(self.numeric)} columns"
        if not len(self.targets) == len(self.target_mean) == len(self.target_std):
            return f"target_mean: found {len(self.target_mean)} numbers, but there are {len(self.targets)} targets"
        if self.series is not None and (not self.series or self.series[0] != len(self.numeric) or self.categorical):
            return f"series: found {self.series}, but there are {len(self.numeric)} channels"
        if (self.kind == "regression") != bool(self.targets) or (self.kind == "labelled") != bool(self.classes):
            return f"kind: found {self.kind!r}, which its targets and classes do not fit"
        if len(set(self.classes)) < len(self.classes):
            return "classes: found one twice, expected each once"
        if not 0 < math.prod(self.input_shape) <= MOST_INPUTS:
            return f"numeric: found {math.prod(self.input_shape)} inputs, expected 1 to {MOST_INPUTS:,}"
        return ""
