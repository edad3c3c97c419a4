"""What a table of numbers is: which column is what, who is in which part, and how a row becomes a network's input.

Legend: N rows, V values of a row, C channels and L steps of a series.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, StringConstraints

from metalearn_cli.settings import Settings, Size

Kind = Literal["classes", "labelled", "regression"]
"""Which tasks a table gives: classes drawn for each; the same classes in each; values to predict."""

Missing = Literal["error", "mean"]
Standardise = Literal["training", "task", "none"]
LengthFit = Literal["resample", "pad"]
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
MOST_INPUTS = 65_536


class Roles(NamedTuple):
    """The columns that a person named, "" and nothing where they named none."""

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
    """How classes or tasks are shared out where no column says it: by a seed, or by name."""

    seed: int
    val_fraction: float
    test_fraction: float
    val: tuple[str, ...]
    test: tuple[str, ...]


Columns = Mapping[str, Sequence[str] | Sequence[float]]
"""A table in memory: the cells of each column."""


class Tabular(NamedTuple):
    """A dataset of rows. `store` names the prepared folder, `settings` are what its bytes depend on.

    `leave_out_small`: tasks and classes with too few rows are left out of training and tests instead of being an error.
    `made`, if a program makes the rows: what gives them, always the same.
    """

    store: str
    settings: Mapping[str, object]
    roles: Roles
    division: Division
    standardise: Standardise
    leave_out_small: bool
    made: Callable[[], Columns] | None = None


class Encoding(Settings):
    """How a row becomes a network's input and a network's output a value; stored with data and every checkpoint.

    `numeric` are the columns of numbers, in order, or with a `series` shape [C, L] or [C, ...] the channels of it.
    Each becomes (value - mean) / std, a missing one having the value `fill`. After them comes each column of
    `categorical`, as 0 or 1 for each value of the training part and one more for any other. `classes` are those of
    every task, where they are the same in all. `targets` become (value - target_mean) / target_std.
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
        """The shape of a row as a network sees it."""
        if self.series is not None:
            return tuple(self.series)
        return (len(self.numeric) + sum(len(values) + 1 for values in self.categorical.values()),)

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """The shape of a row before that: a column each."""
        return self.input_shape if self.series is not None else (len(self.numeric) + len(self.categorical),)

    @property
    def values(self) -> int:
        """How many numbers a stored row has."""
        return math.prod(self.input_shape) + len(self.targets)

    def mistake(self) -> str:
        """What cannot be true of it, or nothing."""
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
