"""The training loop: a generator of Reports, one screenful, in the order in which things happen."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import NamedTuple

from torch import Tensor
from torch.utils import _pytree as pytree

from metalearn_cli.core.meta import Meta, Scores
from metalearn_cli.core.tasks import Task
from metalearn_cli.runtime.data.sampling import Sampler
from metalearn_cli.runtime.machine.execution import Runner
from metalearn_cli.runtime.run.clock import Clock
from metalearn_cli.runtime.run.cut_short_tasks import cut_short_share
from metalearn_cli.runtime.run.divergence import MOST_IN_A_ROW, culprits, diverged, finite, of
from metalearn_cli.runtime.run.evaluation import Step, evaluate, on_device, summary
from metalearn_cli.runtime.run.outer_step import leaves, move
from metalearn_cli.runtime.run.reports import Report, scalars
from metalearn_cli.runtime.run.session import Session, keep_last, keep_report, training_sampler
from metalearn_cli.runtime.run.state import State, Window
from metalearn_cli.runtime.run.unread_losses import MOST, Unread, copied, put_back_unless
from metalearn_cli.storage.runs.sinks import Sink


class Watch(NamedTuple):
    """What the caller does while a run goes on: receive numbers, say when to stop, see each iteration pass.

    `say` hears what a person should know. Inside `abandonable()` a KeyboardInterrupt may come once `stop()` is true:
    the step or validation at hand is then given up, as if it had not begun. `fits(seconds)` says whether there is still
    time for something; validations, which may take long, run inside `within_time()`, which ends them when it is over.
    """

    sinks: Sequence[Sink] = ()
    stop: Callable[[], bool] = lambda: False
    tick: Callable[[int], None] = lambda _iteration: None
    say: Callable[[str], None] = lambda _line: None
    abandonable: Callable[[], AbstractContextManager[None]] = nullcontext
    fits: Callable[[float], bool] = lambda _seconds: True
    within_time: Callable[[], AbstractContextManager[None]] = nullcontext


def train(session: Session, runner: Runner, state: State, watch: Watch) -> Iterator[Report]:
    """Trains `state` to the experiment's last iteration, yielding a Report whenever one is due.

    Checkpoints are written before the yield, so an abandoned iterator loses nothing. When `watch.stop()` says so
    the loop ends after the current step, with a checkpoint; a report that was due then is made by the next call. One
    step is taken in any case; no other, and no validation, is begun that would not fit, as far as one can know.

    Raises DivergedError at the first loss or gradient that is not finite, unless these are to be skipped; the
    checkpoints stay those before it. On a GPU it becomes known when there is something to report or to keep, or after
    some iterations, so that no step waits for it.
    """
    outer = session.experiment.outer
    sampler = training_sampler(session.experiment, session.data, session.learner)
    clock = Clock(session.experiment.checkpoint.minutes)
    unread = Unread() if _reads_later(session) else None
    wished, fits = watch.stop, watch.fits
    watch = watch._replace(stop=lambda: wished() or not fits(clock.step_seconds))
    while state.iteration < outer.iterations or report_is_due(session, state):
        stopping, report = False, None
        try:
            if not report_is_due(session, state):
                with clock.stepping():
                    stopping = _step(session, runner, state, sampler, watch, unread)
                clock.tasks += outer.meta_batch_size
                watch.tick(state.iteration)
            if unread and len(unread) == MOST:
                _read(session, runner, state, sampler, unread)
            if report_is_due(session, state):
                _read(session, runner, state, sampler, unread)
                report = _report(session, runner, state, clock, watch)
                stopping |= report is None
        except _Abandoned:
            stopping = True
        if report is not None:
            clock.kept()
            for sink in watch.sinks:
                sink.scalars(report.iteration, scalars(report))
            yield report
        elif stopping or clock.is_time_to_keep or _is_round(state.iteration, session.experiment.checkpoint.every):
            _read(session, runner, state, sampler, unread)
            keep_last(session, state)
            clock.kept()
        if stopping:
            return


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


def _own_tasks(session: Session) -> range:
    return session.group.share(range(session.experiment.outer.meta_batch_size))


def _drawn(session: Session, sampler: Sampler, iteration: int) -> Task:
    """This process's tasks of an iteration, on its device."""
    return on_device(sampler(iteration, _own_tasks(session)), session.device)


def _total(session: Session, runner: Runner, state: State, tasks: Task, iteration: int) -> tuple[Meta, Scores]:
    """The meta-gradient of an iteration, summed over tasks; a GPU replays it as long as the phase is the same."""
    learner = session.learner
    key = ("meta-gradient", learner.phase(iteration))
    return runner.total(partial(learner.meta_gradient, iteration=iteration), state.meta, tasks, key)


def _culprits(session: Session, state: State, tasks: Task, query: Scores, iteration: int) -> list[int]:
    """The numbers of this process's tasks whose loss or gradient in an iteration is not finite."""
    meta_gradient = partial(session.learner.meta_gradient, iteration=iteration)
    return culprits(meta_gradient, state.meta, tasks, _own_tasks(session), query)


