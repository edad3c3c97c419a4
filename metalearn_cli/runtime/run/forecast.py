"""Forecasts the time and the memory of a run from a few of its steps, measured on this machine."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from metalearn_cli.runtime.machine.execution import record_for, running
from metalearn_cli.runtime.machine.memory import peak_bytes
from metalearn_cli.runtime.run.assembly import evaluation_spec, evaluation_steps
from metalearn_cli.runtime.run.closed_form_fit import first_meta
from metalearn_cli.runtime.run.evaluation import EPISODES_AT_ONCE, on_device, scores_of
from metalearn_cli.runtime.run.outer_step import move
from metalearn_cli.runtime.run.session import Session, training_sampler
from metalearn_cli.runtime.run.state import fresh

_STEPS, _SECONDS = 5, 10.0
"""The largest number of meta-steps that are timed, and the seconds after which no further one begins."""
_INNER_STEPS = 20
"""The most inner steps that are timed first, in one episode: a whole validation may take days."""


class Forecast(NamedTuple):
    """The seconds of a meta-step and of a validation, and derived from them the seconds of the run.

    `to_validation` is the time until the first validation is done, `to_end` the time of the whole run; both leave out
    start-up, checkpoints and the final report. `peak` is the largest memory in use so far, in bytes; None if the system
    does not tell.
    """

    per_iteration: float
    per_validation: float
    to_validation: float
    to_end: float
    peak: int | None


def forecast(session: Session) -> Forecast:
    """Run a few meta-steps and validation episodes of the session, and extrapolate; their results are thrown away.

    The first step is not timed, because libraries initialise themselves in it. Only one process is measured; a run in
    several processes (`execution.processes`, torchrun) is faster.
    """
    experiment, device = session.experiment, session.device
    started = time.monotonic()
    state = fresh(experiment, first_meta(experiment, session.learner, session.data, device), session.plan)
    to_begin = time.monotonic() - started
    sampler = training_sampler(experiment, session.data, session.learner)
    tasks = range(experiment.outer.meta_batch_size)
    meta_gradient = partial(session.learner.meta_gradient, iteration=0)
    validation = session.data.sampler("val", evaluation_spec(experiment), experiment.eval.seed)
    episodes, steps = experiment.eval.val_episodes, evaluation_steps(experiment, session.validator)
    execution = experiment.execution
    with running(state.plan, record=record_for(device, execution), precision=execution.precision) as runner:

        def step() -> None:
            gradient, scores = runner.total(meta_gradient, state.meta, on_device(sampler(0, tasks), device))
            move(experiment.outer, state.optimizer, state.meta, gradient, state.iteration)
            float(scores.loss.sum())  # waits until a GPU has finished the step

        step()
        per_iteration = statistics.median(_timed(step))

        def measure(inner_steps: int, few: int) -> None:
            scores_of(session.validator, runner, state.meta, validation, inner_steps, episodes=few)

        per_validation = _of_validation(measure, steps, episodes)
    iterations, measures = experiment.outer.iterations, experiment.eval
    # The iterations after which the run validates: the first time, every so many, and at the end.
    first = min(measures.first, iterations)
    rounds = range(measures.every, iterations + 1, measures.every)
    validations = len({first, iterations, *rounds})
    return Forecast(
        per_iteration,
        per_validation,
        to_validation=to_begin + first * per_iteration + per_validation,
        to_end=to_begin + iterations * per_iteration + validations * per_validation,
        peak=peak_bytes(device),
    )


def _of_validation(measure: Callable[[int, int], None], inner_steps: int, episodes: int) -> float:
    """The seconds of a validation, estimated from a block of episodes, or from the first inner steps of one episode.

    `half` and `whole` are the times of n / 2 and n steps, so (whole - half) / (n / 2) is the time of each further step.
    """
    few, first = min(episodes, EPISODES_AT_ONCE), min(inner_steps, _INNER_STEPS)
    measure(first // 2, 1)  # libraries set themselves up
    half, whole = (_seconds(partial(measure, steps, 1)) for steps in (first // 2, first))
    # The further steps of one episode, beyond the `first` that were run.
    alone = whole + max(0.0, whole - half) / max(1, first - first // 2) * (inner_steps - first)
    if alone * few > _SECONDS:
        return alone * episodes
    return _seconds(partial(measure, inner_steps, few)) * episodes / few


def _seconds(work: Callable[[], None]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def _timed(step: Callable[[], None]) -> list[float]:
    """The seconds of each of at most `_STEPS` calls; after `_SECONDS` no further call begins. There is at least one."""
    begun, taken = time.monotonic(), list[float]()
    while not taken or (len(taken) < _STEPS and time.monotonic() - begun < _SECONDS):
        taken.append(_seconds(step))
    return taken
