"""A person's own numbers: a table whose rows are examples of classes, or of many related tasks.

The columns that you name decide what is learned. `label`: each task draws some of the classes, as with pictures. `task`
and `label`: each person or machine is a task, and all have the same classes. `task` and `target`: each is a regression.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from metalearn_cli.datasets.tabular import ColumnName, Division, LengthFit, Missing, Roles, Standardise, Tabular
from metalearn_cli.settings import Choice, Title

_ELSEWHERE = {"name", "small"}


class Config(Choice):
    """Rows of csv, tsv, parquet, npz or npy files.

    A column called label, task, target or split has that role unless you name another.

    `title`: the name of this table, if you prepare several.
    `label`: the column with the class of each row.
    `task`: the column with the task of each row: a person, a machine, a site.
    `target`: the columns to predict, in a regression for each task.
    `inputs`: the columns to predict from; if empty, all columns without another role.
    `categorical`: the inputs that are words or codes: each value of the training part becomes an input of 0 or 1, and
        one more input stands for all other values.
    `split`: the column with train, val or test, the same for all rows of a class or task; null if there is none.
    `split_seed`: the seed that splits the classes, or the tasks, if neither a column nor names do.
    `val_fraction` (fraction): the share of the classes or tasks that is for validation.
    `test_fraction` (fraction): the share that is for the test; the rest is for training.
    `val`: names the classes, or the tasks, for validation, instead of the seed.
    `test`: names those for the test in the same way.
    `missing`: an empty input is an "error", or counts as the "mean" of the training part.
    `standardise`: "training": (input - mean) / standard deviation, both of the training part, and the same for targets;
        "task": inputs once more in this way, by each task's support set; "none": all values as they are. Errors and
        answers are always shown in the targets' own units.
    `length` (steps): the length to which all series are brought; null if they have one length already.
    `fit`: "resample" stretches a series to that length, "pad" cuts it or fills it with its mean.
    `small`: a class or task with fewer rows than shots and queries is an "error", or is left out ("leave_out").
    """

    name: Literal["table"] = "table"
    title: Title = Field(default="table")
    label: ColumnName | None = None
    task: ColumnName | None = None
    target: list[ColumnName] = Field(default=[])
    inputs: list[ColumnName] = Field(default=[])
    categorical: list[ColumnName] = Field(default=[])
    split: ColumnName | None = "split"
    split_seed: int = Field(default=0, ge=0, le=2**63 - 1)
    val_fraction: float = Field(default=0.2, gt=0, lt=1)
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    val: list[str] = Field(default=[])
    test: list[str] = Field(default=[])
    missing: Missing = "error"
    standardise: Standardise = "training"
    length: Annotated[int, Field(ge=2, le=65_536)] | None = None
    fit: LengthFit = "resample"
    small: Literal["error", "leave_out"] = "error"

    @model_validator(mode="after")
    def _one_role_each(self) -> "Config":
        if self.target and self.label:
            raise ValueError("found a label and a target, expected one of them: classes or values")
        named = [name for name in (self.label, self.task, *self.target, *self.inputs) if name is not None]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(
                f"found column {twice[0]!r} in two roles, expected each in one of label, task, target, inputs"
            )
        return self


def build(config: Config) -> Tabular:
    """The description of the table called `config.title`; no file is read."""
    return Tabular(
        store=f"table-{config.title}",
        settings=config.model_dump(mode="json", exclude=_ELSEWHERE),
        roles=Roles(
            config.label or "", config.task or "", tuple(config.target), inputs=tuple(config.inputs),
            categorical=tuple(config.categorical), split=config.split or "", missing=config.missing,
            length=config.length, fit=config.fit,
        ),
        division=Division(
            config.split_seed, config.val_fraction, config.test_fraction, tuple(config.val), tuple(config.test)
        ),
        standardise=config.standardise,
        leave_out_small=config.small == "leave_out",
    )  # fmt: skip
