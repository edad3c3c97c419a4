"""Report: one row of numbers that a run gives at each validation."""

from typing import NamedTuple

from metalearn_cli.runtime.run.evaluation import Step


class Report(NamedTuple):
    """One row of numbers: means of the training loss and score since the last report, and validation per inner step.

    `score`: the accuracy from 0 to 1, or for regression the mean squared error.
    `best`: whether this is the best validation so far.
    `tasks_per_second`: the speed of training, without validation.
    `seconds`: the time since this call of `train` began, validation included.
    `skipped`: the number of steps in the run that were left out because they were not finite.
    `cut_short`: the share of the last meta-batch's tasks in which negative curvature ended conjugate gradients early
        (only iMAML; None for others).

    >>> from metalearn_cli import load_experiment, train
    >>> experiment = load_experiment("quickstart", "outer.iterations=1", "eval.val_episodes=2")
    >>> report = next(train(experiment, "runs/report"))
    >>> report.iteration, [step.step for step in report.val]
    (1, [0, 1, 2, 3])
    """

    iteration: int
    loss: float
    score: float
    val: list[Step]
    best: bool
    tasks_per_second: float
    seconds: float
    skipped: int
    cut_short: float | None = None


def row(report: Report) -> dict[str, object]:
    """The Report as a dictionary for a line of metrics.jsonl."""
    return {**report._asdict(), "val": [step._asdict() for step in report.val]}


def scalars(report: Report) -> dict[str, float]:
    """The Report as named numbers for the sinks, such as "train/loss" and "val/step 1"."""
    val = {f"val/step {step.step}": step.score for step in report.val}
    cut = {} if report.cut_short is None else {"train/cut short": report.cut_short}
    return {
        "train/loss": report.loss,
        "train/score": report.score,
        "tasks per second": report.tasks_per_second,
    } | cut | val  # fmt: skip
