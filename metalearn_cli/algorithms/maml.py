"""MAML: an initialisation from which a few gradient steps learn a new task.

Finn, Abbeel & Levine 2017, Model-Agnostic Meta-Learning (https://arxiv.org/abs/1703.03400), algorithms 1 and 2.
"""

from functools import partial
from typing import Literal

from pydantic import Field

from metalearn_cli.core.gradient import mixed_mode, reverse_mode
from metalearn_cli.core.heads import from_zero, require_body
from metalearn_cli.core.meta import (
    Adapted,
    InnerLoop,
    Learner,
    Meta,
    Objective,
    Scores,
    Statistics,
    adapt,
    predict,
    scores,
)
from metalearn_cli.core.network import Network
from metalearn_cli.core.rules import fixed_rate
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.errors import ConfigError
from metalearn_cli.settings import Choice, Steps


class Config(Choice):
    """All parameters move within a task.

    `inner_lr`: the rate on the mean loss over the support set. The paper's 0.4, 0.1 and 0.01 multiply a loss that is
        `ways` times larger (its code sums over the examples and divides by the shots), so they are 2.0, 2.0 and 0.05
        here.
    `inner_steps` (steps): by how many a task is learned in training.
    `second_order`: whether the meta-gradient goes through the inner gradients; false is the first-order form.
    `gradient`: "mixed" gives the same meta-gradient as "reverse" to rounding, with memory that does not grow with
        `inner_steps`, for up to twice the time.
    `zero_head`: whether the head starts at zero in every task (Kao et al. 2022, https://arxiv.org/abs/2106.15367)
        instead of at what was learned.
    """

    name: Literal["maml"] = "maml"
    inner_lr: float = Field(0.4, gt=0)
    inner_steps: Steps = 1
    second_order: bool = True
    gradient: Literal["reverse", "mixed"] = "reverse"
    zero_head: bool = False


def build(config: Config, network: Network, objective: Objective, statistics: Statistics, ways: int | None) -> Learner:
    """MAML with its first- or second-order meta-gradient."""
    rule = fixed_rate(config.inner_lr)
    loop = InnerLoop(network, objective, rule, config.second_order)

    def init() -> Meta:
        params = network.initial()
        return Meta(params, rule.init(params))

    def after(adapted: Adapted, query: Examples) -> Scores:
        return scores(learner, adapted, query)

    def through(meta: Meta, tasks: Task) -> Scores:
        return after(adapt(loop, meta, tasks.support, config.inner_steps)[-1], tasks.query)

    learner = Learner(
        init=init,
        adapt=partial(adapt, loop),
        predict=partial(predict, network, statistics),
        meta_gradient=(
            reverse_mode(through) if config.gradient == "reverse" else mixed_mode(loop, config.inner_steps, after)
        ),
        objective=objective,
        inner_steps=config.inner_steps,
        second_order=config.second_order,
        ways=ways,
    )
    if config.zero_head:
        if config.inner_steps == 0:
            raise ConfigError("algorithm.inner_steps: from a zero head nothing is learned without inner steps; found 0")
        require_body(network, "algorithm.zero_head: from a zero head maml", "zero_head=false")
        return from_zero(learner)
    return learner
