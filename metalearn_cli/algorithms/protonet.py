"""Prototypical networks: a class is the mean of its support features, and the nearest mean wins.

Snell, Swersky & Zemel 2017, Prototypical Networks for Few-shot Learning (https://arxiv.org/abs/1703.05175).
"""

from functools import partial
from typing import Literal

from metalearn_cli.core.gradient import reverse_mode
from metalearn_cli.core.heads import nearest_prototype, prototypes, require_classes
from metalearn_cli.core.meta import Adapted, Learner, Meta, Objective, Scores, Statistics, predict, scores, unadapted
from metalearn_cli.core.network import Network
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.settings import Choice


class Config(Choice):
    """Nothing to choose. It learns any number of classes; the paper trains with more `task.ways` than it tests with."""

    name: Literal["protonet"] = "protonet"


def build(
    _config: Config, network: Network, objective: Objective, statistics: Statistics, _ways: int | None
) -> Learner:
    """Classes by the squared Euclidean distance of features to the prototypes (equation 2).

    A distance to prototypes is a linear head (section 2.4), so that is what an adapted learner holds. The network's
    own head is not used.
    """
    require_classes(objective, "protonet")

    def adapt(meta: Meta, support: Examples, steps: int) -> list[Adapted]:
        start = unadapted(meta, support)
        head = nearest_prototype(prototypes(network.features(start.params, support.inputs), support.targets))
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
