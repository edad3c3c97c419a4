"""UNICORN-MAML: MAML with one meta-learned vector for all classes, so that their order cannot matter.

Ye & Chao 2022, How to Train Your MAML to Excel in Few-Shot Classification (https://arxiv.org/abs/2106.16245).
"""

from typing import Annotated, Literal

from pydantic import Field

from metalearn_cli.core.gradient import through_adaptation
from metalearn_cli.core.heads import require_body, require_classes
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
from metalearn_cli.core.network import Network, Params
from metalearn_cli.core.rules import fixed_rate
from metalearn_cli.core.tasks import Examples, ways_of
from metalearn_cli.settings import Choice, Steps

HEAD = ("head.weight", "head.bias")


class Config(Choice):
    """All parameters move within a task, from a head with one row for all classes.

    The paper's figures are first-order ones (its code leaves the second order out), from a pretrained network.

    `inner_lr`: the rate on the mean loss over the support set.
    `inner_steps` (steps): by how many a task is learned in training.
    `second_order`: whether the meta-gradient goes through the inner gradients; false is the first-order form.
    """

    name: Literal["unicorn_maml"] = "unicorn_maml"
    inner_lr: float = Field(0.1, gt=0)
    inner_steps: Annotated[Steps, Field(ge=1)] = 5
    second_order: bool = True


def build(config: Config, network: Network, objective: Objective, statistics: Statistics, _ways: int | None) -> Learner:
    """MAML whose head is as many copies of one row as the task has classes (section 5)."""
    require_classes(objective, "unicorn_maml")
    require_body(network, "algorithm.name: unicorn_maml")
    loop = InnerLoop(network, objective, fixed_rate(config.inner_lr), config.second_order)

    def init() -> Meta:
        return Meta({name: value[:1] if name in HEAD else value for name, value in network.initial().items()}, {})

    def adapt(meta: Meta, support: Examples, steps: int) -> list[Adapted]:
        ways = ways_of(support)
        states = [Adapted(_copied(unadapted(meta, support).params, ways), support.inputs)]
        for step in range(steps):
            params = stepped(loop, meta.coefficients, states[-1].params, {}, support, step)
            states.append(Adapted(params, support.inputs))
        return states

    return through_adaptation(
        init, adapt, network, objective, statistics, config.inner_steps, config.second_order, None
    )


def _copied(params: Params, ways: int) -> Params:
    """The head's row [T, 1, ...] for each of the classes, [T, ways, ...]."""
    return {
        name: value.expand(value.shape[0], ways, *value.shape[2:]) if name in HEAD else value
        for name, value in params.items()
    }
