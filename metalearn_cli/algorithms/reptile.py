"""Reptile: moves the initialisation towards the adapted weights of each task; it needs no second derivatives.

Nichol, Achiam & Schulman 2018, On First-Order Meta-Learning Algorithms (https://arxiv.org/abs/1803.02999), algorithm 2.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field

from metalearn_cli.core.gradient import gradient_learner
from metalearn_cli.core.inner_loop import InnerLoop, after
from metalearn_cli.core.meta import LAST, Learner, Meta, Problem, Scores, Traits, scores
from metalearn_cli.core.rules import adam, fixed_rate
from metalearn_cli.core.shared_parameters import summed_over_tasks
from metalearn_cli.core.tasks import Task
from metalearn_cli.settings import Choice, Steps


class Config(Choice):
    """All parameters move within a task, and the initialisation moves towards where they end.

    The meta-gradient is (initial - adapted) weights, so `outer: {optimizer: sgd, lr: 1.0}` moves all the way to the
    mean of the adapted weights; in the paper this rate falls to 0. Reptile trains on the support set only, so give it
    more shots in training than in evaluation.

    `inner_lr`: the rate on the mean loss over the support set.
    `inner_steps` (steps): the number of inner steps in training.
    `inner_optimizer`: "adam" is Adam without momentum (beta1 = 0), as in the paper; "sgd" is plain gradient descent.
    """

    name: Literal["reptile"] = "reptile"
    inner_lr: float = Field(1e-3, gt=0)
    inner_steps: Annotated[Steps, Field(ge=1)] = 5
    inner_optimizer: Literal["adam", "sgd"] = "adam"


def build(config: Config, problem: Problem) -> Learner:
    """Reptile for all parameters: the meta-gradient is the sum over tasks of (initial - adapted) weights."""
    rule = adam(config.inner_lr) if config.inner_optimizer == "adam" else fixed_rate(config.inner_lr)
    loop = InnerLoop(problem, rule, second_order=False)

    def meta_gradient(meta: Meta, tasks: Task, iteration: int = LAST) -> tuple[Meta, Scores]:  # noqa: ARG001
        # No graph at all: the inner steps are never differentiated.
        with torch.no_grad():
            adapted = after(loop, meta, tasks.support, config.inner_steps)
            way = {name: summed_over_tasks(meta.params[name] - value) for name, value in adapted.params.items()}
            return Meta(way, {}), scores(learner, adapted, tasks.query)

    traits = Traits(config.inner_steps, second_order=False, ways=problem.ways)
    learner = gradient_learner(loop, traits)._replace(meta_gradient=meta_gradient)
    return learner
