"""BOIL ("body only update in inner loop"): inner steps change the body; the meta-learned head stays fixed in a task.

Oh et al. 2021, BOIL: Towards Representation Change for Few-shot Learning (https://arxiv.org/abs/2008.08882).
"""

from typing import Literal

from pydantic import Field

from metalearn_cli.core.gradient import gradient_learner
from metalearn_cli.core.heads import is_body, require_body
from metalearn_cli.core.inner_loop import InnerLoop
from metalearn_cli.core.meta import Learner, Problem, Traits
from metalearn_cli.core.rules import fixed_rate
from metalearn_cli.settings import Choice, Steps


class Config(Choice):
    """Everything but the head moves within a task; by default in one step with a rate of 0.5, as in the paper.

    `inner_lr`: the body's rate on the mean loss over the support set.
    `inner_steps` (steps): the number of inner steps in training.
    `second_order`: whether the meta-gradient goes through the inner gradients; false is the first-order form.
    """

    name: Literal["boil"] = "boil"
    inner_lr: float = Field(0.5, gt=0)
    inner_steps: Steps = 1
    second_order: bool = True


def build(config: Config, problem: Problem) -> Learner:
    """MAML with an inner loop that moves everything but the head."""
    require_body(problem.network, "algorithm.name: boil")
    loop = InnerLoop(problem, fixed_rate(config.inner_lr), config.second_order, moves=is_body)
    return gradient_learner(loop, Traits(config.inner_steps, config.second_order, problem.ways))
