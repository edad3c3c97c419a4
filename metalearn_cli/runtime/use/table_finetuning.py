"""Files of rows into support and query sets, and how far an adapted regressor's values are off.

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
from metalearn_cli.omissions import Omission
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.use.adaptation import Adaptable
from metalearn_cli.runtime.use.finetuning import Labelled
from metalearn_cli.runtime.use.given_rows import rebased
from metalearn_cli.runtime.use.regressor import Regressor
from metalearn_cli.storage.tabular.given import GivenRows, rows_given

Numbers = NDArray[np.float64]
_MOST_FOLDS = 200


class Valued(NamedTuple):
    """Rows as inputs [N, ...], the places where they stand, and targets [N, P] in their own units, NaN if unknown."""

    files: list[str]
    inputs: Tensor
    values: Numbers
    left_out: Sequence[Omission] = ()

    @property
    def known(self) -> NDArray[np.bool_]:
        """Of which rows all targets are known [N]."""
        found: NDArray[np.bool_] = np.all(np.isfinite(self.values), axis=1)
        return found


class Errors(NamedTuple):
    """Mean squared errors of N rows after 0..K inner steps, each target's [K + 1, P], in squared units.

    `variance` [P] is that of the known values, that of a guess which is their mean; `on` says what was judged.
    """

    on: str
    rows: int
    mse: Numbers
    variance: Numbers

    def explained(self, step: int) -> float | None:
        """The share of the variance that the values explain (R2), the mean over targets; None if there is none."""
        varies = self.variance > 0
        return float((1 - self.mse[step, varies] / self.variance[varies]).mean()) if varies.any() else None


def labelled_rows(paths: Sequence[Path], interface: Interface, support: bool, least: int = 2) -> Labelled:
    """Rows and their classes, as pictures have them; those of a support set all have one.

    Raises DataError if a support set has rows without a class, or of fewer than `least` classes.
    """
    encoding = _encoding(interface)
    found = rows_given(paths, encoding)
    if support:
        _require_one_task(paths[0], found)
        if None in found.labels:
            place = found.places[found.labels.index(None)]
            raise DataError(f"{place}: column {encoding.label!r} is empty or missing, expected the row's class")
        if len(classes := sorted({label for label in found.labels if label})) < least:
            listed = ", ".join(map(repr, classes))
            raise DataError(f"{paths[0]}: has rows of {len(classes)} class ({listed}), two or more are needed")
    return Labelled(found.places, _inputs(found, encoding), list(found.labels), found.left_out)


def valued_rows(paths: Sequence[Path], interface: Interface, support: bool) -> Valued:
    """Rows and their targets; those of a support set all have them. Raises DataError if they have not."""
    encoding = _encoding(interface)
    found = rows_given(paths, encoding)
    valued = Valued(found.places, _inputs(found, encoding), found.targets, found.left_out)
    if support:
        _require_one_task(paths[0], found)
        for row in np.flatnonzero(~valued.known)[:1]:
            listed = ", ".join(map(repr, encoding.targets))
            raise DataError(f"{found.places[row]}: column {listed} is empty or missing, expected the value to learn")
    return valued


def _inputs(found: GivenRows, encoding: Encoding) -> Tensor:
    """The rows as a network sees them. Raises DataError for a number that float32 cannot hold."""
    inputs = torch.from_numpy(encoded(found.raw, encoding))
    for row in np.flatnonzero(~inputs.flatten(1).isfinite().all(1).numpy())[:1]:
        raise DataError(f"{found.places[row]}: has a number that is far larger than those of the training part")
    return inputs


def _require_one_task(path: Path, found: GivenRows) -> None:
    if len(found.tasks) > 1:
        some = ", ".join(map(repr, sorted(found.tasks)[:3]))
        raise DataError(f"{path}: has rows of {len(found.tasks)} tasks ({some}, ...); give the rows of one to learn it")


def regressors(learner: Adaptable, support: Valued) -> list[Regressor]:
    """Regressors after 0..K inner steps on a support set."""
    targets = encoded_targets(support.values, _encoding(learner.interface))
    return learner.regressors(support.inputs, torch.from_numpy(targets))


def judged(
    steps: Sequence[Regressor], queries: Valued | None, learner: Adaptable | None, support: Valued | None
) -> Errors | None:
    """How far the values are off, on queries whose targets are known; without such, on support rows left out.

    A support set of one row is judged on itself. None if there is nothing to judge by.
    """
    if queries is not None and queries.known.any():
        known = queries.known
        inputs, values = queries.inputs[torch.from_numpy(known)], queries.values[known]
        return _errors("query", [one.values(inputs) for one in steps], values)
    if learner is None or support is None:
        return None
    if len(support.values) > 1:
        return _leaving_one_out(learner, support)
    own = rebased(support.inputs, learner.interface.table, steps[-1].interface.table)
    return _errors("support", [one.values(own) for one in steps], support.values)


def _leaving_one_out(learner: Adaptable, support: Valued) -> Errors:
    """The errors for rows by regressors that were adapted to all others; of more than 200, of 200 spread evenly."""
    count = len(support.values)
    places = [place * count // min(count, _MOST_FOLDS) for place in range(min(count, _MOST_FOLDS))]
    answers = []
    for place in places:
        rest = np.arange(count) != place
        fewer = support._replace(inputs=support.inputs[torch.from_numpy(rest)], values=support.values[rest])
        steps = regressors(learner, fewer)
        left = rebased(support.inputs[place : place + 1], learner.interface.table, steps[-1].interface.table)
        answers.append([one.values(left)[0] for one in steps])
    by_step = np.array(answers).swapaxes(0, 1)
    return _errors("support, leaving one out", list(by_step), support.values[places])


def _errors(on: str, answers: Sequence[NDArray[np.float32]], values: Numbers) -> Errors:
    mse = np.stack([np.square(one.astype(np.float64) - values).mean(0) for one in answers])
    return Errors(on, len(values), mse, values.var(0))


def finite_or_none(value: float | None) -> float | None:
    """A number for JSON."""
    return value if value is not None and math.isfinite(value) else None


def _encoding(interface: Interface) -> Encoding:
    assert interface.table is not None
    return interface.table
