"""Proves the meta-gradient on one tiny problem in float64, on the device, with the torch and in the mode of the run."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from metalearn_cli.core.meta import LAST, Learner, Meta, checkable, scores_per_step
from metalearn_cli.core.tasks import Examples, Task, count, tasks_between, ways_of, with_each
from metalearn_cli.errors import ConfigError, DeviceError
from metalearn_cli.experiment import Experiment
from metalearn_cli.references import first_line
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.data.tiny_tasks import tiny_tasks
from metalearn_cli.runtime.machine.execution import Plan, Runner, running
from metalearn_cli.runtime.run.assembly import learner_for, plan_of
from metalearn_cli.runtime.run.network_trial import default_type
from metalearn_cli.runtime.run.outer_step import learned, leaves

_PARALLEL_TOLERANCE = 1e-9  # relative; both sides differ only in the order of float64 sums
_ORDER_TOLERANCE = 1e-4  # relative; finite differences have rounding errors, and larger ones across kinks (ReLU)
_GOOD_ENOUGH = 1e-6
_SMALL_SIDE = 32  # pixels

Say = Callable[[str], None]


class Proof(NamedTuple):
    """Three relative errors, with the plan and the input shape of their measurement.

    `parallel`: the plan's meta-gradient compared with that of one task at a time through plain modules; 0 if the plan
        is "loop".
    `evaluation`: the training loss compared with the evaluation loss after the same inner steps; None for a learner
        that trains without tasks (only the baselines).
    `order`: the meta-gradient compared with finite differences of the evaluation loss.
    """

    parallel: float
    evaluation: float | None
    order: float
    plan: Plan
    shape: tuple[int, ...]


def prove(experiment: Experiment, interface: Interface, device: torch.device, say: Say = lambda _what: None) -> Proof:
    """The errors of this experiment's learner on two random tasks; `say` gets a line before each part begins.

    Raises DeviceError if many tasks at once and one at a time disagree, if the training loss is not the evaluation
    loss, or if a gradient that should be exact is not; ConfigError if the network cannot run in float64.
    """
    learner, interface = _smallest(experiment, interface)
    by_itself = experiment.model_copy(update={"execution": experiment.execution.model_copy(update={"mode": "loop"})})
    reference = learner_for(by_itself, interface, experiment.task.statistics)
    plan = plan_of(experiment, interface, device, compiled=learner.traits.compiled)
    meta = _double(learner.init(), device)
    tasks = with_each(tiny_tasks(interface), lambda values: values.to(device))
    with default_type(torch.float64), running(plan) as runner:
        if learner.fit is not None:
            say("the fit to training classes")
            fitted = learner.fit(meta, _passes(tasks), [tasks])
            # A scale that was fitted to the very tasks of the proof would leave a loss, and differences, next to zero.
            meta = fitted._replace(coefficients=meta.coefficients)
        say("the gradient of two tasks, each alone")
        try:
            alone, reported = _alone(reference, meta, tasks)
        except RuntimeError as error:
            raise ConfigError(
                f"backbone.name: {experiment.backbone.name} cannot be proved in float64 ({first_line(error)}); make "
                "its own tensors in the type of the inputs"
            ) from error
        say("the gradient of two tasks, as they will run")
        parallel = _parallel_error(learner, reference, runner, meta, tasks, alone=alone)
        say("the loss of training and evaluation")
        evaluation = _evaluation_error(learner, runner, meta, tasks, reported)
        say("finite differences of the loss")
        first = tasks_between(tasks, 0, 1)
        settled = checkable(reference)
        gradient = alone[0] if settled is reference else _alone(settled, meta, first)[0][0]
        order = _order_error(checkable(learner), runner, meta, first, gradient)
    proof = Proof(parallel, evaluation, order, plan, interface.input_shape)
    _require_holding(proof, learner)
    return proof


def _passes(tasks: Task) -> Iterator[Examples]:
    """The pictures of two tasks as those of training classes: a class of one task is none of the other's."""
    for number in range(count(tasks)):
        task = tasks_between(tasks, number, number + 1)
        ways = ways_of(task.support)
        for half in task:
            yield half._replace(targets=half.targets + number * ways, ways=None)


def _require_holding(proof: Proof, learner: Learner) -> None:
    if not proof.parallel < _PARALLEL_TOLERANCE:
        raise DeviceError(
            f"task-parallel and one-by-one gradients differ by {proof.parallel:.1e}; set execution.mode=loop"
        )
    if proof.evaluation is not None and not proof.evaluation < _PARALLEL_TOLERANCE:
        raise DeviceError(
            f"the loss that training differentiates is {proof.evaluation:.1e} away from the one that evaluation "
            "computes after the same inner steps: it trains another learner than it evaluates"
        )
    if learner.traits.second_order is not False and not proof.order < _ORDER_TOLERANCE:
        raise DeviceError(f"the meta-gradient is {proof.order:.1e} away from finite differences with this torch")


