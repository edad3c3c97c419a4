"""Reptile: move the initialisation towards the weights that each task ends in; no second derivative anywhere.

Nichol, Achiam & Schulman 2018, On First-Order Meta-Learning Algorithms (https://arxiv.org/abs/1803.02999), algorithm 2.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field

from metalearn_cli.core.gradient import gradient_learner
from metalearn_cli.core.inner_loop import InnerLoop, after, summed_over_tasks
from metalearn_cli.core.meta import LAST, Learner, Meta, Problem, Scores, Traits, scores
from metalearn_cli.core.rules import adam, fixed_rate
from metalearn_cli.core.tasks import Task
from metalearn_cli.settings import Choice, Steps


class Config(Choice):
    """All parameters move within a task, and the initialisation moves after them.

    The meta-gradient is (initial - adapted) weights, so `outer: {optimizer: sgd, lr: 1.0}` moves all the way to the
    mean of the adapted weights; the paper lets this rate fall to 0. It trains on the support set alone and wants more
    shots in training than in evaluation.

    `inner_lr`: the rate on the mean loss over the support set.
    `inner_steps` (steps): by how many a task is learned in training.
    `inner_optimizer`: Adam without momentum (beta1 = 0), as in the paper, or plain gradient steps ("sgd").
    """

    name: Literal["reptile"] = "reptile"
    inner_lr: float = Field(1e-3, gt=0)
    inner_steps: Annotated[Steps, Field(ge=1)] = 5
    inner_optimizer: Literal["adam", "sgd"] = "adam"


def build(config: Config, problem: Problem) -> Learner:
    """Reptile over all parameters."""
    rule = adam(config.inner_lr) if config.inner_optimizer == "adam" else fixed_rate(config.inner_lr)
    loop = InnerLoop(problem, rule, second_order=False)

    def meta_gradient(meta: Meta, tasks: Task, iteration: int = LAST) -> tuple[Meta, Scores]:  # noqa: ARG001
        with torch.no_grad():
            adapted = after(loop, meta, tasks.support, config.inner_steps)
            way = {name: summed_over_tasks(meta.params[name] - value) for name, value in adapted.params.items()}
            return Meta(way, {}), scores(learner, adapted, tasks.query)

    traits = Traits(config.inner_steps, second_order=False, ways=problem.ways)
    learner = gradient_learner(loop, traits)._replace(meta_gradient=meta_gradient)
    return learner
