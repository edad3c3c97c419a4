"""What a run says of itself as it goes: one row of numbers at a time."""

from typing import NamedTuple

from metalearn_cli.runtime.run.evaluation import Step


class Report(NamedTuple):
    """One row of numbers: training loss and score since the last report, validation per inner step.

    `score` is what the objective reports (accuracy as a fraction, or mean squared error); `seconds` counts from
    the start of this process's share of the run, validation included, which `tasks_per_second` leaves out; `best`
    says whether this is the best validation so far; `skipped` steps of the run were left out as not finite;
    `cut_short` is the share of the last meta-batch's tasks whose conjugate gradients negative curvature ended early,
    None for any algorithm but iMAML.
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
    """A Report as a line of metrics.jsonl."""
    return {**report._asdict(), "val": [step._asdict() for step in report.val]}


def scalars(report: Report) -> dict[str, float]:
    """A Report as named numbers, for the sinks."""
    val = {f"val/step {step.step}": step.score for step in report.val}
    cut = {} if report.cut_short is None else {"train/cut short": report.cut_short}
    return {
        "train/loss": report.loss,
        "train/score": report.score,
        "tasks per second": report.tasks_per_second,
    } | cut | val  # fmt: skip
