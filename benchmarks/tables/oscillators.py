"""What learners of `machines` are held against: one network for all rows, a network for five rows, ridge regression.

Legend: T tasks, N rows of a task.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from metalearn_cli.core.tasks import Task
from metalearn_cli.experiment import Experiment
from metalearn_cli.layers.network import Network
from metalearn_cli.runtime.data import opening, row_draws, table_tasks
from metalearn_cli.runtime.data.interface import Data
from metalearn_cli.runtime.data.random_streams import generator_for
from metalearn_cli.runtime.run import assembly

_STEPS = (10, 30, 100, 300)
_RATES = (1e-3, 1e-2)
_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)
_VAL_TASKS = 100


def answered(name: str, experiment: Experiment, episodes: int) -> tuple[Tensor, str]:
    """The squared error of each of the first test episodes [T], in the target's unit, and what was chosen for it."""
    data = opening.open_data(experiment, None, silent)
    spec, seed = assembly.evaluation_spec(experiment), experiment.eval.seed
    val, test = (
        data.sampler("val", spec, seed)(0, range(_VAL_TASKS)),
        data.sampler("test", spec, seed)(0, range(episodes)),
    )
    assert data.interface.table is not None
    torch.manual_seed(experiment.seed)  # of the networks' first values
    scores, told = _ANSWERING[name](experiment, data, val, test)
    return data.interface.table.target_std[0] ** 2 * scores, told


def machines(experiment: Experiment, episodes: int) -> list[int]:
    """Of which test machine each of the first episodes is."""
    tabular = opening.dataset_of(experiment.dataset)
    table = table_tasks.open_rows(experiment.dataset.name, tabular, None, silent, torch.device("cpu"))  # type: ignore[arg-type]
    spec = assembly.evaluation_spec(experiment)
    bins = table.usable("test", spec)
    order = np.argsort(bins.starts[:, 0])
    found = []
    for number in range(episodes):
        rows = row_draws.drawn_rows(bins, table.encoding, spec, generator_for(experiment.eval.seed, "test", 0, number))
        found.append(int(order[np.searchsorted(bins.starts[order, 0], rows[0, 0], side="right") - 1]))
    return found


def silent(_label: str, _done: int, _total: int) -> None:
    """No progress is shown."""


def _one_network(experiment: Experiment, data: Data, _val: Task, test: Task) -> tuple[Tensor, str]:
    """The network of the learners, trained on rows of all training tasks alike."""
    network = Network(assembly.backbone_for(experiment, data.interface))
    sampler = data.sampler("train", assembly.training_spec(experiment), experiment.seed)
    params = {name: value.unsqueeze(0).requires_grad_() for name, value in network.initial().items()}
    optimizer = torch.optim.Adam(params.values(), lr=1e-3)
    for step in range(2000):
        rows = sampler(step, range(16))
        inputs = torch.cat([half.inputs.flatten(0, 1) for half in rows]).unsqueeze(0)
        targets = torch.cat([half.targets.flatten(0, 1) for half in rows]).unsqueeze(0)
        optimizer.zero_grad()
        (network(params, inputs) - targets).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        answers = network(params, test.query.inputs.flatten(0, 1).unsqueeze(0)).view_as(test.query.targets)
    return _errors(answers, test), "2,000 steps of Adam of rate 0.001, 240 rows each"


def _alone(experiment: Experiment, data: Data, val: Task, test: Task) -> tuple[Tensor, str]:
    """A network for each task, from a random start, by Adam; rate and steps are the best on `val`."""
    network = Network(assembly.backbone_for(experiment, data.interface))
    errors = {rate: _learned(network, val, rate) for rate in _RATES}
    rate, steps = min(
        ((rate, steps) for rate in _RATES for steps in _STEPS), key=lambda pair: float(errors[pair[0]][pair[1]].mean())
    )
    told = f"{steps} steps of Adam of rate {rate:g}, the best on validation machines of {_listed(_STEPS)} steps and"
    return _learned(network, test, rate)[steps], f"{told} rates {_listed(_RATES)}"


def _learned(network: Network, tasks: Task, rate: float) -> dict[int, Tensor]:
    count = len(tasks.support.inputs)
    params = {
        name: value.expand(count, *value.shape).clone().requires_grad_() for name, value in network.initial().items()
    }
    optimizer = torch.optim.Adam(params.values(), lr=rate)
    found = {}
    for step in range(1, max(_STEPS) + 1):
        optimizer.zero_grad()
        # A sum over tasks: each has its own parameters, so its own Adam.
        (network(params, tasks.support.inputs) - tasks.support.targets).square().mean((1, 2)).sum().backward()
        optimizer.step()
        if step in _STEPS:
            with torch.no_grad():
                found[step] = _errors(network(params, tasks.query.inputs), tasks)
    return found


def _ridge(degree: int) -> Callable[[Experiment, Data, Task, Task], tuple[Tensor, str]]:
    """Ridge regression on powers of the input up to `degree`; the strength is the best on validation tasks."""

    def answering(_experiment: Experiment, _data: Data, val: Task, test: Task) -> tuple[Tensor, str]:
        best = min(_STRENGTHS, key=lambda strength: float(_solved(val, degree, strength).mean()))
        told = f"strength {best:g}, the best on validation machines of {_listed(_STRENGTHS)}"
        return _solved(test, degree, best), told

    return answering


def _solved(tasks: Task, degree: int, strength: float) -> Tensor:
    support, query = (
        torch.cat([half.inputs.double() ** power for power in range(1, degree + 1)], -1) for half in tasks
    )
    middle, mean = support.mean(1, keepdim=True), tasks.support.targets.double().mean(1, keepdim=True)
    centred = support - middle
    gram = centred.mT @ centred + strength * torch.eye(centred.shape[-1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, centred.mT @ (tasks.support.targets.double() - mean))
    return _errors((query - middle) @ weights + mean, tasks).float()


def _mean(_experiment: Experiment, _data: Data, _val: Task, test: Task) -> tuple[Tensor, str]:
    return _errors(test.support.targets.mean(1, keepdim=True), test), ""


def _errors(answers: Tensor, tasks: Task) -> Tensor:
    return (answers - tasks.query.targets).square().mean((1, 2))


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


_ANSWERING = {
    "one_network": _one_network, "alone": _alone, "ridge_1": _ridge(1), "ridge_3": _ridge(3), "mean": _mean,
}  # fmt: skip
