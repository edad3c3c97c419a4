"""The meta-gradient proves itself on one tiny problem, in float64, on the device and torch that will train."""

from typing import NamedTuple

import torch

from metalearn_cli.core.meta import Learner, Meta, checkable, classification
from metalearn_cli.core.tasks import Examples, Task, tasks_between
from metalearn_cli.errors import DeviceError
from metalearn_cli.experiment import Experiment
from metalearn_cli.runtime.assembly import learner_for
from metalearn_cli.runtime.opening import Interface
from metalearn_cli.runtime.outer import leaves

_PARALLEL_TOLERANCE = 1e-9
_ORDER_TOLERANCE = 1e-4


class Proof(NamedTuple):
    """Relative errors: task-parallel against one task at a time, and meta-gradient against finite differences."""

    parallel: float
    order: float


def prove(experiment: Experiment, interface: Interface, device: torch.device) -> Proof:
    """The two errors for this experiment's learner on two random tasks.

    Raises DeviceError if task-parallel and loop disagree, or if a gradient that claims to be exact is not.
    """
    learner = learner_for(experiment, interface, experiment.task.statistics)
    meta = _double(learner.init(), device)
    tasks = _tasks(interface, device)
    together = leaves(learner.meta_gradient(meta, tasks)[0])
    first, second = (tasks_between(tasks, i, i + 1) for i in range(2))
    by_itself = experiment.model_copy(update={"execution": experiment.execution.model_copy(update={"mode": "loop"})})
    reference = learner_for(by_itself, interface, experiment.task.statistics)
    alone, other = (leaves(reference.meta_gradient(meta, task)[0]) for task in (first, second))
    summed = {name: alone[name] + value for name, value in other.items()}
    scale = max(float(value.abs().max()) for value in summed.values()) or 1.0
    parallel = max(float((together[name] - value).abs().max()) for name, value in summed.items()) / scale
    order = _order_error(checkable(reference), checkable(learner), meta, first)
    proof = Proof(parallel, order)
    if not proof.parallel < _PARALLEL_TOLERANCE:
        raise DeviceError(f"task-parallel and one-by-one gradients differ by {parallel:.1e}; set execution.mode=loop")
    if learner.traits.second_order is not False and not proof.order < _ORDER_TOLERANCE:
        raise DeviceError(f"the meta-gradient is {proof.order:.1e} away from finite differences with this torch")
    return proof


def _order_error(reference: Learner, learner: Learner, meta: Meta, task: Task) -> float:
    """|FD - <g, v>| / |<g, v>| along a random direction v, at the best of three distances.

    A ReLU or a max-pool has kinks, and a difference across one is no derivative: the smaller distances step over
    fewer of them, the larger ones round better.
    """
    generator = torch.Generator().manual_seed(0)
    gradient, at = (leaves(found._replace(statistics={})) for found in (reference.meta_gradient(meta, task)[0], meta))
    along = {
        name: torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value) for name, value in at.items()
    }
    length = torch.stack([value.square().sum() for value in along.values()]).sum().sqrt()
    slope = float(sum((gradient[name] * value).sum() for name, value in along.items()) / length)

    def loss_at(distance: float) -> float:
        moved = {name: value + distance * along[name] / length for name, value in at.items()}
        params = {name: moved[f"params.{name}"] for name in meta.params}
        coefficients = {name: moved[f"coefficients.{name}"] for name in meta.coefficients}
        return float(learner.meta_gradient(Meta(params, coefficients, meta.statistics), task)[1].loss)

    differences = [(loss_at(step) - loss_at(-step)) / (2 * step) for step in (1e-5, 1e-6, 1e-7)]
    return min(abs(difference - slope) for difference in differences) / (abs(slope) or 1.0)


def _tasks(interface: Interface, device: torch.device) -> Task:
    generator = torch.Generator().manual_seed(0)
    classes = interface.outputs if interface.objective is classification else 4

    def examples(each: int) -> Examples:
        inputs = torch.rand(2, classes * each, *interface.input_shape, generator=generator, dtype=torch.float64)
        if interface.objective is classification:
            targets = torch.arange(classes).repeat_interleave(each).expand(2, -1)
        else:
            targets = torch.rand(2, classes * each, interface.outputs, generator=generator, dtype=torch.float64)
        return Examples(inputs.to(device), targets.to(device))

    return Task(examples(1), examples(2))


def _double(meta: Meta, device: torch.device) -> Meta:
    return Meta(*({name: value.to(device, torch.float64) for name, value in part.items()} for part in meta))
