"""ANIL ("almost no inner loop"): inner steps change only the head; training learns the features that it reads.

Raghu et al. 2020, Rapid Learning or Feature Reuse? (https://arxiv.org/abs/1909.09157).
"""

from typing import Literal

from pydantic import Field

from metalearn_cli.core.gradient import gradient_learner
from metalearn_cli.core.heads import from_zero, is_head, require_zero_head, with_zero_head
from metalearn_cli.core.inner_loop import InnerLoop
from metalearn_cli.core.meta import Learner, Problem, Traits
from metalearn_cli.core.rules import fixed_rate
from metalearn_cli.settings import Choice, Steps


class Config(Choice):
    """Only the head moves within a task.

    `inner_lr`: the head's rate on the mean loss over the support set.
    `inner_steps` (steps): the number of inner steps in training.
    `second_order`: whether the meta-gradient goes through the inner gradients; false is the first-order form.
    `zero_head`: whether the head starts at zero in every task (Kao et al. 2022, https://arxiv.org/abs/2106.15367)
        instead of at learned values; it then learns any number of classes.
    """

    name: Literal["anil"] = "anil"
    inner_lr: float = Field(0.4, gt=0)
    inner_steps: Steps = 5
    second_order: bool = True
    zero_head: bool = False


def build(config: Config, problem: Problem) -> Learner:
    """MAML with an inner loop that moves only the head.

    The body does not move within a task, so the features of a support set are computed once for all inner steps, and
    the meta-gradient (its second-order part too) goes through them once. This is exact, not an approximation.
    """
    rule, ways, start = fixed_rate(config.inner_lr), problem.ways, None
    loop = InnerLoop(problem, rule, config.second_order, moves=is_head, head_reads=lambda features: features)
    if config.zero_head:
        require_zero_head(problem.network, "anil", config.inner_steps)
        loop, ways = loop._replace(begin=from_zero(problem)), None
        start = with_zero_head(problem.network.initial())
    return gradient_learner(loop, Traits(config.inner_steps, config.second_order, ways), params=start)
