"""Signals and deadlines: both end a run after the step at hand, with a checkpoint."""

import signal
import time
from types import FrameType


class Stopper:
    """`stopper()` turns true at SIGINT, SIGTERM or the deadline; a second SIGINT ends the process at once."""

    def __init__(self, max_seconds: float | None) -> None:
        self.signal: int | None = None
        self._deadline = None if max_seconds is None else time.monotonic() + max_seconds
        signal.signal(signal.SIGINT, self._take)
        signal.signal(signal.SIGTERM, self._take)

    def __call__(self) -> bool:
        """Whether to stop now."""
        return self.signal is not None or (self._deadline is not None and time.monotonic() >= self._deadline)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(signal.SIGINT, signal.SIG_DFL)
