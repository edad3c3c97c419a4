"""Reptile: move the initialisation towards the weights that each task ends in; no second derivative anywhere.

Nichol, Achiam & Schulman 2018, On First-Order Meta-Learning Algorithms (https://arxiv.org/abs/1803.02999), algorithm 2.
"""

from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field

from metalearn_cli.core.meta import (
    Adapted,
    InnerLoop,
    Learner,
    Meta,
    Objective,
    Scores,
    Statistics,
    predict,
    scores,
    summed_over_tasks,
    support_gradient,
    unadapted,
)
from metalearn_cli.core.network import Network, Params
from metalearn_cli.core.rules import fixed_rate
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.settings import Choice, Steps

_DECAY, _EPSILON = 0.999, 1e-8


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


def build(config: Config, network: Network, objective: Objective, statistics: Statistics, ways: int | None) -> Learner:
    """Reptile over all parameters."""
    loop = InnerLoop(network, objective, fixed_rate(config.inner_lr), second_order=False)
    step = _adam if config.inner_optimizer == "adam" else _sgd

    def adapt(meta: Meta, support: Examples, steps: int) -> list[Adapted]:
        states = [unadapted(meta, support)]
        squares = {name: torch.zeros_like(value) for name, value in states[0].params.items()}
        for number in range(1, steps + 1):
            grads = support_gradient(loop, states[-1].params, {}, support)
            params, squares = step(config.inner_lr, states[-1].params, grads, squares, number)
            states.append(Adapted(params, support.inputs))
        return states

    def meta_gradient(meta: Meta, tasks: Task) -> tuple[Meta, Scores]:
        with torch.no_grad():
            adapted = adapt(meta, tasks.support, config.inner_steps)[-1]
            way = {name: summed_over_tasks(meta.params[name] - value) for name, value in adapted.params.items()}
            return Meta(way, {}), scores(learner, adapted, tasks.query)

    learner = Learner(
        init=lambda: Meta(network.initial(), {}),
        adapt=adapt,
        predict=partial(predict, network, statistics),
        meta_gradient=meta_gradient,
        objective=objective,
        inner_steps=config.inner_steps,
        second_order=False,
        ways=ways,
    )
    return learner


def _sgd(rate: float, params: Params, grads: Params, squares: Params, _number: int) -> tuple[Params, Params]:
    return {name: value - rate * grads[name] for name, value in params.items()}, squares


def _adam(rate: float, params: Params, grads: Params, squares: Params, number: int) -> tuple[Params, Params]:
    """Adam (Kingma & Ba 2015, algorithm 1) with beta1 = 0: every task starts with empty second moments."""
    squares = {name: _DECAY * value + (1 - _DECAY) * grads[name].square() for name, value in squares.items()}
    correction = 1 - _DECAY**number
    moved = {
        name: value - rate * grads[name] / ((squares[name] / correction).sqrt() + _EPSILON)
        for name, value in params.items()
    }
    return moved, squares
