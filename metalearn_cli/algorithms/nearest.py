"""No learning: the class whose support pictures are nearest to a query picture on average, pixel by pixel.

The yardstick below which nothing has been learned. It is Snell et al. 2017 (https://arxiv.org/abs/1703.05175) without
a network.
"""

from typing import Literal

import torch
from torch import Tensor

from metalearn_cli.core.heads import nearest_prototype, prototypes, require_classes
from metalearn_cli.core.meta import Adapted, Learner, Meta, Objective, Scores, Statistics, scores, unadapted
from metalearn_cli.core.network import Network
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.settings import Choice


class Config(Choice):
    """Nothing to choose, and nothing to train: one iteration is enough."""

    name: Literal["nearest"] = "nearest"


def build(
    _config: Config, network: Network, objective: Objective, _statistics: Statistics, _ways: int | None
) -> Learner:
    """Classes by the squared distance of inputs to the mean input of each class. The network is not used."""
    require_classes(objective, "nearest")

    def adapt(meta: Meta, support: Examples, steps: int) -> list[Adapted]:
        head = nearest_prototype(prototypes(support._replace(inputs=support.inputs.flatten(2))))
        # There are no inner steps: whoever asks for the state after some gets the one and only.
        return [Adapted({**unadapted(meta, support).params, **head}, support.inputs)] * (steps + 1)

    def predict(adapted: Adapted, inputs: Tensor) -> Tensor:
        return inputs.flatten(2) @ adapted.params["head.weight"].mT + adapted.params["head.bias"].unsqueeze(1)

    def meta_gradient(meta: Meta, tasks: Task) -> tuple[Meta, Scores]:
        still = {name: torch.zeros_like(value) for name, value in meta.params.items()}
        return Meta(still, {}), scores(learner, adapt(meta, tasks.support, 0)[0], tasks.query)

    learner = Learner(
        init=lambda: Meta(network.initial(), {}),
        adapt=adapt,
        predict=predict,
        meta_gradient=meta_gradient,
        objective=objective,
        inner_steps=0,
        second_order=None,
        ways=None,
        uses_network=False,
    )
    return learner
