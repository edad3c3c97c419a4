"""A progress line for terminals of any width: the current work, the amount done, the speed, and the time left."""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.progress import ProgressColumn, Task
from rich.text import Text

from metalearn_cli.cli.signs import clock, writes_unicode
from metalearn_cli.errors import printable

_MEGA = 1_000_000


def meter(done: float, total: float, width: int, unicode: bool) -> str:
    """A bar of `width` characters, filled in proportion to `done` / `total`."""
    filled = round(width * min(1.0, done / total)) if total else 0
    full, empty = "━─" if unicode else "#-"
    return full * filled + empty * (width - filled)


def moving_line(label: str, done: float, total: float, notes: Sequence[str], width: int, unicode: bool = True) -> str:
    """The label, a meter, the amount done, and the notes. If `width` is too small, the last notes are left out first.

    The meter is left out before the first note, which is the time left.
    """
    counted = amount(label, done, total)
    for kept in range(len(notes), -1, -1):
        for size in (24, 12, 0) if kept < 2 else (24, 12):
            parts = [label, meter(done, total, size, unicode) if counted else "", counted]
            line = "  ".join([" ".join(part for part in parts if part), *notes[:kept]])
            if len(line) <= width:
                return line
    return f"{label} {counted}".strip()[:width]


def amount(label: str, done: float, total: float) -> str:
    """The amount done: "12/40", in MB for a download or a check; empty if it cannot be counted."""
    if total <= 1:
        return ""
    if label.startswith(("downloading", "checking")):
        return f"{done / _MEGA:,.1f}/{total / _MEGA:,.1f} MB"
    return f"{done:,.0f}/{total:,.0f}"


class Moving(ProgressColumn):
    """A column of rich that shows a task as `moving_line`, with the task's field `notes`, or else the time left.

    At every refresh, `interrupted()` may return a label that replaces that of the task.
    """

    def __init__(self, console: Console, interrupted: Callable[[], str] = str) -> None:
        super().__init__()
        self._console = console
        self._interrupted = interrupted

    def render(self, task: Task) -> Text:
        """The line, as wide as the terminal is now, less the last column, where some terminals would wrap."""
        left = task.time_remaining
        notes = task.fields.get("notes", [] if left is None else [f"{clock(left)} left"])
        label = printable(self._interrupted() or task.description)
        width, unicode = self._console.width - 1, writes_unicode(self._console)
        line = moving_line(label, task.completed, task.total or 0, notes, width, unicode=unicode)
        return Text(line, no_wrap=True, overflow="crop")
