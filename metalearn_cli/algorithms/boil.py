"""BOIL: body only inner loop; the head stays as it was meta-learned, and the features move towards it.

Oh et al. 2021, BOIL: Towards Representation Change for Few-shot Learning (https://arxiv.org/abs/2008.08882).
"""

from typing import Literal

from pydantic import Field

from metalearn_cli.core.gradient import through_rule
from metalearn_cli.core.heads import HEAD, require_body
from metalearn_cli.core.meta import Learner, Objective, Statistics
from metalearn_cli.core.network import Network
from metalearn_cli.core.rules import fixed_rate
from metalearn_cli.settings import Choice, Steps


class Config(Choice):
    """Everything but the head moves within a task; by default one step at 0.5, as in the paper.

    `inner_lr`: the rate of the body on the mean loss over the support set.
    `inner_steps` (steps): by how many a task is learned in training.
    `second_order`: whether the meta-gradient goes through the inner gradients; false is the first-order form.
    """

    name: Literal["boil"] = "boil"
    inner_lr: float = Field(0.5, gt=0)
    inner_steps: Steps = 1
    second_order: bool = True


def build(config: Config, network: Network, objective: Objective, statistics: Statistics, ways: int | None) -> Learner:
    """MAML whose inner loop moves everything but the head."""
    require_body(network, "algorithm.name: boil")
    rule = fixed_rate(config.inner_lr)
    return through_rule(
        rule,
        network,
        objective,
        statistics,
        config.inner_steps,
        config.second_order,
        ways,
        lambda name: not name.startswith(HEAD),
    )
