"""Running statistics: what the norms of a network saw in training, kept in Meta beside what is learned.

Ioffe & Szegedy 2015 (https://arxiv.org/abs/1502.03167), algorithm 2, with an exponential mean.

Legend: T tasks, C channels.
"""

import torch
from torch import Tensor

from metalearn_cli.core.meta import LAST, Learner, Meta, Scores, with_settled
from metalearn_cli.core.tasks import Task, count
from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.network import Network
from metalearn_cli.layers.norm import TaskNorm
from metalearn_cli.layers.passing import Params

SHARE = 0.1
"""The share of the running statistics that an outer step replaces."""


def with_running_statistics(learner: Learner, network: Network) -> Learner:
    """The same learner, whose Meta also holds each norm's running mean and variance.

    A meta-gradient has their distance to what the norms see in the query sets of adapted learners: an outer step goes
    `SHARE` of the way, whatever the optimizer.

    Raises ConfigError if the network has no norm of batches.
    """
    norms = network.modules_of(TaskNorm)
    if not norms:
        raise ConfigError("task.running_statistics: the backbone has no norms of batches to keep statistics of")
    steps = 0 if learner.traits.second_order is None else learner.traits.inner_steps

    def init() -> Meta:
        start: Params = {}
        for name, norm in norms.items():
            start |= {f"{name}.mean": torch.zeros_like(norm.bias), f"{name}.variance": torch.ones_like(norm.bias)}
        return learner.init()._replace(statistics={name: value.detach() for name, value in start.items()})

    def meta_gradient(meta: Meta, tasks: Task, iteration: int = LAST) -> tuple[Meta, Scores]:
        gradient, result = learner.meta_gradient(meta, tasks, iteration)
        collected: Params = {}
        with torch.no_grad():
            adapted = learner.adapt(meta, tasks.support, steps)[-1]
            learner.predict([adapted], tasks.query.inputs, collected)
        away = {name: count(tasks) * _away(name, value, collected) for name, value in meta.statistics.items()}
        return gradient._replace(statistics=away), result

    return with_settled(
        learner._replace(init=init, meta_gradient=meta_gradient),
        lambda settled: with_running_statistics(settled, network),
    )


def _away(name: str, value: Tensor, collected: Params) -> Tensor:
    """How far a running moment is from the mean of what its norm saw; zero for a norm that did not run."""
    if name not in collected:
        return torch.zeros_like(value)
    return value - collected[name] / collected[f"{name.rpartition('.')[0]}.batches"]
