"""The display of `train` while it runs: rows that stay, and below them one moving line."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.progress import Progress

from metalearn_cli.cli.rows import Course, ReportRows, left, speed_cell
from metalearn_cli.cli.signs import clock, sparkline, writes_unicode

if TYPE_CHECKING:
    from metalearn_cli.runtime.run.reports import Report

_SPARKS = 20


class Live:
    """A training run on the screen: the caller calls `tick` after each iteration and `report` for each Report.

    `scores`: the validation scores of the reports before this process resumed the run. `validates(iteration)`: whether
    a validation follows that iteration. `tasks`: the number of tasks in an iteration.
    """

    def __init__(
        self, progress: Progress, course: Course, validates: Callable[[int], bool], tasks: int,
        scores: Sequence[float] = (),
    ) -> None:  # fmt: skip
        self._progress, self._course, self._validates, self._tasks = progress, course, validates, tasks
        self._rows = ReportRows(course, progress.console)
        self._scores = list(scores)
        self._started = self._ticked = time.monotonic()
        self._training = 0.0
        self._bar = progress.add_task("training", total=course.last, completed=course.first, notes=[])

    def tick(self, iteration: int) -> None:
        """Move the line to `iteration`, with the time left and the mean tasks per second so far."""
        now, done = time.monotonic(), max(1, iteration - self._course.first)
        self._training += now - self._ticked
        self._ticked = now
        remaining = left(self._course, iteration, now - self._started)
        speed = done * self._tasks / max(self._training, 1e-9)
        validates = self._validates(iteration) or iteration == self._course.last
        label = "validating" if validates else "training"
        notes = [f"{clock(remaining)} left", f"{speed_cell(speed)} tasks/s", *self._sparks()]
        self._progress.update(self._bar, description=label, completed=iteration, notes=notes)

    def report(self, report: "Report") -> None:
        """Print the row of a report."""
        self._scores.append(report.val[-1].score)
        self._progress.console.print(self._rows.lines(report))
        self._progress.update(self._bar, description="training")
        self._ticked = time.monotonic()  # the seconds of the validation do not count as training

    def at_the_end(self, label: str, done: int, total: int) -> None:
        """Move the line to `done` of `total` parts of the work after the last step."""
        self._progress.update(self._bar, description=label, completed=done, total=total, notes=[])

    def _sparks(self) -> list[str]:
        shown = sparkline(self._scores, _SPARKS, writes_unicode(self._progress.console))
        return [shown] if len(self._scores) > 1 else []
