"""R2D2: ridge regression on meta-learned features, solved in closed form for every task.

Bertinetto, Henriques, Torr & Vedaldi 2019, Meta-learning with Differentiable Closed-form Solvers
(https://arxiv.org/abs/1805.08136).
"""

from typing import Literal

import torch
from pydantic import Field

from metalearn_cli.core.gradient import through_adaptation
from metalearn_cli.core.heads import require_classes, ridge
from metalearn_cli.core.meta import Adapted, Learner, Meta, Objective, Statistics, unadapted
from metalearn_cli.core.network import Network
from metalearn_cli.core.tasks import Examples
from metalearn_cli.settings import Choice


class Config(Choice):
    """Where the learned numbers of the ridge regression start.

    `ridge`: the strength of the penalty.
    `scale`: multiplies outputs: the regression aims at 0 and 1, which a softmax hardly tells apart (equation 7).
    """

    name: Literal["r2d2"] = "r2d2"
    ridge: float = Field(1.0, gt=0)
    scale: float = Field(10.0, gt=0)


def build(config: Config, network: Network, objective: Objective, statistics: Statistics, _ways: int | None) -> Learner:
    """A ridge head on the network's features; the network's own head is not used.

    Penalty and scale are learned as logarithms, which keeps them positive.
    """
    require_classes(objective, "r2d2")

    def init() -> Meta:
        starts = {"log_ridge": config.ridge, "log_scale": config.scale}
        return Meta(network.initial(), {name: torch.tensor(value).log() for name, value in starts.items()})

    def adapt(meta: Meta, support: Examples, steps: int) -> list[Adapted]:
        start = unadapted(meta, support)
        features = support._replace(inputs=network.features(start.params, support.inputs))
        strength, scale = meta.coefficients["log_ridge"].exp(), meta.coefficients["log_scale"].exp()
        head = {name: scale * value for name, value in ridge(features, strength).items()}
        # There are no inner steps: whoever asks for the state after some gets the one and only.
        return [Adapted({**start.params, **head}, support.inputs)] * (steps + 1)

    return through_adaptation(init, adapt, network, objective, statistics, 0, None, None)
