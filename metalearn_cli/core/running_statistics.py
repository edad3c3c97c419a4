"""Running statistics: exponential means of the norms' means and variances over training, kept in Meta.

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
"""The share of the running statistics that one outer step replaces by new ones."""


def with_running_statistics(learner: Learner, network: Network) -> Learner:
    """The same learner, but its Meta also holds a running mean and variance for each batch norm.

    The entry of a running moment r in the meta-gradient is r - m, summed over tasks, where m is the moment that the
    norm saw in the query sets of the adapted learners. The outer step computes r <- r - SHARE * (r - m) for them,
    whatever optimizer the parameters have.

    Raises ConfigError if the network has no batch norm.
    """
    norms = network.modules_of(TaskNorm)
    if not norms:
        raise ConfigError("task.running_statistics: the backbone has no norms of batches to keep statistics of")
    # A learner without inner gradients (ProtoNet, the baselines) meets the query set in its step 0.
    steps = 0 if learner.traits.second_order is None else learner.traits.inner_steps

    def init() -> Meta:
        start: Params = {}
        # Mean 0 and variance 1, as in torch's batch norm.
        for name, norm in norms.items():
            start |= {f"{name}.mean": torch.zeros_like(norm.bias), f"{name}.variance": torch.ones_like(norm.bias)}
        meta = learner.init()
        return meta._replace(statistics=meta.statistics | {name: value.detach() for name, value in start.items()})

    def meta_gradient(meta: Meta, tasks: Task, iteration: int = LAST) -> tuple[Meta, Scores]:
        gradient, result = learner.meta_gradient(meta, tasks, iteration)
        collected: Params = {}
        # One more adaptation per task, without a graph: the norms write what they see into `collected`.
        with torch.no_grad():
            adapted = learner.adapt(meta, tasks.support, steps)[-1]
            learner.predict([adapted], tasks.query.inputs, collected)
        moments = {name: value for name, value in meta.statistics.items() if name.rpartition(".")[0] in norms}
        away = {name: count(tasks) * _away(name, value, collected) for name, value in moments.items()}
        return gradient._replace(statistics=away), result

    return with_settled(
        learner._replace(init=init, meta_gradient=meta_gradient),
        lambda settled: with_running_statistics(settled, network),
    )


def _away(name: str, value: Tensor, collected: Params) -> Tensor:
    """A running moment minus the mean of the moments that its norm saw; zero for a norm that did not run."""
    if name not in collected:
        return torch.zeros_like(value)
    # `collected` has sums over the batches that the norm saw; a layer that runs twice has seen two for each task.
    return value - collected[name] / collected[f"{name.rpartition('.')[0]}.batches"]
