"""Reads files of rows as support and query sets, and measures the errors of adapted regressors.

Legend: N rows, P targets, K inner steps.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metalearn_cli.datasets.tabular import Encoding
from metalearn_cli.datasets.tabular.encoding import encoded, encoded_targets
from metalearn_cli.errors import DataError
from metalearn_cli.nouns import Noun
from metalearn_cli.omissions import Omission
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.use.adaptation import Adaptable
from metalearn_cli.runtime.use.finetuning import Labelled
from metalearn_cli.runtime.use.folds import MOST_FOLDS
from metalearn_cli.runtime.use.given_rows import rebased
from metalearn_cli.runtime.use.regressor import Regressor
from metalearn_cli.storage.tabular.given import GivenRows, rows_given

Numbers = NDArray[np.float64]


class Valued(NamedTuple):
    """Rows as inputs [N, ...], their places for messages, and targets [N, P] in their own units, NaN if unknown."""

    files: list[str]
    inputs: Tensor
    values: Numbers
    left_out: Sequence[Omission] = ()

    @property
    def known(self) -> NDArray[np.bool_]:
        """A mask [N] that is true for rows whose targets are all known."""
        complete: NDArray[np.bool_] = np.all(np.isfinite(self.values), axis=1)
        return complete


class Errors(NamedTuple):
    """Mean squared errors of N rows for each target after 0..K inner steps, [K + 1, P], in the targets' squared units.

    `variance` [P] is the variance of the true values, which is the error of guessing their mean. `on` names the rows:
    "query", "support, leaving one out" or "support".
    """

    on: str
    rows: int
    mse: Numbers
    variance: Numbers

    def explained(self, step: int) -> float | None:
        """R2 = 1 - mse / variance, the mean over targets that vary; None if none does."""
        varies = self.variance > 0
        return float((1 - self.mse[step, varies] / self.variance[varies]).mean()) if varies.any() else None


def labelled_rows(paths: Sequence[Path], interface: Interface, support: bool, least: int = 2) -> Labelled:
    """Rows of files as a support set or as queries; the class of a query may be unknown.

    Raises DataError if a support set has a row without a class, rows of several tasks, or fewer than `least` classes.
    """
    encoding = interface.encoding
    rows = rows_given(paths, encoding)
    if support:
        _require_one_task(paths[0], rows, encoding.noun)
        if None in rows.labels:
            place = rows.places[rows.labels.index(None)]
            raise DataError(f"{place}: column {encoding.label!r} is empty or missing, expected its class")
        if len(classes := sorted({label for label in rows.labels if label})) < least:
            listed = ", ".join(map(repr, classes))
            raise DataError(
                f"{paths[0]}: has {encoding.noun.many} of {len(classes)} class ({listed}), two or more are needed"
            )
    return Labelled(rows.places, _inputs(rows, encoding), list(rows.labels), rows.left_out)


def valued_rows(paths: Sequence[Path], interface: Interface, support: bool) -> Valued:
    """Rows of files and their targets; a query's may be unknown.

    Raises DataError if a support set has a row without a target, or rows of several tasks.
    """
    encoding = interface.encoding
    rows = rows_given(paths, encoding)
    valued = Valued(rows.places, _inputs(rows, encoding), rows.targets, rows.left_out)
    if support:
        _require_one_task(paths[0], rows, encoding.noun)
        for row in np.flatnonzero(~valued.known)[:1]:
            listed = ", ".join(map(repr, encoding.targets))
            raise DataError(f"{rows.places[row]}: column {listed} is empty or missing, expected the value to learn")
    return valued


def _inputs(rows: GivenRows, encoding: Encoding) -> Tensor:
    """Rows encoded as inputs [N, ...]. Raises DataError, with the place, for a number beyond float32."""
    inputs = torch.from_numpy(encoded(rows.raw, encoding))
    for row in np.flatnonzero(~inputs.flatten(1).isfinite().all(1).numpy())[:1]:
        raise DataError(f"{rows.places[row]}: has a number that is far larger than those of the training part")
    return inputs


def _require_one_task(path: Path, rows: GivenRows, noun: Noun) -> None:
    if len(rows.tasks) > 1:
        some = ", ".join(map(repr, sorted(rows.tasks)[:3]))
        raise DataError(
            f"{path}: has {noun.many} of {len(rows.tasks)} tasks ({some}, ...); give the {noun.many} of one to learn it"
        )


def regressors(learner: Adaptable, support: Valued) -> list[Regressor]:
    """The regressors after 0..K inner steps on a support set."""
    targets = encoded_targets(support.values, learner.interface.encoding)
    return learner.regressors(support.inputs, torch.from_numpy(targets))


def judged(
    steps: Sequence[Regressor], queries: Valued | None, learner: Adaptable | None, support: Valued | None
) -> Errors | None:
    """The errors on queries with known targets; if there are none, on support rows that are left out one at a time.

    A support set of one row is judged on itself. None if there are no known queries and no support set.
    """
    if queries is not None and queries.known.any():
        known = queries.known
        inputs, values = queries.inputs[torch.from_numpy(known)], queries.values[known]
        return _errors("query", [regressor.values(inputs) for regressor in steps], values)
    if learner is None or support is None:
        return None
    if len(support.values) > 1:
        return _leaving_one_out(learner, support)
    own = rebased(support.inputs, learner.interface.table, steps[-1].interface.table)
    return _errors("support", [regressor.values(own) for regressor in steps], support.values)


def _leaving_one_out(learner: Adaptable, support: Valued) -> Errors:
    """The errors on up to 200 rows, evenly spread, each by regressors that were adapted to all other rows."""
    count = len(support.values)
    places = [place * count // min(count, MOST_FOLDS) for place in range(min(count, MOST_FOLDS))]
    answers = []
    for place in places:
        rest = np.arange(count) != place
        fewer = support._replace(inputs=support.inputs[torch.from_numpy(rest)], values=support.values[rest])
        steps = regressors(learner, fewer)
        left = rebased(support.inputs[place : place + 1], learner.interface.table, steps[-1].interface.table)
        answers.append([regressor.values(left)[0] for regressor in steps])
    by_step = np.array(answers).swapaxes(0, 1)  # [N, K + 1, P] -> [K + 1, N, P]
    return _errors("support, leaving one out", list(by_step), support.values[places])


def _errors(on: str, answers: Sequence[NDArray[np.float32]], values: Numbers) -> Errors:
    mse = np.stack([np.square(of_step.astype(np.float64) - values).mean(0) for of_step in answers])
    return Errors(on, len(values), mse, values.var(0))


def finite_or_none(value: float | None) -> float | None:
    """A number for JSON, which has no NaN and no Infinity."""
    return value if value is not None and math.isfinite(value) else None
