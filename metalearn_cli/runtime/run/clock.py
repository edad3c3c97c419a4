"""Measures the time of a run, and says when a checkpoint is due."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """The stopwatch of a run: training speed, the times of steps and validations, and the next checkpoint.

    Time in validation does not count as training. `validation_seconds` is the duration of the last validation.
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
        """The seconds since the run began or was resumed."""
        return time.monotonic() - self.started

    @property
    def tasks_per_second(self) -> float:
        """The number of training tasks per second of training; NaN before the first task."""
        # 1e-9: the first task may end within the resolution of the clock.
        return self.tasks / max(self.seconds - self.validating, 1e-9) if self.tasks else math.nan

    @property
    def step_seconds(self) -> float:
        """The expected seconds of a step: those of the last step, or of the current one if it has taken longer."""
        return max(self._step, time.monotonic() - self._step_began if self._in_step else 0.0)

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """Measure the block as one step."""
        self._step_began, self._in_step = time.monotonic(), True
        try:
            yield
        finally:
            self._step, self._in_step = time.monotonic() - self._step_began, False

    def validated(self, began: float) -> None:
        """Note the end of a validation that began at time `began`, also if it was broken off."""
        self.validation_seconds = self.seconds - began
        self.validating += self.validation_seconds

    @property
    def is_time_to_keep(self) -> bool:
        """Whether `checkpoint.minutes` have passed since the last checkpoint."""
        return time.monotonic() >= self._due

    def kept(self) -> None:
        """Note that a checkpoint has just been written."""
        self._due = time.monotonic() + self._patience
