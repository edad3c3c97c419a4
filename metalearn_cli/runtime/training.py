"""The training loop: a generator of Reports, one screenful, in the order in which things happen."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from metalearn_cli.core.meta import Learner, Meta, Scores
from metalearn_cli.errors import ConfigError, DivergedError
from metalearn_cli.experiment import Experiment
from metalearn_cli.runtime.assembly import (
    Data,
    evaluation_spec,
    evaluation_statistics,
    evaluation_steps,
    learner_for,
    training_spec,
)
from metalearn_cli.runtime.distributed import ALONE, Group
from metalearn_cli.runtime.evaluation import Step, evaluate, on_device, summary
from metalearn_cli.runtime.execution import Plan, Runner, plan_for
from metalearn_cli.runtime.outer import leaves, move
from metalearn_cli.runtime.state import State, Window, fresh, keep, restored
from metalearn_cli.storage.checkpoints import load
from metalearn_cli.storage.runs import RunFolder
from metalearn_cli.storage.sinks import Sink


class Report(NamedTuple):
    """One row of numbers: training loss and score since the last report, validation per inner step.

    `score` is what the objective reports (accuracy as a fraction, or mean squared error); `seconds` counts from
    the start of this process's share of the run, validation included, which `tasks_per_second` leaves out; `best`
    says whether this is the best validation so far.
    """

    iteration: int
    loss: float
    score: float
    val: list[Step]
    best: bool
    tasks_per_second: float
    seconds: float


class Watch(NamedTuple):
    """What the caller does while a run goes on: receive numbers, say when to stop, see each iteration pass."""

    sinks: Sequence[Sink] = ()
    stop: Callable[[], bool] = lambda: False
    tick: Callable[[int], None] = lambda _iteration: None


class Session(NamedTuple):
    """What a run works with; nothing here changes while it runs."""

    experiment: Experiment
    data: Data
    learner: Learner
    validator: Learner
    plan: Plan
    device: torch.device
    folder: RunFolder
    group: Group


def open_session(
    experiment: Experiment, folder: RunFolder, data: Data, device: torch.device, group: Group = ALONE
) -> Session:
    """The learner, the plan and all else that a run of the experiment needs.

    Raises ConfigError or DataError, before anything is trained, for tasks that cannot be drawn or shared out.
    """
    tasks = experiment.outer.meta_batch_size
    if tasks < group.size:
        raise ConfigError(
            f"outer.meta_batch_size: found {tasks}, expected a task or more for each of {group.size} processes"
        )
    group.require_same("data", data.sha256)
    statistics = evaluation_statistics(experiment)
    spec = training_spec(experiment)
    data.sampler("train", spec, experiment.seed)
    data.sampler("val", evaluation_spec(experiment), experiment.eval.seed)
    validator = learner_for(experiment, data.interface, statistics)
    evaluation_steps(experiment, validator)
    if validator.ways not in (None, evaluation_spec(experiment).ways):
        raise ConfigError(
            f"eval.ways: found {experiment.eval.ways}, but {experiment.algorithm.name} is tied to the "
            f"{experiment.task.ways} classes of task.ways"
        )
    return Session(
        experiment,
        data,
        learner_for(experiment, data.interface, experiment.task.statistics),
        validator,
        plan_for(device, experiment.execution, spec.values(data.interface.input_shape), tasks // group.size),
        device,
        folder,
        group,
    )


def start(session: Session, resume: bool) -> State:
    """The state to train from: that of the run's last checkpoint with `resume`, if there is one, else a new one.

    Raises ConfigError or CheckpointError if the checkpoint does not fit the session.
    """
    folder, experiment = session.folder, session.experiment
    if resume and folder.last.exists():
        state = restored(load(folder.last), folder.last, experiment, session.data, session.learner, session.device)
    else:
        state = fresh(experiment, session.learner, session.device)
    session.group.require_same("checkpoints", state.iteration)
    if session.group.leads:
        folder.forget_after(state.iteration)
    return state


def train(session: Session, runner: Runner, state: State, watch: Watch) -> Iterator[Report]:
    """Trains `state` to the experiment's last iteration, yielding a Report whenever one is due.

    Checkpoints are written before the yield, so an abandoned iterator loses nothing. When `watch.stop()` says so
    the loop ends after the current step, with a checkpoint.

    Raises DivergedError at the first loss or gradient that is not finite; the checkpoints stay those before it.
    """
    experiment = session.experiment
    outer, every = experiment.outer, experiment.eval.every
    sampler = session.data.sampler("train", training_spec(experiment), experiment.seed)
    started, trained, validating = time.monotonic(), 0, 0.0
    while state.iteration < outer.iterations:
        numbers = session.group.share(range(outer.meta_batch_size))
        tasks = on_device(sampler(state.iteration, numbers), session.device)
        sums, query = runner.total(session.learner.meta_gradient_at(state.iteration), state.meta, tasks)
        gradient, loss, score, stopping = _mean(session, sums, query, watch.stop())
        _require_finite(state, session.folder, loss, *leaves(gradient).values())
        move(outer, state.optimizer, state.meta, gradient, state.iteration)
        state.iteration += 1
        state.window = state.window.plus(float(loss), float(score))
        trained += outer.meta_batch_size
        seconds = time.monotonic() - started
        tasks_per_second = trained / (seconds - validating)
        watch.tick(state.iteration)
        if state.iteration % every == 0 or state.iteration == outer.iterations:
            report = _report(session, runner, state, tasks_per_second, seconds)
            for sink in watch.sinks:
                sink.scalars(report.iteration, scalars(report))
            validating += time.monotonic() - started - seconds
            yield report
        elif stopping:
            _require_finite_meta(state, session.folder)
            if session.group.leads:
                keep(session.folder.last, experiment, session.data, state)
        if stopping:
            return


def _mean(session: Session, sums: Meta, query: Scores, stop: bool) -> tuple[Meta, Tensor, Tensor, bool]:
    """The means over the meta-batch, whichever process did its tasks, and whether any process wants to stop.

    Asked once and answered alike everywhere, so that no process goes on without the others.
    """
    tasks = session.experiment.outer.meta_batch_size
    wish = query.loss.new_tensor(float(stop))
    flat, tree = pytree.tree_flatten(sums)
    *flat, loss, score, wishes = session.group.summed([*flat, query.loss.sum(), query.score.sum(), wish])
    gradient: Meta = pytree.tree_unflatten([value / tasks for value in flat], tree)
    return gradient, loss / tasks, score / tasks, bool(wishes > 0)


def _report(session: Session, runner: Runner, state: State, tasks_per_second: float, seconds: float) -> Report:
    """Validate, remember the best, and put it all on disk."""
    _require_finite_meta(state, session.folder)
    experiment, validator = session.experiment, session.validator
    sampler = session.data.sampler("val", evaluation_spec(experiment), experiment.eval.seed)
    steps = evaluation_steps(experiment, validator)
    episodes = experiment.eval.val_episodes
    val = summary(evaluate(validator, runner, state.meta, sampler, steps, episodes, group=session.group))
    best = state.improves(val[-1].score, session.data.interface.objective)
    report = Report(state.iteration, state.window.loss, state.window.score, val, best, tasks_per_second, seconds)
    state.window = Window()
    if best:
        state.best = val[-1].score
    if session.group.leads:
        if best:
            keep(session.folder.best, experiment, session.data, state)
        session.folder.append(row(report))
        keep(session.folder.last, experiment, session.data, state)
    return report


def row(report: Report) -> dict[str, object]:
    """A Report as a line of metrics.jsonl."""
    return {**report._asdict(), "val": [step._asdict() for step in report.val]}


def scalars(report: Report) -> dict[str, float]:
    """A Report as named numbers, for the sinks."""
    val = {f"val/step {step.step}": step.score for step in report.val}
    return {
        "train/loss": report.loss,
        "train/score": report.score,
        "tasks per second": report.tasks_per_second,
    } | val


def _require_finite(state: State, folder: RunFolder, loss: Tensor, *gradient: Tensor) -> None:
    finite = torch.stack([loss.isfinite(), *(value.isfinite().all() for value in gradient)])
    if bool(finite.all()):
        return
    raise _diverged(state, folder, "loss" if not finite[0] else "gradient")


def _require_finite_meta(state: State, folder: RunFolder) -> None:
    """A finite gradient can still take a step to infinity; no checkpoint may hold one."""
    if not all(bool(value.isfinite().all()) for value in leaves(state.meta).values()):
        raise _diverged(state, folder, "learner")


def _diverged(state: State, folder: RunFolder, what: str) -> DivergedError:
    kept = f"the last good checkpoint is {folder.last}" if folder.last.exists() else "no checkpoint was written yet"
    return DivergedError(
        f"iteration {state.iteration}: the {what} is not finite; {kept}; "
        "try a smaller algorithm.inner_lr or outer.lr, or outer.clip_norm=10"
    )
