"""Proto-MAML: MAML with a head that is not meta-learned: in each task it starts at the task's prototypes.

Triantafillou et al. 2020, Meta-Dataset (https://arxiv.org/abs/1903.03096), section 3.3.
"""

from typing import Literal

from pydantic import Field

from metalearn_cli.core.gradient import gradient_learner
from metalearn_cli.core.heads import nearest_prototype, prototypes, require_body, require_classes, support_features
from metalearn_cli.core.inner_loop import InnerLoop
from metalearn_cli.core.meta import Learner, Meta, Problem, Traits
from metalearn_cli.core.rules import fixed_rate
from metalearn_cli.core.tasks import Examples
from metalearn_cli.layers.passing import Params
from metalearn_cli.settings import Choice, Steps


class Config(Choice):
    """All parameters move within a task, from a head of prototypes.

    `inner_lr`: the rate on the mean loss over the support set.
    `inner_steps` (steps): the number of inner steps in training.
    `second_order`: whether the meta-gradient goes through the inner gradients; false is the first-order form.
    """

    name: Literal["proto_maml"] = "proto_maml"
    inner_lr: float = Field(0.1, gt=0)
    inner_steps: Steps = 5
    second_order: bool = True


def build(config: Config, problem: Problem) -> Learner:
    """MAML that starts each task with the head weight 2 c_k and bias -|c_k|^2 for the prototypes c_k.

    The meta-gradient goes through this head into the body, in first order too.
    """
    require_classes(problem.objective, "proto_maml")
    require_body(problem.network, "algorithm.name: proto_maml")

    def begin(meta: Meta, params: Params, support: Examples) -> Params:
        return params | nearest_prototype(prototypes(support_features(problem, meta, params, support)))

    loop = InnerLoop(problem, fixed_rate(config.inner_lr), config.second_order, begin=begin)
    return gradient_learner(loop, Traits(config.inner_steps, config.second_order))
