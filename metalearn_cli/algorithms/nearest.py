"""Nearest: no learning; a query gets the class whose mean support picture is nearest to it, pixel by pixel.

A learner that is no better than this has learned nothing. It is ProtoNet (Snell et al. 2017,
https://arxiv.org/abs/1703.05175) without a network.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from metalearn_cli.core.gradient import gradient_learner
from metalearn_cli.core.heads import nearest_prototype, prototypes, require_classes
from metalearn_cli.core.inner_loop import InnerLoop, nothing
from metalearn_cli.core.meta import LAST, Adapted, Learner, Meta, Problem, Scores, Traits, scores
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.layers.passing import Params
from metalearn_cli.settings import Choice


class Config(Choice):
    """It has no settings and trains nothing: one iteration is enough."""

    name: Literal["nearest"] = "nearest"


def build(_config: Config, problem: Problem) -> Learner:
    """A classifier by the squared distance of an input to the mean input of each class; it never uses the network."""
    require_classes(problem.objective, "nearest")

    def begin(_meta: Meta, params: Params, support: Examples) -> Params:
        return params | nearest_prototype(prototypes(support._replace(inputs=support.inputs.flatten(2))))

    def predict(states: Sequence[Adapted], inputs: Tensor, collected: Params | None = None) -> list[Tensor]:  # noqa: ARG001
        # The head of prototypes reads flattened pixels [T, N, C * H * W] in the place of features.
        pixels = inputs.flatten(2)
        return [pixels @ one.params["head.weight"].mT + one.params["head.bias"].unsqueeze(1) for one in states]

    def meta_gradient(meta: Meta, tasks: Task, iteration: int = LAST) -> tuple[Meta, Scores]:  # noqa: ARG001
        still = {name: torch.zeros_like(value) for name, value in meta.params.items()}
        return Meta(still, {}), scores(learner, learner.adapt(meta, tasks.support, 0)[0], tasks.query)

    loop = InnerLoop(problem, moves=nothing, begin=begin)
    learner = gradient_learner(loop, Traits(reads="pixels"))._replace(predict=predict, meta_gradient=meta_gradient)
    return learner