def report_is_due(session: Session, state: State) -> bool:
    """Whether there is something to report, and it is time to; still so after a stop that came before the report."""
    experiment, done = session.experiment, state.iteration
    at_end = done == experiment.outer.iterations
    return done > state.reported and (at_end or experiment.eval.validates(done))


def _is_round(iteration: int, every: int | None) -> bool:
    return every is not None and iteration % every == 0


def _step(
    session: Session, runner: Runner, state: State, sampler: Sampler, watch: Watch, unread: Unread | None
) -> bool:
    """The state has taken one iteration more, or left it out; whether any process wants to stop."""
    outer = session.experiment.outer
    with _abandonable(session, watch, watch.abandonable):
        tasks = _drawn(session, sampler, state.iteration)
        sums, query = _total(session, runner, state, tasks, state.iteration)
    gradient, loss, score, stopping = _mean(session, sums, query, watch.stop())
    sound = finite(loss, *leaves(gradient).values())
    if unread is not None:
        before = copied(state.meta)
        move(outer, state.optimizer, state.meta, gradient, state.iteration)
        put_back_unless(unread.sound(sound), state.meta, before)
        unread.add(loss, score, sound, finite(*leaves(state.meta).values()))
    elif sound:
        move(outer, state.optimizer, state.meta, gradient, state.iteration)
        # A finite gradient can still take a step to infinity.
        if not finite(*leaves(state.meta).values()):
            raise diverged(session.experiment, session.folder, state.iteration, "learner")
        state.window, state.skipped_in_a_row = state.window.plus(float(loss), float(score)), 0
    else:
        numbers = session.group.collected(_culprits(session, state, tasks, query, state.iteration))
        _leave_out(session, state, _what(loss), numbers, watch)
    state.iteration, state.plan = state.iteration + 1, runner.plan
    return stopping


def _reads_later(session: Session) -> bool:
    """Whether steps go on before it is known what came of the last: where to read is to wait, and nobody need know."""
    stops = session.experiment.outer.on_nonfinite == "stop"
    return session.device.type != "cpu" and session.group.size == 1 and stops


def _read(session: Session, runner: Runner, state: State, sampler: Sampler, unread: Unread | None) -> None:
    """The window knows of all iterations that were unread.

    Raises DivergedError for the first of them that was not finite; the learner is then the one before it.
    """
    rows = unread.read() if unread else []
    for iteration, row in enumerate(rows, state.iteration - len(rows)):
        if not row.gradient:
            tasks = _drawn(session, sampler, iteration)
            _, query = _total(session, runner, state, tasks, iteration)
            numbers = _culprits(session, state, tasks, query, iteration)
            raise diverged(session.experiment, session.folder, iteration, _what(query.loss), numbers)
        if not row.learner:
            raise diverged(session.experiment, session.folder, iteration, "learner")
        state.window = state.window.plus(row.loss, row.score)


def _what(loss: Tensor) -> str:
    """What of a step is not finite."""
    return "gradient" if finite(loss) else "loss"


def _leave_out(session: Session, state: State, what: str, numbers: list[int], watch: Watch) -> None:
    """The step is counted as left out; or it ends the run, if that is asked for or nothing else comes of it."""
    if session.experiment.outer.on_nonfinite == "stop" or state.skipped_in_a_row + 1 >= MOST_IN_A_ROW:
        raise diverged(session.experiment, session.folder, state.iteration, what, numbers)
    if not state.skipped:
        watch.say(f"iteration {state.iteration}: the {what}{of(numbers)} is not finite; such steps are left out")
    state.skipped += 1
    state.skipped_in_a_row += 1


def _mean(session: Session, sums: Meta, query: Scores, stop: bool) -> tuple[Meta, Tensor, Tensor, bool]:
    """The means over the meta-batch, whichever process did its tasks, and whether any process wants to stop.

    Asked once and answered alike everywhere, so that no process goes on without the others.
    """
    tasks, group = session.experiment.outer.meta_batch_size, session.group
    flat, tree = pytree.tree_flatten(sums)
    flat += [query.loss.sum(), query.score.sum()]
    if group.size > 1:
        *flat, wishes = group.summed([*flat, query.loss.new_tensor(float(stop))])
        stop = bool(wishes > 0)
    *flat, loss, score = (value / tasks for value in flat)
    gradient: Meta = pytree.tree_unflatten(flat, tree)
    return gradient, loss, score, stop


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
    report = Report(state.iteration, *state.window.means, val, best, speed, seconds, state.skipped, cut_short)
    state.window, state.reported = Window(), state.iteration
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
        scores = evaluate(validator, runner, state.meta, sampler, steps, episodes, stopped, session.group)
    return summary(scores) if len(scores.score) == episodes else None
