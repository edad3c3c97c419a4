"""Meta-Curvature: MAML that multiplies the inner gradient by learned matrices, one for each axis of every weight.

Park & Oliva 2019, Meta-Curvature (https://arxiv.org/abs/1902.03356).
"""

from typing import Literal

from pydantic import Field

from metalearn_cli.core.gradient import gradient_learner
from metalearn_cli.core.inner_loop import InnerLoop
from metalearn_cli.core.meta import Learner, Problem, Traits
from metalearn_cli.core.rules import chain, curvature, fixed_rate
from metalearn_cli.settings import Choice, Steps


class Config(Choice):
    """All parameters move within a task, along gradients multiplied by learned matrices (first order learns them too).

    `inner_lr`: the rate on the multiplied gradient of the mean loss over the support set.
    `inner_steps` (steps): the number of inner steps in training.
    `second_order`: whether the meta-gradient goes through the inner gradients; false is the first-order form.
    """

    name: Literal["meta_curvature"] = "meta_curvature"
    inner_lr: float = Field(0.1, gt=0)
    inner_steps: Steps = 1
    second_order: bool = True


def build(config: Config, problem: Problem) -> Learner:
    """MAML with learned matrices for the outputs, inputs and places of every weight; they are coefficients of Meta."""
    loop = InnerLoop(problem, chain(curvature(), fixed_rate(config.inner_lr)), config.second_order)
    return gradient_learner(loop, Traits(config.inner_steps, config.second_order, problem.ways))
