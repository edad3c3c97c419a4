"""MAML: learns an initialisation from which a few gradient steps learn a new task.

Finn, Abbeel & Levine 2017, Model-Agnostic Meta-Learning (https://arxiv.org/abs/1703.03400), algorithms 1 and 2.
"""

from typing import Literal

from pydantic import Field

from metalearn_cli.core.gradient import gradient_learner, mixed_mode
from metalearn_cli.core.heads import after_the_head, from_zero, require_zero_head, with_zero_head
from metalearn_cli.core.inner_loop import InnerLoop
from metalearn_cli.core.meta import Adapted, Learner, Problem, Scores, Traits, scores
from metalearn_cli.core.rules import fixed_rate
from metalearn_cli.core.tasks import Task
from metalearn_cli.settings import Choice, Steps


class Config(Choice):
    """All parameters move within a task.

    `inner_lr`: the rate on the mean loss over the support set. The paper's code sums the loss over the examples and
        divides by the shots, so its loss is `ways` times larger; its rates 0.4, 0.1 and 0.01 are 2.0, 2.0 and 0.05
        here.
    `inner_steps` (steps): the number of inner steps in training.
    `second_order`: whether the meta-gradient goes through the inner gradients; false is the first-order form.
    `gradient`: "mixed" gives the same meta-gradient as "reverse" to rounding; its memory hardly grows with
        `inner_steps`, and a step takes up to twice as long.
    `zero_head`: whether the head starts at zero in every task (Kao et al. 2022, https://arxiv.org/abs/2106.15367)
        instead of at learned values; it then learns any number of classes.
    """

    name: Literal["maml"] = "maml"
    inner_lr: float = Field(0.4, gt=0)
    inner_steps: Steps = 1
    second_order: bool = True
    gradient: Literal["reverse", "mixed"] = "reverse"
    zero_head: bool = False


def build(config: Config, problem: Problem) -> Learner:
    """MAML with its first- or second-order meta-gradient."""
    loop, ways, start = InnerLoop(problem, fixed_rate(config.inner_lr), config.second_order), problem.ways, None
    if config.zero_head:
        require_zero_head(problem.network, "maml", config.inner_steps)
        loop, ways = loop._replace(begin=from_zero(problem), pulls=after_the_head), None
        # The stored head is zero too, so that a checkpoint shows the head that every task starts from.
        start = with_zero_head(problem.network.initial())
    learner = gradient_learner(loop, Traits(config.inner_steps, config.second_order, ways), params=start)
    if config.gradient == "reverse":
        return learner

    def query_scores(adapted: Adapted, tasks: Task) -> Scores:
        return scores(learner, adapted, tasks.query)

    return learner._replace(meta_gradient=mixed_mode(loop, config.inner_steps, query_scores))
