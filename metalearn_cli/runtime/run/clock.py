"""How long a run has trained, and when it is time for a checkpoint."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """What has been trained since when, and when a checkpoint is due; `validating` seconds are no training.

    The last step took `step_seconds`, or the one at hand has by now; the last validation took `validation_seconds`.
    """

    def __init__(self, minutes: float) -> None:
        self.started = time.monotonic()
        self.tasks = 0
        self.validating = self.validation_seconds = 0.0
        self._step, self._step_began = 0.0, self.started
        self._in_step = False
        self._patience = 60 * minutes
        self.kept()

    @property
    def seconds(self) -> float:
        """Since the run, or its resumption, began."""
        return time.monotonic() - self.started

    @property
    def tasks_per_second(self) -> float:
        """Tasks trained on in a second of training; NaN as long as there were none."""
        return self.tasks / max(self.seconds - self.validating, 1e-9) if self.tasks else math.nan

    @property
    def step_seconds(self) -> float:
        """How long a step takes, as far as one can know."""
        return max(self._step, time.monotonic() - self._step_began if self._in_step else 0.0)

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """The block is a step."""
        self._step_began, self._in_step = time.monotonic(), True
        try:
            yield
        finally:
            self._step, self._in_step = time.monotonic() - self._step_began, False

    def validated(self, began: float) -> None:
        """A validation that began then is over; it need not be whole."""
        self.validation_seconds = self.seconds - began
        self.validating += self.validation_seconds

    @property
    def is_time_to_keep(self) -> bool:
        """Whether the last checkpoint is as old as it may become."""
        return time.monotonic() >= self._due

    def kept(self) -> None:
        """A checkpoint has just been written."""
        self._due = time.monotonic() + self._patience
