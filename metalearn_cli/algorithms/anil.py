"""ANIL: almost no inner loop; only the head adapts, to features that the meta-gradient learns.

Raghu et al. 2020, Rapid Learning or Feature Reuse? (https://arxiv.org/abs/1909.09157).
"""

from typing import Literal

from pydantic import Field

from metalearn_cli.core.gradient import through_adaptation
from metalearn_cli.core.heads import HEAD, from_one_body, from_zero, require_body
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
from metalearn_cli.errors import ConfigError
from metalearn_cli.settings import Choice, Steps


class Config(Choice):
    """The head alone moves within a task.

    `inner_lr`: the rate of the head on the mean loss over the support set.
    `inner_steps` (steps): by how many a task is learned in training.
    `second_order`: whether the meta-gradient goes through the inner gradients; false is the first-order form.
    `zero_head`: whether the head starts at zero in every task (Kao et al. 2022, https://arxiv.org/abs/2106.15367)
        instead of at what was learned.
    """

    name: Literal["anil"] = "anil"
    inner_lr: float = Field(0.4, gt=0)
    inner_steps: Steps = 5
    second_order: bool = True
    zero_head: bool = False


def build(config: Config, network: Network, objective: Objective, statistics: Statistics, ways: int | None) -> Learner:
    """MAML whose inner loop moves the head alone.

    The body does not move within a task, so a support set's features are computed once for all inner steps, and the
    meta-gradient, also its second-order part, goes through them once. That is exact.
    """
    rule = fixed_rate(config.inner_lr)
    loop = InnerLoop(network.classify, objective, rule, config.second_order, lambda name: name.startswith(HEAD))

    def init() -> Meta:
        params = network.initial()
        return Meta(params, rule.init(loop.split(params)[0]))

    def adapt(meta: Meta, support: Examples, steps: int) -> list[Adapted]:
        states = [unadapted(meta, support)]
        head, body = loop.split(states[0].params)
        if steps == 0:
            return states
        features = support._replace(inputs=network.features(body, support.inputs))
        for step in range(steps):
            head = stepped(loop, meta.coefficients, head, {}, features, step)
            states.append(Adapted({**body, **head}, support.inputs))
        return states

    learner = through_adaptation(
        init, adapt, network, objective, statistics, config.inner_steps, config.second_order, ways
    )
    learner = learner._replace(predict_each=from_one_body(network.features, network.classify, statistics))
    if config.zero_head:
        if config.inner_steps == 0:
            raise ConfigError("algorithm.inner_steps: from a zero head nothing is learned without inner steps; found 0")
        require_body(network, "algorithm.zero_head: from a zero head anil", "zero_head=false")
        return from_zero(learner)
    return learner
