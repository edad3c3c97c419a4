"""The training loop: a generator of Reports."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

from torch.utils import _pytree as pytree

from metalearn_cli.core.meta import Meta, Scores
from metalearn_cli.core.tasks import Task
from metalearn_cli.runtime.machine.execution import Runner
from metalearn_cli.runtime.run.clock import Clock
from metalearn_cli.runtime.run.cut_short_tasks import cut_short_share
from metalearn_cli.runtime.run.evaluation import Step, scores_of, summary
from metalearn_cli.runtime.run.promises import Calibration
from metalearn_cli.runtime.run.reports import Report, scalars
from metalearn_cli.runtime.run.session import Session, keep_last, keep_report
from metalearn_cli.runtime.run.state import Averages, State
from metalearn_cli.runtime.run.stepping import Batch, Stepper
from metalearn_cli.runtime.run.unread_losses import LateStepper, reads_later
from metalearn_cli.storage.inputs.downloads import Progress
from metalearn_cli.storage.runs.sinks import Sink


class Watch(NamedTuple):
    """The functions by which a caller follows a run and stops it; each has a default that does nothing.

    `sinks`: receive each report. `tick(iteration)`: is called after each iteration. `say(line)`: gets messages for a
    person. `stages`: gets the progress of reading the data; `at_the_end`, that of the work after the last step.
    `begin(session, state)`: is called before the first step. `calibrated(calibrations, seconds)`: is called when the
    best checkpoint has been calibrated.

    `stop()`: whether the run should end after the current step. `abandonable()`: a block in which a KeyboardInterrupt
    may be raised once `stop()` is true; the step in it is then given up as if it had not begun. `fits(seconds)`:
    whether so much time is left. `within_time()`: a block that is ended in the same way when the time is over;
    validations run in it.

    Only runs of several processes: `signalled()` is true when this process should no longer wait for the others;
    `before_the_end` gets a function that ends them at once.
    """

    sinks: Sequence[Sink] = ()
    stop: Callable[[], bool] = lambda: False
    tick: Callable[[int], None] = lambda _iteration: None
    say: Callable[[str], None] = lambda _line: None
    abandonable: Callable[[], AbstractContextManager[None]] = nullcontext
    fits: Callable[[float], bool] = lambda _seconds: True
    within_time: Callable[[], AbstractContextManager[None]] = nullcontext
    stages: Progress = lambda *_moved: None
    begin: Callable[[Session, State], None] = lambda _session, _state: None
    signalled: Callable[[], bool] = lambda: False
    before_the_end: Callable[[Callable[[], None] | None], None] = lambda _end_others: None
    calibrated: Callable[[Sequence[Calibration], float], None] = lambda _found, _seconds: None
    at_the_end: Progress = lambda *_moved: None


def loop(session: Session, runner: Runner, state: State, watch: Watch) -> Iterator[Report]:
    """Trains `state` to the experiment's last iteration, and yields a Report whenever one is due.

    Checkpoints are written before the yield, so an abandoned iterator loses nothing. When `watch.stop()` is true, the
    loop ends after the current step and writes a checkpoint; a report that was due is then made by the next call. The
    first step is always taken; a further step or a validation begins only if one as long as the last would fit.

    Raises DivergedError at the first loss or gradient that is not finite, unless such steps are skipped. No checkpoint
    holds that step (on a GPU the loop learns of it later: runtime/run/unread_losses.py).
    """
    outer, keeping = session.experiment.outer, session.experiment.checkpoint
    clock = Clock(keeping.minutes)
    watch = _within_time(watch, clock)
    stepper = (LateStepper if reads_later(session) else Stepper)(session, runner, state, watch.say)
    # On resume the report of the last step before a stop may still be due, so a round is a step, a report, or both.
    while state.iteration < outer.iterations or report_is_due(session, state):
        stopping, report = False, None
        try:
            if not report_is_due(session, state):
                with clock.stepping():
                    stopping = _step(session, stepper, watch)
                clock.tasks += outer.meta_batch_size
                watch.tick(state.iteration)
            if report_is_due(session, state):
                stepper.settle()
                report = _report(session, runner, state, clock, watch)
                stopping |= report is None
        except _Abandoned:
            stopping = True
        if report is not None:
            clock.kept()
            for sink in watch.sinks:
                sink.scalars(report.iteration, scalars(report))
            yield report
        elif stopping or clock.is_time_to_keep or _is_round(state.iteration, keeping.every):
            stepper.settle()
            keep_last(session, state)
            clock.kept()
        if stopping:
            return


def _within_time(watch: Watch, clock: Clock) -> Watch:
    """The watch, whose `stop` is also true if another step as long as the last would not fit."""
    return watch._replace(stop=lambda: watch.stop() or not watch.fits(clock.step_seconds))


def _step(session: Session, stepper: Stepper, watch: Watch) -> bool:
    """Move the state by one iteration, and return whether any process wants to stop."""
    iteration = stepper.state.iteration
    with _abandonable(session, watch, watch.abandonable):
        tasks = stepper.tasks(iteration)
        sums, query = stepper.total(tasks, iteration)
    batch, stopping = _mean(session, tasks, sums, query, watch.stop())
    stepper.take(batch)
    return stopping


def _mean(session: Session, tasks: Task, sums: Meta, query: Scores, stop: bool) -> tuple[Batch, bool]:
    """The means over the meta-batch of all processes, and whether any process wants to stop.

    The wish to stop is summed together with the gradient, so that all processes get the same answer after the same
    step; a process that went on alone would wait for the others forever.
    """
    count, group = session.experiment.outer.meta_batch_size, session.group
    # One list of tensors, so that all of them go through one exchange between the processes.
    flat, tree = pytree.tree_flatten(sums)
    flat += [query.loss.sum(), query.score.sum()]
    if group.size > 1:
        *flat, wishes = group.summed([*flat, query.loss.new_tensor(float(stop))])
        stop = bool(wishes > 0)
    *flat, loss, score = (value / count for value in flat)
    return Batch(tasks, query, pytree.tree_unflatten(flat, tree), loss, score), stop


def report_is_due(session: Session, state: State) -> bool:
    """Whether the state has reached a validation and its report is not made; also on resume after a stop in between."""
    experiment, done = session.experiment, state.iteration
    at_end = done == experiment.outer.iterations
    return done > state.reported and (at_end or experiment.eval.validates(done))


def _is_round(iteration: int, every: int | None) -> bool:
    return every is not None and iteration % every == 0


class _Abandoned(Exception):  # noqa: N818
    """A step or a validation was given up, because a stop could not wait; the state is the one before it."""


@contextmanager
def _abandonable(session: Session, watch: Watch, until: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """A block that may be given up when a stop cannot wait; nothing inside it may change the state.

    With several processes it is never given up: the others wait for this one, and all stop together after the step.
    """
    try:
        with until() if session.group.size == 1 else nullcontext():
            yield
    except KeyboardInterrupt:
        if not watch.stop():
            raise
        raise _Abandoned from None


def _report(session: Session, runner: Runner, state: State, clock: Clock, watch: Watch) -> Report | None:
    """Validate the state, update its best score, and write report and checkpoints.

    None if time or a stop did not allow the validation; the next call of `loop` then makes the report.
    """
    speed, seconds = clock.tasks_per_second, clock.seconds
    # All processes validate or none does; each process asked alone could answer differently.
    if session.group.any(not watch.fits(clock.validation_seconds), session.device):
        return None
    val = _validated(session, runner, state, watch)
    clock.validated(seconds)
    if val is None:
        return None
    score, objective = val[-1].score, session.data.interface.objective
    best = state.improves(score, objective)
    cut_short = cut_short_share(session, runner, state, watch.say)
    loss, training_score = state.window.means
    report = Report(
        state.iteration, loss, training_score, val, best,
        tasks_per_second=speed, seconds=seconds, skipped=state.skipped, cut_short=cut_short,
    )  # fmt: skip
    state.window, state.reported = Averages(), state.iteration
    state.kept = state.best_with(score, objective, session.experiment.checkpoint.keep_best)
    if best:
        state.best = score
    keep_report(session, report, state)
    return report


def _validated(session: Session, runner: Runner, state: State, watch: Watch) -> list[Step] | None:
    measured, validator = session.measured, session.validator
    steps, episodes = measured.inner_steps, session.experiment.eval.val_episodes
    sampler = session.data.sampler(measured.part, measured.spec, session.experiment.eval.seed)

    def stopped(_scores: Scores) -> bool:
        return session.group.any(watch.stop(), session.device)

    with _abandonable(session, watch, watch.within_time):
        scores = scores_of(
            validator, runner, state.meta, sampler, steps, episodes=episodes, enough=stopped, group=session.group
        )
    # Fewer episodes: a stop ended the validation before its time.
    return summary(scores) if len(scores.score) == episodes else None
