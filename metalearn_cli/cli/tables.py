"""Output for people: tables that fit 80 columns; plain lines if stdout is no terminal.

stdout holds results, stderr holds progress.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

from metalearn_cli.cli.heartbeat import beating, state_of
from metalearn_cli.cli.progress import Moving
from metalearn_cli.cli.signs import decimals, digits, sign
from metalearn_cli.errors import printable
from metalearn_cli.storage.runs.run_folder import as_json

if TYPE_CHECKING:
    from metalearn_cli.omissions import Omission
    from metalearn_cli.runtime.run.evaluation import Step
    from metalearn_cli.runtime.run.protocol import Protocol
    from metalearn_cli.runtime.use.measurement import Result

Row = TypeVar("Row")

_PLAIN_COLUMNS = 80  # of a pipe or a file
_MOST_ROWS = 21  # inner steps 0 to 20


class _Harmless(Console):
    """A console that prints all text literally: brackets are no markup, and terminal escapes in names do nothing.

    `printed` is the `time.monotonic` of the last line that any of these consoles printed.
    """

    printed = 0.0

    def print(self, *objects: Any, **how: Any) -> None:
        super().print(*objects, **how)
        _Harmless.printed = time.monotonic()

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(printable(text), **how)


def console(stderr: bool) -> Console:
    """A console on stdout or stderr that never breaks a line.

    A pipe or a file has COLUMNS columns, or 80, so that logs do not depend on the width of somebody's window.
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
    """The plus-minus sign, or "+/-" if stdout writes only ASCII."""
    return sign(console(stderr=False))


def print_json(fields: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout; numbers that are not finite become null."""
    print(as_json({"schema": 1, **fields}))  # noqa: T201


def hint(text: str, quiet: bool) -> None:
    """Print the next command to type, on stderr, unless `quiet`."""
    if not quiet:
        console(stderr=True).print(f"next: {text}", style="dim")


def warn(text: str, above: Progress | None = None) -> None:
    """Print a warning on stderr, also with --quiet; above the moving bar if there is one."""
    shown = console(stderr=True) if above is None or above.disable else above.console
    shown.print(f"warning: {text}")


def left_out(omissions: Iterable["Omission"], remarks: Iterable[str]) -> None:
    """Print what was left out of the input and why, a line for each kind, and remarks; on stderr, also with --quiet."""
    for omission in omissions:
        console(stderr=True).print(str(omission))
    for remark in remarks:
        warn(remark)


def headed(algorithm: str, second_order: bool | None, protocol: "Protocol") -> str:
    """Two lines above a table: the measured tasks, and the protocol."""
    return f"{algorithm}{order(second_order)}: {protocol.tasks}\n{protocol.how}"


def measurement_title(tested: "Result") -> str:
    """The two lines above the table of `eval`; for an ensemble, with a line on its members before them."""
    told = headed(tested.algorithm, tested.second_order, tested.protocol)
    return f"{tested.label}, mean of their {tested.averaged}\n{told}" if tested.label else told


def named(path: Path, tested: "Result") -> str:
    """The path of a checkpoint; for an ensemble followed by its label."""
    return f"{path} ({tested.label})" if tested.label else str(path)


def order(second_order: bool | None) -> str:
    """The order of an algorithm's meta-gradient, as text behind its name; "" if it has no inner gradients (None)."""
    return {True: ", second order", False: ", first order", None: ""}[second_order]


def steps_table(title: str, steps: Sequence["Step"], accuracy: bool, explained: Sequence[float] = ()) -> Table:
    """One row per inner step: accuracy in percent, or squared error with its median, R2 and diverged share.

    If there are more than 20 steps, only steps 0, 1, 2, 5, 10, 20, 50, ... and the last have a row.
    """
    table = Table(title=title, title_justify="left", title_style="bold")
    names = ["step", "accuracy %", f"{plus_minus()} 95 %", "loss"]
    shares = ["R2"] if explained else []
    for name in names if accuracy else ["step", "mse", f"{plus_minus()} 95 %", "median", *shares, "diverged %"]:
        table.add_column(name, justify="right")
    for row in shown_steps(steps, lambda row: row.step):
        if accuracy:
            cells = [f"{100 * row.score:.2f}", f"{100 * row.ci95:.2f}", decimals(row.loss, 4)]
        else:
            cells = [digits(row.score, 4), digits(row.ci95, 2), digits(row.median, 4)]
            cells += [*(f"{explained[row.step]:.3f}" for _ in shares), f"{100 * row.diverged:.1f}"]
        table.add_row(str(row.step), *cells)
    return table


def shown_steps(rows: Sequence[Row], step: Callable[[Row], int]) -> list[Row]:
    """The rows that a table shows: up to 21 rows all of them, else steps 0, 1, 2, 5, 10, 20, 50, ... and the last."""
    if len(rows) <= _MOST_ROWS:
        return list(rows)
    return [row for row in rows if str(step(row)).rstrip("0") in ("", "1", "2", "5") or row is rows[-1]]


def steps_fields(steps: Sequence["Step"], accuracy: bool, explained: Sequence[float] = ()) -> list[dict[str, float]]:
    """The rows of `steps_table` for JSON: accuracy as a fraction, or squared error with median and diverged share."""
    if accuracy:
        return [{"step": row.step, "accuracy": row.score, "ci95": row.ci95, "loss": row.loss} for row in steps]
    names = ("step", "ci95", "loss", "median", "diverged")
    rows = [{"mse": row.score} | {name: getattr(row, name) for name in names} for row in steps]
    return [row | {"explained": share} for row, share in zip(rows, explained, strict=True)] if explained else rows


@contextmanager
def loading(quiet: bool, what: str = "torch") -> Iterator[None]:
    """While the block imports `what` (torch takes seconds), a terminal shows a line, which is deleted afterwards.

    Without a terminal a line is printed if the import takes very long.
    """
    terminal = console(stderr=True)
    if not _moves(terminal, quiet):
        with _heard(quiet, lambda: f"loading {what}"):
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
    """A progress bar on stderr if it is a terminal that can be overwritten; otherwise a line every half minute."""
    terminal = console(stderr=True)
    terminal.quiet = quiet
    shown = _moves(terminal, quiet)
    # stdout is for the result, and rich's stand-in for it would not know its encoding.
    progress = Progress(
        Moving(terminal, interrupted), console=terminal, disable=not shown, refresh_per_second=4, transient=True,
        redirect_stdout=False,
    )  # fmt: skip
    with progress, nullcontext() if shown else _heard(quiet, lambda: state_of(progress)):
        yield progress


@contextmanager
def _heard(quiet: bool, line: Callable[[], str]) -> Iterator[None]:
    """While the block runs, print `line()` after each half minute of silence, unless `quiet`."""
    with nullcontext() if quiet else beating(lambda: _Harmless.printed, line, console(stderr=True).print):
        yield


def _moves(terminal: Console, quiet: bool) -> bool:
    """Whether a moving bar can be drawn: a real terminal, not TERM=dumb, and without NO_COLOR."""
    drawn = terminal.is_terminal and not terminal.is_dumb_terminal and not terminal.no_color
    return drawn and terminal.file.isatty() and not quiet


class Stages:
    """A storage.inputs.downloads.Progress that shows one bar, for the current stage."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._label, self._task = "", TaskID(0)

    def __call__(self, label: str, done: int, total: int) -> None:
        """Show that `done` of `total` is done at the stage `label`."""
        if label != self._label:
            if self._label:
                self._progress.update(self._task, visible=False)
            self._label, self._task = label, self._progress.add_task(label, total=total)
        self._progress.update(self._task, completed=done, total=total)
