"""Meta-SGD: MAML that also learns the rate of the inner step, one number (of either sign) for each scalar parameter.

Li, Zhou, Chen & Li 2017, Meta-SGD: Learning to Learn Quickly for Few-Shot Learning (https://arxiv.org/abs/1707.09835).
"""

from typing import Literal

from pydantic import Field

from metalearn_cli.core.gradient import gradient_learner
from metalearn_cli.core.inner_loop import InnerLoop
from metalearn_cli.core.meta import Learner, Problem, Traits
from metalearn_cli.core.rules import learned_rates
from metalearn_cli.settings import Choice, Steps


class Config(Choice):
    """All parameters move within a task, each at a learned rate (also in first order). The paper takes one step.

    `inner_lr`: the initial value of all rates, on the mean loss over the support set.
    `inner_steps` (steps): the number of inner steps in training.
    `second_order`: whether the meta-gradient goes through the inner gradients; false is the first-order form.
    """

    name: Literal["meta_sgd"] = "meta_sgd"
    inner_lr: float = Field(0.1, gt=0)
    inner_steps: Steps = 1
    second_order: bool = True


def build(config: Config, problem: Problem) -> Learner:
    """MAML with a learned rate for every scalar parameter; the rates are the coefficients of Meta."""
    loop = InnerLoop(problem, learned_rates(config.inner_lr), config.second_order)
    return gradient_learner(loop, Traits(config.inner_steps, config.second_order, problem.ways))
