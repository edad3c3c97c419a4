"""Handles steps with NaN or Inf: finds the tasks that cause them, and makes the error that ends the run."""

from collections.abc import Sequence

import torch
from torch import Tensor

from metalearn_cli.core.meta import Meta, Scores
from metalearn_cli.core.tasks import Task, count, tasks_between
from metalearn_cli.errors import DivergedError, some_of
from metalearn_cli.experiment import Experiment
from metalearn_cli.runtime.machine.execution import OfTasks
from metalearn_cli.runtime.run.outer_step import leaves
from metalearn_cli.storage.runs.run_folder import RunFolder

MOST_IN_A_ROW = 100
"""With `on_nonfinite: skip`, so many skipped steps in a row end the run, because it no longer learns anything."""

_SHOWN = 10  # task numbers in a message


def finite(*tensors: Tensor) -> Tensor:
    """Whether all numbers in all tensors are finite: one bool tensor on their device (reading it waits for a GPU)."""
    return torch.stack([value.isfinite().all() for value in tensors]).all()


def culprits(
    meta_gradient: OfTasks[tuple[Meta, Scores]], meta: Meta, tasks: Task, numbers: Sequence[int], query: Scores
) -> list[int]:
    """The numbers of the tasks whose loss or gradient is not finite.

    If all losses are finite, each task's gradient is computed once more alone, because the sum hides the culprit.
    """
    found = [number for number, loss in zip(numbers, query.loss.tolist(), strict=True) if not abs(loss) < float("inf")]
    if found:
        return found
    alone = (meta_gradient(meta, tasks_between(tasks, i, i + 1))[0] for i in range(count(tasks)))
    return [number for number, own in zip(numbers, alone, strict=True) if not finite(*leaves(own).values())]


def of(numbers: Sequence[int]) -> str:
    """Suffix for a message: " of task 3", " of tasks 1, 2", or "" if no task alone is the cause."""
    if not numbers:
        return ""
    return f" of task{'s' if len(numbers) > 1 else ''} {some_of(list(map(str, numbers)), _SHOWN)}"


def diverged(
    experiment: Experiment, folder: RunFolder, iteration: int, what: str, numbers: Sequence[int] = ()
) -> DivergedError:
    """The error that ends a run: it names the iteration, the tasks, the kept checkpoint, and settings to try."""
    kept = f"the last good checkpoint is {folder.last}" if folder.last.exists() else "no checkpoint was written yet"
    skipping = experiment.outer.on_nonfinite == "skip"
    row = f" for {MOST_IN_A_ROW} steps in a row" if skipping and what != "learner" else ""
    return DivergedError(
        f"iteration {iteration}: the {what}{of(numbers)} is not finite{row}; {kept}; try {_cures(experiment, what)}"
    )


def _cures(experiment: Experiment, what: str) -> str:
    """The settings to try, without those that the experiment already has."""
    outer = experiment.outer
    rates = [name for name in ("inner_lr",) if getattr(experiment.algorithm, name, None) is not None]
    cures = [f"a smaller {' or '.join([*(f'algorithm.{name}' for name in rates), 'outer.lr'])}"]
    cures += ["outer.clip_norm=10" if outer.clip_norm is None else f"outer.clip_norm below {outer.clip_norm:g}"]
    if outer.on_nonfinite == "stop" and what != "learner":  # skipping does not repair meta-parameters that are NaN
        cures.append("outer.on_nonfinite=skip")
    return f"{', '.join(cures[:-1])} or {cures[-1]}"


def adaptation_diverged(step: int, what: str) -> DivergedError:
    """The error for an adaptation that went wrong at an inner step."""
    if step == 0:
        return DivergedError(f"before the first inner step the {what} are not finite; take another checkpoint")
    fewer = f", or eval.inner_steps={step - 1}" if step > 1 else ""
    return DivergedError(
        f"inner step {step}: the {what} of the adapted learner are not finite; try a smaller algorithm.inner_lr{fewer}"
    )
