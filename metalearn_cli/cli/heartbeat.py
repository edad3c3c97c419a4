"""Prints progress into a log file or a pipe, which cannot show a moving bar: a line at least every half minute."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import Progress

from metalearn_cli.cli.progress import amount
from metalearn_cli.cli.signs import clock

SECONDS_BETWEEN_LINES = 30.0
_SECONDS_FOR_A_LINE = 1.0  # a line begins so long before the half minute is over


@contextmanager
def beating(silent_since: Callable[[], float], line: Callable[[], str], say: Callable[[str], None]) -> Iterator[None]:
    """While the block runs, a thread calls `say(line())` after half a minute of silence, unless the line is empty.

    It is a thread because the work may be one call that takes minutes. `silent_since()` is the `time.monotonic` of the
    last line.
    """
    ended, entered = threading.Event(), time.monotonic()

    def due() -> float:
        return (
            max(entered, silent_since()) + SECONDS_BETWEEN_LINES - min(_SECONDS_FOR_A_LINE, SECONDS_BETWEEN_LINES / 2)
        )

    def beat() -> None:
        while not ended.wait(max(due() - time.monotonic(), 0.01)):
            if time.monotonic() >= due() and (told := line()):
                say(told)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def state_of(progress: Progress) -> str:
    """A line on the current task: its name, its progress, and the time left, or else the time since it began."""
    shown = [task for task in progress.tasks if task.visible]
    if not shown:
        return ""
    task = shown[-1]
    notes = [note for note in task.fields.get("notes", []) if note][:2] or [f"{clock(task.elapsed or 0)} so far"]
    counted = amount(task.description, task.completed, task.total or 0)
    return ", ".join([f"{task.description} {counted}".strip(), *notes])
