"""The table that `train` prints: a row for each Report, under a header with units."""

import math
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

from metalearn_cli.cli.signs import clock, digits, sign

if TYPE_CHECKING:
    from metalearn_cli.runtime.run.evaluation import Step
    from metalearn_cli.runtime.run.protocol import Protocol
    from metalearn_cli.runtime.run.reports import Report


class Course(NamedTuple):
    """The facts that all rows of one run share: its first and last iteration, and the protocol of its validations."""

    first: int
    last: int
    measured: "Protocol"


class ReportRows:
    """The lines of the table, one Report after the other; the header comes again after each screenful.

    The columns are those that fit the window; they change only if its width changes.
    """

    def __init__(self, course: Course, console: Console) -> None:
        self._course, self._console = course, console
        self._width = self._since_header = 0

    def lines(self, report: "Report") -> str:
        """The Report's row, below the header where one is due; a star marks the best so far."""
        width = self._console.width
        scrolled = self._console.is_terminal and self._since_header >= self._console.height - 3
        due = width != self._width or scrolled
        self._width, self._since_header = width, 0 if due else self._since_header + 1
        cells = [(wide, cell) for _, wide, cell in self._columns(report)]
        row = "".join(f"{cell:>{wide}}" for wide, cell in cells) + (" *" if report.best else "")
        return f"{self._header(report)}\n{row}" if due else row

    def _header(self, report: "Report") -> str:
        columns = self._columns(report)
        before = sum(wide for name, wide, _ in columns if name in ("iteration", "loss"))
        measured = self._course.measured
        kind = f"{measured.part} accuracy %" if measured.accuracy else f"{measured.part} squared error"
        above = f"{'':>{before}}  {kind}, {measured.episodes} episodes"
        for note in (f", {measured.size}", "; * best so far", f"; {measured.statistics} statistics"):
            above += note if len(above + note) < self._width else ""
        return f"{above}\n{''.join(f'{name:>{wide}}' for name, wide, _ in columns)}"

    def _columns(self, report: "Report") -> list[tuple[str, int, str]]:
        """Name, width and cell of each column; the least important ones are left out until the others fit."""
        columns = self._all(report)
        # Columns are left out in this order: first the inner steps between the first and the last.
        between = [f"step {step}" for step in range(self._course.measured.inner_steps - 1, 0, -1)]
        for name in [*between, "left", "loss", "step 0", "tasks/s"]:
            # 2: the star behind the row of the best report.
            if sum(wide for _, wide, _ in columns) + 2 < self._width:
                break
            columns = [column for column in columns if column[0] != name]
        return columns

    def _all(self, report: "Report") -> list[tuple[str, int, str]]:
        course, val = self._course, report.val
        accuracy = course.measured.accuracy
        wide = 16 if accuracy else 20
        return [
            ("iteration", 9, str(report.iteration)),
            ("loss", 9, f"{report.loss:.4f}" if abs(report.loss) < 1000 else digits(report.loss, 3)),
            *((f"step {step.step}", 8, score_digits(step.score, accuracy)) for step in val[:-1]),
            (
                f"step {course.measured.inner_steps} {sign(self._console)} 95 %",
                wide,
                score_cell(val[-1], accuracy, self._console),
            ),
            ("tasks/s", 9, speed_cell(report.tasks_per_second)),
            ("left", 9, clock(left(course, report.iteration, report.seconds))),
        ]


def left(course: Course, iteration: int, seconds: float) -> float:
    """The seconds until the end of the run at its speed so far; NaN if no iteration was done in `seconds`."""
    done, remaining = iteration - course.first, course.last - iteration
    return remaining * seconds / done if done else math.nan if remaining else 0.0


def speed_cell(tasks_per_second: float) -> str:
    """The tasks per second as text; a dash if nothing was trained, as after a stop when only a report was missing."""
    return f"{tasks_per_second:,.0f}" if math.isfinite(tasks_per_second) else "-"


def score_digits(score: float, accuracy: bool) -> str:
    """A score as text: accuracy in percent, or squared error with three digits."""
    return f"{100 * score:.1f}" if accuracy else digits(score, 3)


def score_cell(step: "Step", accuracy: bool, console: Console) -> str:
    """A score with the half-width of its 95 % interval."""
    ci95 = f"{100 * step.ci95:.1f}" if accuracy else digits(step.ci95, 2)
    return f"{score_digits(step.score, accuracy)} {sign(console)} {ci95}"
