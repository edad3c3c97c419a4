"""R2D2: ridge regression on meta-learned features, solved in closed form for every task.

Bertinetto, Henriques, Torr & Vedaldi 2019, Meta-learning with Differentiable Closed-form Solvers
(https://arxiv.org/abs/1805.08136).
"""

import math
from typing import Literal

import torch
from pydantic import Field

from metalearn_cli.core.gradient import gradient_learner
from metalearn_cli.core.heads import require_classes, ridge, support_features
from metalearn_cli.core.inner_loop import InnerLoop, nothing
from metalearn_cli.core.meta import Learner, Meta, Problem, Traits
from metalearn_cli.core.tasks import Examples
from metalearn_cli.layers.passing import Params
from metalearn_cli.settings import Choice


class Config(Choice):
    """The initial values of two learned numbers of the ridge regression.

    `ridge`: the strength of the penalty.
    `scale`: a factor on the outputs: the regression aims at 0 and 1, which a softmax hardly tells apart (equation 7).
    """

    name: Literal["r2d2"] = "r2d2"
    ridge: float = Field(1.0, gt=0)
    scale: float = Field(10.0, gt=0)


def build(config: Config, problem: Problem) -> Learner:
    """A ridge regression head on the network's features; the network's own head is not used.

    Penalty and scale are coefficients of Meta, learned as logarithms, which keeps them positive.
    """
    require_classes(problem.objective, "r2d2")

    def begin(meta: Meta, params: Params, support: Examples) -> Params:
        strength, scale = meta.coefficients["log_ridge"].exp(), meta.coefficients["log_scale"].exp()
        head = ridge(support_features(problem, meta, params, support), strength)
        # Scaling the head scales the outputs, so the adapted learner needs nothing but a linear head.
        return params | {name: scale * value for name, value in head.items()}

    starts = {"log_ridge": config.ridge, "log_scale": config.scale}
    coefficients = {name: torch.tensor(math.log(value)) for name, value in starts.items()}
    return gradient_learner(InnerLoop(problem, moves=nothing, begin=begin), Traits(), coefficients)
