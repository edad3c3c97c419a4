"""How long a run has trained, and when it is time for a checkpoint."""

import time


class Clock:
    """What has been trained since when, and when a checkpoint is due; `validating` seconds are no training."""

    def __init__(self, minutes: float) -> None:
        self.started = time.monotonic()
        self.tasks = 0
        self.validating = 0.0
        self._patience = 60 * minutes
        self.kept()

    @property
    def seconds(self) -> float:
        """Since the run, or its resumption, began."""
        return time.monotonic() - self.started

    @property
    def tasks_per_second(self) -> float:
        """Tasks trained on in a second of training."""
        return self.tasks / max(self.seconds - self.validating, 1e-9)

    @property
    def is_time_to_keep(self) -> bool:
        """Whether the last checkpoint is as old as it may become."""
        return time.monotonic() >= self._due

    def kept(self) -> None:
        """A checkpoint has just been written."""
        self._due = time.monotonic() + self._patience
