"""A person's own numbers: a table whose rows are examples, of classes or of many related tasks.

Which columns are named says what is learned: `label`, classes drawn for each task, as with pictures; `task` and
`label`, the same classes in every task, which may be a person or a machine; `task` and `target`, a regression for each.
"""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from metalearn_cli.datasets.tabular import ColumnName, Division, LengthFit, Missing, Roles, Standardise, Tabular
from metalearn_cli.settings import Choice

_ELSEWHERE = {"name", "small"}


class Config(Choice):
    """Rows of csv, tsv, parquet, npz or npy files.

    A column that is not named is taken if it has the name of its role: label, task, target, split.

    `title`: tells several tables apart.
    `label`: the column that says which class a row is of.
    `task`: the column that says which task a row is of: a person, a machine, a site.
    `target`: the columns to predict, in a regression for each task.
    `inputs`: the columns to predict from; none, all others.
    `categorical`: the inputs that are words or codes: each value of the training part becomes an input of 0 or 1, and
        one more stands for any other value.
    `split`: the column that says train, val or test, of whole classes or tasks; null, none does.
    `split_seed`: splits the classes, or the tasks, where nothing else does.
    `val_fraction` (fraction): the share of them that is for validation.
    `test_fraction` (fraction): the share that is for the test; the rest is for training.
    `val`: names the classes, or the tasks, for validation, instead of the seed.
    `test`: names those for the test in the same way.
    `missing`: an input that is empty is an "error", or has the "mean" of the training part.
    `standardise`: "training", inputs less their mean by their standard deviation, both of the training part; "task",
        then once more by those of each task's support set; "none", as they are. Targets are standardised by
        the training part in training, and are in their own unit wherever they are shown, but with "none".
    `length` (steps): what all series are brought to; null, they have one length already.
    `fit`: how: "resample" stretches a series to the length, "pad" cuts it or puts its mean behind it.
    `small`: a class or task with fewer rows than shots and queries is an "error", or is left out ("leave_out").
    """

    name: Literal["table"] = "table"
    title: str = Field(default="table")
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

    @field_validator("title")
    @classmethod
    def _can_name_a_folder(cls, title: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", title):
            raise ValueError(f"found {title!r}, expected letters, digits, '_' and '-'")
        return title

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
    """The table called `config.title`."""
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
