"""Prototypical networks: a class is the mean of its support features, and the nearest mean wins.

Snell, Swersky & Zemel 2017, Prototypical Networks for Few-shot Learning (https://arxiv.org/abs/1703.05175).
"""

from functools import partial
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from metalearn_cli.core.gradient import reverse_mode
from metalearn_cli.core.meta import (
    Adapted,
    Learner,
    Meta,
    Objective,
    Scores,
    Statistics,
    classification,
    predict,
    scores,
    unadapted,
)
from metalearn_cli.core.network import Network, Params
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.errors import ConfigError
from metalearn_cli.settings import Choice


class Config(Choice):
    """Nothing to choose. It learns any number of classes; the paper trains with more `task.ways` than it tests with."""

    name: Literal["protonet"] = "protonet"


def build(
    _config: Config, network: Network, objective: Objective, statistics: Statistics, _ways: int | None
) -> Learner:
    """Classes by the squared Euclidean distance of features to the prototypes (equation 2).

    A distance to prototypes is a linear head, with weights 2 c_k and biases -|c_k|^2 (section 2.4), so that is what
    an adapted learner holds. The network's own head is not used.
    """
    if objective is not classification:
        raise ConfigError("algorithm.name: protonet tells classes apart; it cannot predict numbers")

    def adapt(meta: Meta, support: Examples, steps: int) -> list[Adapted]:
        start = unadapted(meta, support)
        head = linear_head(prototypes(network.features(start.params, support.inputs), support.targets))
        # There are no inner steps: whoever asks for the state after some gets the one and only.
        return [Adapted({**start.params, **head}, support.inputs)] * (steps + 1)

    def through(meta: Meta, tasks: Task) -> Scores:
        return scores(learner, adapt(meta, tasks.support, 0)[0], tasks.query)

    learner = Learner(
        init=lambda: Meta(network.initial(), {}),
        adapt=adapt,
        predict=partial(predict, network, statistics),
        meta_gradient=reverse_mode(through),
        objective=objective,
        inner_steps=0,
        second_order=None,
        ways=None,
    )
    return learner


def prototypes(features: Tensor, targets: Tensor) -> Tensor:
    """The mean features [T, W, F] of each class of features [T, N, F] with targets 0..W-1 [T, N] (equation 1)."""
    members = F.one_hot(targets).to(features.dtype)
    return members.mT @ features / members.sum(1).unsqueeze(-1)


def linear_head(centres: Tensor) -> Params:
    """The head whose outputs are -|x - c_k|^2 + |x|^2 for prototypes [T, W, F]."""
    return {"head.weight": 2 * centres, "head.bias": -centres.square().sum(-1)}
