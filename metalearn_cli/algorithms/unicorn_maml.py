"""UNICORN-MAML: MAML with one meta-learned head row for all classes, so the order of the classes cannot matter.

Ye & Chao 2022, How to Train Your MAML to Excel in Few-Shot Classification (https://arxiv.org/abs/2106.16245).
"""

from typing import Annotated, Literal

from pydantic import Field

from metalearn_cli.core.gradient import gradient_learner
from metalearn_cli.core.heads import after_the_head, is_head, require_body, require_classes, require_moving_head
from metalearn_cli.core.inner_loop import InnerLoop
from metalearn_cli.core.meta import Learner, Meta, Problem, Traits
from metalearn_cli.core.rules import fixed_rate
from metalearn_cli.core.tasks import Examples, ways_of
from metalearn_cli.layers.passing import Params
from metalearn_cli.settings import Choice, Steps


class Config(Choice):
    """All parameters move within a task; at its start all rows of the head are equal.

    The paper's figures are those of first-order gradients (its code has no second order) and a pretrained network.

    `inner_lr`: the rate on the mean loss over the support set.
    `inner_steps` (steps): the number of inner steps in training.
    `second_order`: whether the meta-gradient goes through the inner gradients; false is the first-order form.
    """

    name: Literal["unicorn_maml"] = "unicorn_maml"
    inner_lr: float = Field(0.1, gt=0)
    inner_steps: Annotated[Steps, Field(ge=1)] = 5
    second_order: bool = True


def build(config: Config, problem: Problem) -> Learner:
    """MAML with a head of equal rows: each task copies one learned row for each of its classes (section 5)."""
    require_classes(problem.objective, "unicorn_maml")
    require_body(problem.network, "algorithm.name: unicorn_maml")
    require_moving_head(problem.network, "algorithm.name: unicorn_maml")
    rule = fixed_rate(config.inner_lr)
    loop = InnerLoop(problem, rule, config.second_order, begin=_copied, pulls=after_the_head)
    # Meta holds a single head row; its gradient is the sum of those of all copies.
    one_row = {name: value[:1] if is_head(name) else value for name, value in problem.network.initial().items()}
    return gradient_learner(loop, Traits(config.inner_steps, config.second_order), params=one_row)


def _copied(_meta: Meta, params: Params, support: Examples) -> Params:
    """The parameters with the head's one row [T, 1, ...] repeated for each class, [T, ways, ...]."""
    ways = ways_of(support)
    return {
        name: value.expand(value.shape[0], ways, *value.shape[2:]) if is_head(name) else value
        for name, value in params.items()
    }
