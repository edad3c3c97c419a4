"""What meta-learning is worth on many related small problems: python -m benchmarks.tables CHECKPOINT...

The test tasks of the checkpoints (of `metalearn train machines`) are answered by others as well: by one network for the
rows of all training tasks, by a network that learns each task's few rows alone, and by ridge regression on them. All
answer the same queries; printed are paired differences with their 95 % intervals over tasks.

Legend: T tasks, N rows of a task, F features.
"""

import math
import sys
from pathlib import Path

import torch
from torch import Tensor

from metalearn_cli.core.tasks import Task
from metalearn_cli.experiment import Experiment, from_mapping
from metalearn_cli.layers.network import Network
from metalearn_cli.runtime.data import opening
from metalearn_cli.runtime.run import assembly
from metalearn_cli.runtime.use import measurement
from metalearn_cli.storage.runs import checkpoints

_EPISODES = 300
_STEPS = (10, 30, 100, 300)
_RATES = (1e-3, 1e-2)
_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)


def main(paths: list[Path]) -> None:
    """Measure every checkpoint and all others on the same episodes, and print them."""
    found = {path: measurement.tested(path, [], "test", _EPISODES, None, "cpu", _silent, print) for path in paths}
    first = found[paths[0]]
    header = checkpoints.read_checkpoint(paths[0]).header
    experiment = from_mapping(header["experiment"], str(paths[0]))
    data = opening.open_data(experiment, None, _silent)
    spec, episodes = first.protocol.spec, first.episodes
    test = data.sampler("test", spec, experiment.eval.seed)(0, range(episodes))
    val = data.sampler("val", spec, experiment.eval.seed)(0, range(100))
    unit = data.interface.table.target_std[0] ** 2
    scores = {str(path): one.scores for path, one in found.items()}
    network = Network(assembly.backbone_for(experiment, data.interface))
    scores["one network for all rows"] = unit * _for_all(network, data, experiment, test)
    scores["a network on the task's own rows"] = unit * _alone(network, val, test)
    for degree in (1, 3):
        scores[f"ridge on the task's own rows, degree {degree}"] = unit * _ridge(val, test, degree)
    reference = first.scores
    print(f"{episodes} test tasks, {spec.shots} rows each, {spec.queries} queries")
    for name, own in scores.items():
        apart = (own - reference).double()
        half = 1.96 * float(apart.std()) / math.sqrt(episodes)
        share = own.median()
        print(f"{name}: mse {own.mean():.3f}, median {share:.3f}; less {paths[0]}: {apart.mean():+.3f} ± {half:.3f}")


def _for_all(network: Network, data: opening.Data, experiment: Experiment, test: Task) -> Tensor:
    """Errors [T] of one network trained on rows of all training tasks alike (2,000 steps of Adam, 240 rows each)."""
    sampler = data.sampler("train", assembly.training_spec(experiment), 0)
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
        answers = network(params, test.query.inputs.flatten(0, 1).unsqueeze(0))
    return (answers.view_as(test.query.targets) - test.query.targets).square().mean((1, 2))


def _alone(network: Network, val: Task, test: Task) -> Tensor:
    """Errors [T] of a network for each task, from a random start, by Adam; rate and steps are the best on `val`."""
    errors = {rate: _learned(network, val, rate) for rate in _RATES}
    rate, steps = min(
        ((rate, steps) for rate in _RATES for steps in _STEPS), key=lambda one: float(errors[one[0]][one[1]].mean())
    )
    print(f"a network on the task's own rows: Adam, rate {rate}, {steps} steps (best on validation tasks)")
    return _learned(network, test, rate)[steps]


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
                answers = network(params, tasks.query.inputs)
            found[step] = (answers - tasks.query.targets).square().mean((1, 2))
    return found


def _ridge(val: Task, test: Task, degree: int) -> Tensor:
    """Errors [T] of ridge regression on powers of the input up to `degree`; the strength is the best on `val`."""
    best = min(_STRENGTHS, key=lambda strength: float(_solved(val, degree, strength).mean()))
    print(f"ridge, degree {degree}: strength {best} (best on validation tasks)")
    return _solved(test, degree, best)


def _solved(tasks: Task, degree: int, strength: float) -> Tensor:
    support, query = (
        torch.cat([half.inputs.double() ** power for power in range(1, degree + 1)], -1) for half in tasks
    )
    middle, mean = support.mean(1, keepdim=True), tasks.support.targets.double().mean(1, keepdim=True)
    centred = support - middle
    gram = centred.mT @ centred + strength * torch.eye(centred.shape[-1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, centred.mT @ (tasks.support.targets.double() - mean))
    answers = (query - middle) @ weights + mean
    return (answers - tasks.query.targets.double()).square().mean((1, 2)).float()


def _silent(_label: str, _done: int, _total: int) -> None:
    pass


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
