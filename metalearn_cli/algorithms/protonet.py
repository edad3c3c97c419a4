"""Prototypical networks: a class is the mean of its support features, and the nearest mean wins.

Snell, Swersky & Zemel 2017, Prototypical Networks for Few-shot Learning (https://arxiv.org/abs/1703.05175).
"""

from typing import Literal

from metalearn_cli.core.gradient import through_adaptation
from metalearn_cli.core.heads import nearest_prototype, prototypes, require_body, require_classes
from metalearn_cli.core.meta import Adapted, Learner, Meta, Objective, Statistics, unadapted
from metalearn_cli.core.network import Network
from metalearn_cli.core.tasks import Examples
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
    require_body(network, "algorithm.name: protonet")

    def adapt(meta: Meta, support: Examples, steps: int) -> list[Adapted]:
        start = unadapted(meta, support)
        features = support._replace(inputs=network.features(start.params, support.inputs))
        head = nearest_prototype(prototypes(features))
        # There are no inner steps: whoever asks for the state after some gets the one and only.
        return [Adapted({**start.params, **head}, support.inputs)] * (steps + 1)

    return through_adaptation(lambda: Meta(network.initial(), {}), adapt, network, objective, statistics, 0, None, None)
