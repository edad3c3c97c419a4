"""One iteration of training: draw its tasks, sum their meta-gradient, and move the state against the mean of it.

Here every step is known to be finite before the next one begins. On a GPU that would be a wait in every step, so
`unread.LateStepper` asks later; the loop (runtime/run/training.py) does not know which of the two it has.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import Tensor

from metalearn_cli.core.meta import Meta, Scores
from metalearn_cli.core.tasks import Task
from metalearn_cli.runtime.machine.execution import Runner
from metalearn_cli.runtime.run.divergence import MOST_IN_A_ROW, culprits, diverged, finite, of
from metalearn_cli.runtime.run.evaluation import on_device
from metalearn_cli.runtime.run.outer_step import leaves, move
from metalearn_cli.runtime.run.session import Session, training_sampler
from metalearn_cli.runtime.run.state import State


class Batch(NamedTuple):
    """The meta-batch of an iteration: this process's tasks [T] and their query scores [T], then the means over all."""

    tasks: Task
    query: Scores
    gradient: Meta
    loss: Tensor
    score: Tensor


class Stepper:
    """Computes the iterations of one run and takes their steps; `say` hears of the first one that is left out."""

    def __init__(self, session: Session, runner: Runner, state: State, say: Callable[[str], None]) -> None:
        self.session, self.runner, self.state, self.say = session, runner, state, say
        self._sampler = training_sampler(session.experiment, session.data, session.learner)
        self._own = session.group.share(range(session.experiment.outer.meta_batch_size))

    def tasks(self, iteration: int) -> Task:
        """This process's tasks of an iteration, on its device."""
        return on_device(self._sampler(iteration, self._own), self.session.device)

    def total(self, tasks: Task, iteration: int) -> tuple[Meta, Scores]:
        """The meta-gradient of an iteration, summed over tasks; a GPU replays it as long as the phase is the same."""
        learner = self.session.learner
        key = ("meta-gradient", learner.phase(iteration))
        return self.runner.total(partial(learner.meta_gradient, iteration=iteration), self.state.meta, tasks, key)

    def take(self, batch: Batch) -> None:
        """The state has taken the step, or left it out as it is not finite, and is one iteration further.

        Raises DivergedError where such a step ends the run.
        """
        session, state = self.session, self.state
        if finite(batch.loss, *leaves(batch.gradient).values()):
            move(session.experiment.outer, state.optimizer, state.meta, batch.gradient, state.iteration)
            # A finite gradient can still take a step to infinity.
            if not finite(*leaves(state.meta).values()):
                raise diverged(session.experiment, session.folder, state.iteration, "learner")
            state.window, state.skipped_in_a_row = state.window.plus(float(batch.loss), float(batch.score)), 0
        else:
            numbers = self.culprits(batch.tasks, batch.query, state.iteration)
            self._leave_out(broken_part(batch.loss), session.group.collected(numbers))
        state.iteration, state.plan = state.iteration + 1, self.runner.plan

    def settle(self) -> None:
        """The state's window holds the loss and score of every step so far; here it always does."""

    def culprits(self, tasks: Task, query: Scores, iteration: int) -> list[int]:
        """The numbers of this process's tasks whose loss or gradient in an iteration is not finite."""
        meta_gradient = partial(self.session.learner.meta_gradient, iteration=iteration)
        return culprits(meta_gradient, self.state.meta, tasks, self._own, query)

    def _leave_out(self, what: str, numbers: list[int]) -> None:
        experiment, folder, state = self.session.experiment, self.session.folder, self.state
        if experiment.outer.on_nonfinite == "stop" or state.skipped_in_a_row + 1 >= MOST_IN_A_ROW:
            raise diverged(experiment, folder, state.iteration, what, numbers)
        if not state.skipped:
            self.say(f"iteration {state.iteration}: the {what}{of(numbers)} is not finite; such steps are left out")
        state.skipped += 1
        state.skipped_in_a_row += 1


def broken_part(loss: Tensor) -> str:
    """What of a step that is not finite is not: its loss, or where that is finite its gradient."""
    return "gradient" if finite(loss) else "loss"