def _smallest(experiment: Experiment, interface: Interface) -> tuple[Learner, Interface]:
    """The learner, and its interface with smaller pictures if the parameters allow it, to save time and memory.

    A foreign network keeps its picture size, because it may depend on it.
    """
    learner = learner_for(experiment, interface, experiment.task.statistics)
    sides = interface.input_shape[1:]
    if experiment.backbone.name == "custom" or len(sides) != 2 or min(sides) <= _SMALL_SIDE:
        return learner, interface
    shape = (interface.input_shape[0], *(side * _SMALL_SIDE // min(sides) for side in sides))
    try:
        other = learner_for(experiment, interface._replace(input_shape=shape), experiment.task.statistics)
    except ConfigError:
        return learner, interface
    if _shapes(other) != _shapes(learner):
        return learner, interface
    return other, interface._replace(input_shape=shape)


def _shapes(learner: Learner) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in leaves(learner.init()).items()}


def _alone(learner: Learner, meta: Meta, tasks: Task) -> tuple[list[dict[str, Tensor]], Tensor]:
    """The meta-gradient of each task alone, and the query losses [T] that come with them."""
    pairs = [learner.meta_gradient(meta, tasks_between(tasks, i, i + 1)) for i in range(count(tasks))]
    return [leaves(gradient) for gradient, _ in pairs], torch.cat([scores.loss for _, scores in pairs])


def _parallel_error(
    learner: Learner, reference: Learner, runner: Runner, meta: Meta, tasks: Task, alone: list[dict[str, Tensor]]
) -> float:
    if runner.plan.mode == "loop":  # both sides would be the same computation
        return 0.0
    errors = [_distance(leaves(runner.total(learner.meta_gradient, meta, tasks)[0]), alone)]
    if learner.phase(0) != learner.phase(LAST):
        # Some algorithms (MAML++) have another meta-gradient in the first iterations; it is compared too.
        at_first, alone_at_first = (partial(each.meta_gradient, iteration=0) for each in (learner, reference))
        single = (tasks_between(tasks, i, i + 1) for i in range(count(tasks)))
        others = [leaves(alone_at_first(meta, task)[0]) for task in single]
        errors.append(_distance(leaves(runner.total(at_first, meta, tasks)[0]), others))
    return max(errors)


def _distance(together: dict[str, Tensor], alone: list[dict[str, Tensor]]) -> float:
    """The largest difference between a gradient and the sum of those `alone`, relative to the largest element."""
    summed = {name: sum((task[name] for task in alone[1:]), value) for name, value in alone[0].items()}
    scale = max(float(value.abs().max()) for value in summed.values()) or 1.0
    return max(float((together[name] - value).abs().max()) for name, value in summed.items()) / scale


def _evaluation_error(learner: Learner, runner: Runner, meta: Meta, tasks: Task, reported: Tensor) -> float | None:
    if learner.traits.classes is not None:
        return None
    losses = runner.each(partial(scores_per_step, learner, learner.traits.inner_steps), meta, tasks).loss[:, -1]
    return float((losses - reported).abs().max()) / (float(losses.abs().max()) or 1.0)


def _order_error(learner: Learner, runner: Runner, meta: Meta, task: Task, gradient: dict[str, Tensor]) -> float:
    """|FD - <g, v>| / |<g, v>| for a random direction v: FD is the central difference of the loss, g the gradient.

    It is the smallest of the errors for three distances. ReLU and max-pool have kinks, and a difference across a kink
    is no derivative: smaller distances cross fewer kinks, larger distances have smaller rounding errors. v is zero for
    parameters that the gradient leaves out (fixed ones) and for running statistics.
    """
    generator = torch.Generator().manual_seed(0)
    at = leaves(meta)
    along = {
        name: torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value)
        for name, value in at.items()
        if name in gradient and name in learned(meta)
    }
    length = torch.stack([value.square().sum() for value in along.values()]).sum().sqrt()
    slope = float(sum((gradient[name] * value).sum() for name, value in along.items()) / length)

    def loss_at(distance: float) -> float:
        moved = at | {name: at[name] + distance * value / length for name, value in along.items()}
        params = {name: moved[f"params.{name}"] for name in meta.params}
        coefficients = {name: moved[f"coefficients.{name}"] for name in meta.coefficients}
        return _loss(learner, runner, Meta(params, coefficients, meta.statistics), task)

    best = float("inf")
    for step in (1e-5, 1e-6, 1e-7):
        difference = (loss_at(step) - loss_at(-step)) / (2 * step)
        best = min(best, abs(difference - slope) / (abs(slope) or 1.0))
        if best < _GOOD_ENOUGH:
            break
    return best


def _loss(learner: Learner, runner: Runner, meta: Meta, task: Task) -> float:
    """The evaluation loss after the inner steps of training; for a learner that trains without tasks, its own loss."""
    if learner.traits.classes is not None:
        return float(learner.meta_gradient(meta, task)[1].loss)
    return float(runner.each(partial(scores_per_step, learner, learner.traits.inner_steps), meta, task).loss[:, -1])


def _double(meta: Meta, device: torch.device) -> Meta:
    return Meta(*({name: value.to(device, torch.float64) for name, value in part.items()} for part in meta))
