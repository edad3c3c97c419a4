"""One iteration of training: draws its tasks, sums their meta-gradients, and moves the state by the mean.

`Stepper` checks each step for NaN and Inf before the next one begins. On a GPU this check would wait for the device in
every step, so `unread_losses.LateStepper` checks later. The loop (runtime/run/training.py) can use either of them.
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
    """The meta-batch of an iteration: this process's T tasks and their query scores [T], and the mean gradient, loss
    and score over the tasks of all processes.
    """

    tasks: Task
    query: Scores
    gradient: Meta
    loss: Tensor
    score: Tensor


class Stepper:
    """Computes the iterations of one run and takes their steps; `say` gets a line for the first skipped step."""

    def __init__(self, session: Session, runner: Runner, state: State, say: Callable[[str], None]) -> None:
        self.session, self.runner, self.state, self.say = session, runner, state, say
        self._sampler = training_sampler(session.experiment, session.data, session.learner)
        self._own = session.group.share(range(session.experiment.outer.meta_batch_size))

    def tasks(self, iteration: int) -> Task:
        """This process's tasks of an iteration, on its device."""
        return on_device(self._sampler(iteration, self._own), self.session.device)

    def total(self, tasks: Task, iteration: int) -> tuple[Meta, Scores]:
        """The meta-gradient of an iteration, summed over tasks. A GPU replays its recording while the phase stays."""
        learner = self.session.learner
        key = ("meta-gradient", learner.phase(iteration))
        return self.runner.total(partial(learner.meta_gradient, iteration=iteration), self.state.meta, tasks, key)

    def take(self, batch: Batch) -> None:
        """Move the state by one iteration; a step that is not finite is skipped.

        Raises DivergedError if such a step ends the run (`outer.on_nonfinite=stop`, or 100 skipped steps in a row).
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
        """Bring the state's window up to date with all steps so far; for this stepper it always is."""

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
    """The part of a broken step that is not finite, for a message: "loss", or "gradient" if the loss is finite."""
    return "gradient" if finite(loss) else "loss"
