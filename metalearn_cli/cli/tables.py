"""What people see: tables that fit 80 columns, plain lines where there is no terminal.

stdout holds results, stderr holds progress.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

from metalearn_cli.cli.progress import Moving, amount
from metalearn_cli.cli.signs import digits, sign
from metalearn_cli.errors import printable
from metalearn_cli.storage.runs import as_json

if TYPE_CHECKING:
    from metalearn_cli.omissions import Omission
    from metalearn_cli.runtime.evaluation import Step
    from metalearn_cli.runtime.sampling import TaskSpec
    from metalearn_cli.runtime.testing import Tested

SECONDS_BETWEEN_LINES = 30.0
_PLAIN_COLUMNS = 80
_MOST_ROWS = 21


class _Harmless(Console):
    """A console for which text is text: names with brackets or terminal escapes in them are shown as they are."""

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(printable(text), **how)


def console(stderr: bool) -> Console:
    """A console on stdout or stderr, where no line is folded that was not folded before.

    A stream that is no terminal has COLUMNS columns, or 80, however wide the terminal is that it was started from.
    """
    file = sys.stderr if stderr else sys.stdout
    plain = (
        None
        if file.isatty()
        else int(columns)
        if (columns := os.environ.get("COLUMNS", "")).isdigit()
        else _PLAIN_COLUMNS
    )
    return _Harmless(file=file, highlight=False, markup=False, emoji=False, soft_wrap=True, width=plain)


def plus_minus() -> str:
    """The sign, where stdout can write it."""
    return sign(console(stderr=False))


def print_json(fields: Mapping[str, Any]) -> None:
    """One JSON object on stdout; numbers that are not finite become null."""
    print(as_json({"schema": 1, **fields}))  # noqa: T201


def hint(text: str, quiet: bool) -> None:
    """The next command to type, on stderr."""
    if not quiet:
        console(stderr=True).print(f"next: {text}", style="dim")


def warn(text: str, above: Progress | None = None) -> None:
    """What a person should know though nothing failed, on stderr, also with --quiet; above a bar that moves there."""
    shown = console(stderr=True) if above is None or above.disable else above.console
    shown.print(f"warning: {text}")


def left_out(omissions: Iterable["Omission"], remarks: Iterable[str]) -> None:
    """What of the input was left out and why, a line for each kind, and remarks, on stderr, also with --quiet."""
    for omission in omissions:
        console(stderr=True).print(str(omission))
    for remark in remarks:
        warn(remark)


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


def title(tested: "Tested") -> str:
    """What `eval` measured, in two lines; that it is an ensemble, in a line above them."""
    learner, where = (tested.algorithm, tested.second_order), (tested.dataset, tested.part)
    told = protocol(learner, where, tested.spec, tested.accuracy, tested.episodes, tested.statistics)
    return f"{tested.label}, mean of their {tested.averaged}\n{told}" if tested.label else told


def named(path: Path, tested: "Tested") -> str:
    """What was measured by its path, and that it is an ensemble if it is one."""
    return f"{path} ({tested.label})" if tested.label else str(path)


def order(second_order: bool | None) -> str:
    """What follows the algorithm's name: which derivative its meta-gradient takes, if it has inner gradients at all."""
    return {True: ", second order", False: ", first order", None: ""}[second_order]


def steps_table(title: str, steps: Sequence["Step"], accuracy: bool) -> Table:
    """One row per inner step: accuracy in percent, or squared error with its median and diverged share.

    Of more than 20 steps it has steps 0, 1, 2, 5, 10, 20, 50, ... and the last.
    """
    table = Table(title=title, title_justify="left", title_style="bold")
    names = ["step", "accuracy %", f"{plus_minus()} 95 %", "loss"]
    for name in names if accuracy else ["step", "mse", f"{plus_minus()} 95 %", "median", "diverged %"]:
        table.add_column(name, justify="right")
    shown = [row for row in steps if len(steps) <= _MOST_ROWS or _is_shown(row.step) or row is steps[-1]]
    for row in shown:
        if accuracy:
            cells = [f"{100 * row.score:.2f}", f"{100 * row.ci95:.2f}", f"{row.loss:.4f}"]
        else:
            cells = [digits(row.score, 4), digits(row.ci95, 2), digits(row.median, 4), f"{100 * row.diverged:.1f}"]
        table.add_row(str(row.step), *cells)
    return table


def _is_shown(step: int) -> bool:
    return str(step).rstrip("0") in ("", "1", "2", "5")


def steps_fields(steps: Sequence["Step"], accuracy: bool) -> list[dict[str, float]]:
    """The same rows for JSON: accuracy as a fraction, or squared error with its median and diverged share."""
    if accuracy:
        return [{"step": row.step, "accuracy": row.score, "ci95": row.ci95, "loss": row.loss} for row in steps]
    names = ("step", "ci95", "loss", "median", "diverged")
    return [{"mse": row.score} | {name: getattr(row, name) for name in names} for row in steps]


@contextmanager
def loading(quiet: bool, what: str = "torch") -> Iterator[None]:
    """While the block imports `what`, which takes seconds for torch, a terminal says so; nothing of it stays."""
    terminal = console(stderr=True)
    if not _moves(terminal, quiet):
        yield
        return
    terminal.file.write(f"loading {what} ...")
    terminal.file.flush()
    try:
        yield
    finally:
        terminal.file.write("\r\x1b[K")
        terminal.file.flush()


@contextmanager
def bar(quiet: bool, interrupted: Callable[[], str] = str) -> Iterator[Progress]:
    """A progress bar on stderr, on a terminal that may be written over; nothing elsewhere."""
    terminal = console(stderr=True)
    terminal.quiet = quiet
    shown = _moves(terminal, quiet)
    # stdout is for the result, and rich's stand-in for it would not know its encoding.
    with Progress(
        Moving(terminal, interrupted), console=terminal, disable=not shown, refresh_per_second=4, transient=True,
        redirect_stdout=False,
    ) as progress:  # fmt: skip
        yield progress


def _moves(terminal: Console, quiet: bool) -> bool:
    """Whether there is a screen to draw on: no pipe, whatever FORCE_COLOR says, no dumb terminal, no NO_COLOR."""
    drawn = terminal.is_terminal and not terminal.is_dumb_terminal and not terminal.no_color
    return drawn and terminal.file.isatty() and not quiet


class Stages:
    """A storage.preparation.Progress: one bar, of the stage at hand, or a line now and then where no bar can be."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._label, self._task = "", TaskID(0)
        self._due = time.monotonic() + SECONDS_BETWEEN_LINES

    def __call__(self, label: str, done: int, total: int) -> None:
        """`done` of `total` at the stage called `label`."""
        if label != self._label:
            if self._label:
                self._progress.update(self._task, visible=False)
            self._label, self._task = label, self._progress.add_task(label, total=total)
        self._progress.update(self._task, completed=done, total=total)
        if self._progress.disable and time.monotonic() >= self._due:
            self._due = time.monotonic() + SECONDS_BETWEEN_LINES
            self._progress.console.print(f"{label} {amount(label, done, total)}".strip())
