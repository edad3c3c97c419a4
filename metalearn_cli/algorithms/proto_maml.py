"""Proto-MAML: MAML whose head starts at each task's prototypes, and is not meta-learned at all.

Triantafillou et al. 2020, Meta-Dataset (https://arxiv.org/abs/1903.03096), section 3.3.
"""

from typing import Literal

from pydantic import Field

from metalearn_cli.core.gradient import through_adaptation
from metalearn_cli.core.heads import nearest_prototype, prototypes, require_body, require_classes
from metalearn_cli.core.meta import (
    Adapted,
    InnerLoop,
    Learner,
    Meta,
    Objective,
    Statistics,
    stepped,
    unadapted,
)
from metalearn_cli.core.network import Network
from metalearn_cli.core.rules import fixed_rate
from metalearn_cli.core.tasks import Examples
from metalearn_cli.settings import Choice, Steps


class Config(Choice):
    """All parameters move within a task, from a head of prototypes.

    `inner_lr`: the rate on the mean loss over the support set.
    `inner_steps` (steps): by how many a task is learned in training.
    `second_order`: whether the meta-gradient goes through the inner gradients; false is the first-order form.
    """

    name: Literal["proto_maml"] = "proto_maml"
    inner_lr: float = Field(0.1, gt=0)
    inner_steps: Steps = 5
    second_order: bool = True


def build(config: Config, network: Network, objective: Objective, statistics: Statistics, _ways: int | None) -> Learner:
    """MAML from a head of 2 c_k and -|c_k|^2; the meta-gradient goes through that head, in first order too."""
    require_classes(objective, "proto_maml")
    require_body(network, "algorithm.name: proto_maml")
    loop = InnerLoop(network, objective, fixed_rate(config.inner_lr), config.second_order)

    def adapt(meta: Meta, support: Examples, steps: int) -> list[Adapted]:
        start = unadapted(meta, support)
        features = support._replace(inputs=network.features(start.params, support.inputs))
        head = nearest_prototype(prototypes(features))
        states = [Adapted({**start.params, **head}, support.inputs)]
        for step in range(steps):
            params = stepped(loop, meta.coefficients, states[-1].params, {}, support, step)
            states.append(Adapted(params, support.inputs))
        return states

    return through_adaptation(
        lambda: Meta(network.initial(), {}),
        adapt,
        network,
        objective,
        statistics,
        config.inner_steps,
        config.second_order,
        None,
    )
