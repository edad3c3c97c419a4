"""What people see: tables that fit 80 columns, plain lines where there is no terminal.

stdout holds results, stderr holds progress.
"""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from metalearn_cli.storage.runs import as_json

if TYPE_CHECKING:
    from metalearn_cli.runtime.evaluation import Step
    from metalearn_cli.runtime.reports import Report
    from metalearn_cli.runtime.sampling import TaskSpec


def console(stderr: bool) -> Console:
    """A console whose tables never fold words at 80 columns because nobody told it a width."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def plus_minus() -> str:
    """The sign, where stdout can write it."""
    return "±" if (sys.stdout.encoding or "").lower().startswith("utf") else "+/-"


def print_json(fields: Mapping[str, Any]) -> None:
    """One JSON object on stdout; numbers that are not finite become null."""
    print(as_json({"schema": 1, **fields}))  # noqa: T201


def hint(text: str, quiet: bool) -> None:
    """The next command to type, on stderr."""
    if not quiet:
        console(stderr=True).print(Text(f"next: {text}", style="dim"))


def warn(text: str) -> None:
    """What a person should know though nothing failed, on stderr, also with --quiet."""
    console(stderr=True).print(Text(f"warning: {text}"))


def protocol(
    learner: tuple[str, bool | None],
    where: tuple[str, str],
    spec: "TaskSpec",
    accuracy: bool,
    episodes: int,
    statistics: str,
) -> str:
    """What was measured, in two lines: an algorithm (name, second order?), where (dataset, part), and how."""
    (algorithm, second_order), (dataset, part) = learner, where
    size = f"{spec.ways}-way {spec.shots}-shot" if accuracy else f"{spec.shots}-shot"
    chance = f", chance {100 / spec.ways:.1f} %" if accuracy else ""
    return (
        f"{algorithm}{order(second_order)}: {dataset} {part}, {size}, {spec.queries} queries\n"
        f"{episodes} episodes, {statistics} statistics{chance}"
    )


def order(second_order: bool | None) -> str:
    """What follows the algorithm's name: which derivative its meta-gradient takes, if it has inner gradients at all."""
    return {True: ", second order", False: ", first order", None: ""}[second_order]


def steps_table(title: str, steps: Sequence["Step"], accuracy: bool) -> Table:
    """One row per inner step: accuracy in percent, or squared error with its median and diverged share."""
    table = Table(title=title, title_justify="left", title_style="bold")
    names = ["step", "accuracy %", f"{plus_minus()} 95 %", "loss"]
    for name in names if accuracy else ["step", "mse", f"{plus_minus()} 95 %", "median", "diverged %"]:
        table.add_column(name, justify="right")
    for row in steps:
        if accuracy:
            cells = [f"{100 * row.score:.2f}", f"{100 * row.ci95:.2f}", f"{row.loss:.4f}"]
        else:
            cells = [f"{row.score:.4g}", f"{row.ci95:.2g}", f"{row.median:.4g}", f"{100 * row.diverged:.1f}"]
        table.add_row(str(row.step), *cells)
    return table


def steps_fields(steps: Sequence["Step"], accuracy: bool) -> list[dict[str, float]]:
    """The same rows for JSON: accuracy as a fraction, or squared error with its median and diverged share."""
    if accuracy:
        return [{"step": row.step, "accuracy": row.score, "ci95": row.ci95, "loss": row.loss} for row in steps]
    names = ("step", "ci95", "loss", "median", "diverged")
    return [{"mse": row.score} | {name: getattr(row, name) for name in names} for row in steps]


class ReportLines:
    """One line per Report, in columns fixed at the start: header once, then a row whenever one is due."""

    def __init__(self, steps: int, accuracy: bool, first: int, iterations: int) -> None:
        self._shown = list(range(steps + 1)) if steps <= 3 else [0, 1, steps]
        self._accuracy = accuracy
        self._first = first
        self._iterations = iterations

    def header(self) -> str:
        """Two lines: what the columns are."""
        kind = "val accuracy %" if self._accuracy else "val mse"
        steps = "".join(f"{'step ' + str(step):>8}" for step in self._shown)
        first = f"{'':>10}{'':>9}  {kind} after"
        return f"{first}\n{'iteration':>10}{'loss':>9}{steps}{'95 %':>9}{'tasks/s':>9}{'left':>9}"

    def row(self, report: "Report") -> str:
        """One Report, aligned under the header; a star marks the best so far."""
        val = report.val
        scores = "".join(f"{self._number(val[step].score):>8}" for step in self._shown)
        remaining = (self._iterations - report.iteration) * report.seconds / (report.iteration - self._first)
        interval = plus_minus() + self._number(val[-1].ci95).strip()
        cells = f"{report.iteration:>10}{report.loss:>9.4f}{scores}{interval:>9}"
        return f"{cells}{report.tasks_per_second:>9.0f}{clock(remaining):>9}{' *' if report.best else ''}"

    def _number(self, score: float) -> str:
        return f"{100 * score:.1f}" if self._accuracy else f"{score:.3g}"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03."""
    if not math.isfinite(seconds):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


@contextmanager
def bar(quiet: bool) -> Iterator[Progress]:
    """A progress bar on stderr, on a terminal; nothing elsewhere."""
    terminal = console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeRemainingColumn(),
    )
    shown = terminal.is_terminal and not terminal.is_dumb_terminal and not quiet
    with Progress(*columns, console=terminal, disable=not shown, transient=True) as progress:
        yield progress


class Stages:
    """A storage.preparation.Progress that shows each label as a bar of its own."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, label: str, done: int, total: int) -> None:
        """`done` of `total` at the stage called `label`."""
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(label, total=total)
        self._progress.update(self._tasks[label], completed=done, total=total)
