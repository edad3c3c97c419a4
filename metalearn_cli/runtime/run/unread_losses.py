"""Steps whose numbers stay on the device until somebody has to know them.

To read a number from a GPU is to wait for all that was asked of it before, and meanwhile it gets nothing new to do. So
losses stay there, and so does the answer to whether a step was finite.

If a step gives NaN or Inf, the device itself puts the learner back, after that step and after every later one, so that
what led to it can be computed once more when it becomes known.
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
    """A stepper that waits for the device only in `settle`, and after `MOST` steps without one."""

    def __init__(self, session: Session, runner: Runner, state: State, say: Callable[[str], None]) -> None:
        super().__init__(session, runner, state, say)
        self.rows: list[Tensor] = []
        self._sound: Tensor | None = None

    def take(self, batch: Batch) -> None:
        """The state is one iteration further, and has taken the step if it and all before it were finite."""
        session, state = self.session, self.state
        gradient_is_finite = finite(batch.loss, *leaves(batch.gradient).values())
        self._sound = gradient_is_finite if self._sound is None else self._sound & gradient_is_finite
        before = {name: value.clone() for name, value in leaves(state.meta).items()}
        move(session.experiment.outer, state.optimizer, state.meta, batch.gradient, state.iteration)
        _put_back_unless(self._sound, state.meta, before)
        learner_is_finite = finite(*leaves(state.meta).values())
        row = (batch.loss, batch.score, gradient_is_finite, learner_is_finite)
        self.rows.append(torch.stack([value.double() for value in row]))
        state.iteration, state.plan = state.iteration + 1, self.runner.plan
        if len(self.rows) == MOST:
            self.settle()

    def settle(self) -> None:
        """The state's window holds the loss and score of every step so far; waits for the device once.

        Raises DivergedError for the first step that was not finite; the learner is then the one before it.
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
        """The error for an iteration, which is computed once more to tell whose fault it is."""
        tasks = self.tasks(iteration)
        _, query = self.total(tasks, iteration)
        numbers = self.culprits(tasks, query, iteration)
        return diverged(self.session.experiment, self.session.folder, iteration, broken_part(query.loss), numbers)


def reads_later(session: Session) -> bool:
    """Whether steps go on before it is known if the last was finite: where to read is to wait, and nobody need know."""
    stops = session.experiment.outer.on_nonfinite == "stop"
    return session.device.type != "cpu" and session.group.size == 1 and stops


def _put_back_unless(sound: Tensor, meta: Meta, before: dict[str, Tensor]) -> None:
    """`meta` is as it was `before`, unless `sound`; which of the two only the device knows."""
    for name, value in leaves(meta).items():
        value.copy_(torch.where(sound, value, before[name]))
