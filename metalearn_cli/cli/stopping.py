"""Signals and deadlines. Both end a run after the current step, with a checkpoint."""

import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_PATIENCE_SECONDS = 4.0  # for the step at hand after a signal; then it is given up
_AGAIN_SECONDS = 0.05
# The deadline comes before the end of --max-time by 10 % of it, at most 5 seconds: for a checkpoint and the report.
_MOST_AT_THE_END, _SHARE_AT_THE_END = 5.0, 0.1
_TOLD = b"\nstopping after the step at hand; once more stops at once, and loses what came after the last checkpoint\n"
_BY_SIGNAL = 128  # shells report a process that signal n ended as exit code 128 + n


class Stopper:
    """`stopper()` turns true at SIGINT, SIGTERM, SIGHUP or the deadline; a second SIGINT ends the process at once.

    The deadline is a little before `started` (by default now) + `max_seconds`, because the end of a run takes time too.
    Inside `abandonable()`, a step that takes too long after a signal gets a KeyboardInterrupt. While a process waits
    for another one inside a library, Python handles no signal; therefore a thread listens for them.
    """

    def __init__(self, max_seconds: float | None, started: float | None = None) -> None:
        self.signal: int | None = None
        seconds = math.inf if max_seconds is None else max_seconds
        self._end = (time.monotonic() if started is None else started) + seconds
        self._deadline = self._end - min(_MOST_AT_THE_END, seconds * _SHARE_AT_THE_END)
        self._may_abandon = False
        self._last_act: Callable[[], None] | None = None
        self._listen()
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            # Under nohup SIGHUP is ignored, and has to stay ignored.
            if number is not None and (name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN):
                signal.signal(number, self._take)

    def __call__(self) -> bool:
        """Whether to stop now."""
        return self.signal is not None or time.monotonic() >= self._deadline

    def fits(self, seconds: float) -> bool:
        """Whether work that takes `seconds` would end before the deadline."""
        return self.signal is None and time.monotonic() + seconds < self._deadline

    @property
    def left(self) -> float:
        """The seconds until the command must have ended; infinite without a limit."""
        return self._end - time.monotonic()

    def signalled(self) -> bool:
        """Whether a signal, and not the deadline, asked for the stop."""
        return self.signal is not None

    @contextmanager
    def abandonable(self) -> Iterator[None]:
        """Inside the block, a signal that has waited too long raises KeyboardInterrupt. The block must allow that."""
        self._may_abandon = True
        try:
            yield
        finally:
            self._may_abandon = False

    def before_the_end(self, act: Callable[[], None] | None) -> None:
        """Remember `act`, which is called in another thread before a second SIGINT ends the process."""
        self._last_act = act

    @contextmanager
    def within_time(self) -> Iterator[None]:
        """As `abandonable()`, but the deadline ends the block too."""
        limited = self.signal is None and math.isfinite(self._deadline)
        if limited:
            self._look_again_in(max(self._deadline - time.monotonic(), _AGAIN_SECONDS))
        try:
            with self.abandonable():
                yield
        finally:
            if limited and self.signal is None and hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_REAL, 0)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
            self._look_again_in(_PATIENCE_SECONDS)
        # With the default action a second SIGINT ends the process at once, even inside a library.
        if self._last_act is None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)

    def _listen(self) -> None:
        """Start a thread that learns of each signal at once, even if the main thread is inside a library."""
        # Python's C handler writes the number of a signal to this socket at once; Python's own handlers run only when
        # the main thread executes bytecode again.
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.detach(), warn_on_full_buffer=False)
        threading.Thread(target=self._hear, args=(ours,), daemon=True).start()

    def _hear(self, ours: socket.socket) -> None:
        again = False
        while came := ours.recv(1):
            if came[0] == getattr(signal, "SIGALRM", None):
                continue
            # SIGINT's default action (see `_take`) has not ended the process: the main thread is inside a library and
            # has not run `_take` yet, or there is an act to be done first.
            if again and came[0] == signal.SIGINT:
                if self._last_act is not None:
                    self._last_act()
                os._exit(_BY_SIGNAL + signal.SIGINT)
            if not again and sys.stderr.isatty():
                with suppress(OSError):
                    os.write(sys.stderr.fileno(), _TOLD)  # print may not be called while it is being called
            again = True

    def _look_again_in(self, seconds: float) -> None:
        # A timer's signal, because its handler runs in the main thread, where KeyboardInterrupt has to be raised.
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, self._hurry)
            signal.setitimer(signal.ITIMER_REAL, seconds)

    def _hurry(self, _number: int, _frame: FrameType | None) -> None:
        if self._may_abandon:
            self._may_abandon = False
            raise KeyboardInterrupt
        self._look_again_in(_AGAIN_SECONDS)
