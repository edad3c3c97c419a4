"""The training loop: a generator of Reports, one screenful, in the order in which things happen."""

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
    """What the caller does while a run goes on: receive numbers, say when to stop, see each iteration pass.

    `say` hears what a person should know, `stages` how far the data are read, `begin` gets the session and the state
    before the first step. Inside `abandonable()` a KeyboardInterrupt may come once `stop()` is true:
    the step or validation at hand is then given up, as if it had not begun. `fits(seconds)` says whether there is still
    time for something; validations, which may take long, run inside `within_time()`, which ends them when it is over.
    When
    a run has ended, `at_the_end` sees how far the work after its last step is, and `calibrated(found, seconds)` hears
    what its best checkpoint may promise.

    Only a run of several processes uses the last two: `signalled()` says that the others are no longer waited for, and
    `before_the_end` gets the function that ends them at once.
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
    """Trains `state` to the experiment's last iteration, yielding a Report whenever one is due.

    Checkpoints are written before the yield, so an abandoned iterator loses nothing. When `watch.stop()` says so
    the loop ends after the current step, with a checkpoint; a report that was due then is made by the next call. One
    step is taken in any case; no other, and no validation, is begun that would not fit, as far as one can know.

    Raises DivergedError at the first loss or gradient that is not finite, unless these are to be skipped; the
    checkpoints stay those before it (on a GPU it is known later: runtime/run/unread_losses.py).
    """
    outer, keeping = session.experiment.outer, session.experiment.checkpoint
    clock = Clock(keeping.minutes)
    watch = _within_time(watch, clock)
    stepper = (LateStepper if reads_later(session) else Stepper)(session, runner, state, watch.say)
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
    """The watch, which also stops where another step as long as the last would not fit."""
    return watch._replace(stop=lambda: watch.stop() or not watch.fits(clock.step_seconds))


def _step(session: Session, stepper: Stepper, watch: Watch) -> bool:
    """The state is one iteration further; whether any process wants to stop."""
    iteration = stepper.state.iteration
    with _abandonable(session, watch, watch.abandonable):
        tasks = stepper.tasks(iteration)
        sums, query = stepper.total(tasks, iteration)
    batch, stopping = _mean(session, tasks, sums, query, watch.stop())
    stepper.take(batch)
    return stopping


def _mean(session: Session, tasks: Task, sums: Meta, query: Scores, stop: bool) -> tuple[Batch, bool]:
    """The means over the meta-batch, whichever process did its tasks, and whether any process wants to stop.

    Asked once and answered alike everywhere, so that no process goes on without the others.
    """
    count, group = session.experiment.outer.meta_batch_size, session.group
    flat, tree = pytree.tree_flatten(sums)
    flat += [query.loss.sum(), query.score.sum()]
    if group.size > 1:
        *flat, wishes = group.summed([*flat, query.loss.new_tensor(float(stop))])
        stop = bool(wishes > 0)
    *flat, loss, score = (value / count for value in flat)
    return Batch(tasks, query, pytree.tree_unflatten(flat, tree), loss, score), stop


def report_is_due(session: Session, state: State) -> bool:
    """Whether there is something to report, and it is time to; still so after a stop that came before the report."""
    experiment, done = session.experiment, state.iteration
    at_end = done == experiment.outer.iterations
    return done > state.reported and (at_end or experiment.eval.validates(done))


def _is_round(iteration: int, every: int | None) -> bool:
    return every is not None and iteration % every == 0


class _Abandoned(Exception):  # noqa: N818
    """A step or a validation was given up for a stop that could not wait; the state is that before it."""


@contextmanager
def _abandonable(session: Session, watch: Watch, until: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Inside the block nothing of the state changes, so a stop that cannot wait may end it.

    Not where others wait for this process: they stop together, after the step.
    """
    try:
        with until() if session.group.size == 1 else nullcontext():
            yield
    except KeyboardInterrupt:
        if not watch.stop():
            raise
        raise _Abandoned from None


def _report(session: Session, runner: Runner, state: State, clock: Clock, watch: Watch) -> Report | None:
    """Validate, remember the best, and put it all on disk; None if there was no time, or a stop: it is for later."""
    speed, seconds = clock.tasks_per_second, clock.seconds
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
    return summary(scores) if len(scores.score) == episodes else None
