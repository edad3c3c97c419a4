"""Steps whose losses stay on the GPU until a report or a checkpoint needs them.

To read a number from a GPU, the program waits until the GPU has done all its work, and the GPU then idles until it gets
more. So losses stay there, and so does the answer to the question whether a step was finite.

If a step gives NaN or Inf, the GPU itself restores the learner after that step and after all later ones. When the
program reads the answer, it can compute the broken step once more and name its tasks.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from metalearn_cli.core.meta import Meta
from metalearn_cli.runtime.machine.execution import Runner
from metalearn_cli.runtime.run.divergence import diverged, finite
from metalearn_cli.runtime.run.outer_step import leaves, move
from metalearn_cli.runtime.run.session import Session
from metalearn_cli.runtime.run.state import State
from metalearn_cli.runtime.run.stepping import Batch, Stepper, broken_part

MOST = 100
"""The largest number of unread iterations: at most so many are undone if the first of them was not finite."""


class LateStepper(Stepper):
    """A Stepper that waits for the device only in `settle`, which it also calls after `MOST` steps."""

    def __init__(self, session: Session, runner: Runner, state: State, say: Callable[[str], None]) -> None:
        super().__init__(session, runner, state, say)
        self.rows: list[Tensor] = []
        self._sound: Tensor | None = None

    def take(self, batch: Batch) -> None:
        """Move the state by one iteration; its learner changes only if this step and all before it were finite."""
        session, state = self.session, self.state
        gradient_is_finite = finite(batch.loss, *leaves(batch.gradient).values())
        self._sound = gradient_is_finite if self._sound is None else self._sound & gradient_is_finite
        before = {name: value.clone() for name, value in leaves(state.meta).items()}
        move(session.experiment.outer, state.optimizer, state.meta, batch.gradient, state.iteration)
        _put_back_unless(self._sound, state.meta, before)
        learner_is_finite = finite(*leaves(state.meta).values())
        # One float64 row for all four, so that `settle` copies a single tensor from the device.
        row = (batch.loss, batch.score, gradient_is_finite, learner_is_finite)
        self.rows.append(torch.stack([value.double() for value in row]))
        state.iteration, state.plan = state.iteration + 1, self.runner.plan
        if len(self.rows) == MOST:
            self.settle()

    def settle(self) -> None:
        """Wait for the device, and bring the state's window up to date with all steps so far.

        Raises DivergedError for the first step that was not finite; the learner is then the one before that step.
        """
        rows, state = torch.stack(self.rows).tolist() if self.rows else [], self.state
        self.rows, self._sound = [], None
        for iteration, (loss, score, gradient_is_finite, learner_is_finite) in enumerate(
            rows, state.iteration - len(rows)
        ):
            if not gradient_is_finite:
                raise self._diverged(iteration)
            if not learner_is_finite:
                raise diverged(self.session.experiment, self.session.folder, iteration, "learner")
            state.window = state.window.plus(loss, score)

    def _diverged(self, iteration: int) -> Exception:
        """The error for a broken iteration, which is computed once more to find the tasks that caused it."""
        tasks = self.tasks(iteration)
        _, query = self.total(tasks, iteration)
        numbers = self.culprits(tasks, query, iteration)
        return diverged(self.session.experiment, self.session.folder, iteration, broken_part(query.loss), numbers)


def reads_later(session: Session) -> bool:
    """Whether losses are read late: only on a GPU, with one process, and if a broken step ends the run.

    Several processes exchange numbers in every step, and `outer.on_nonfinite=skip` must know before the next one.
    """
    stops = session.experiment.outer.on_nonfinite == "stop"
    return session.device.type != "cpu" and session.group.size == 1 and stops


def _put_back_unless(sound: Tensor, meta: Meta, before: dict[str, Tensor]) -> None:
    """Restore `meta` from `before` unless `sound` (a bool tensor that stays on the device, so nothing waits for it)."""
    for name, value in leaves(meta).items():
        value.copy_(torch.where(sound, value, before[name]))
