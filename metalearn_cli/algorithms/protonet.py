"""Prototypical networks: a query gets the class whose prototype, the mean of its support features, is nearest.

Snell, Swersky & Zemel 2017, Prototypical Networks for Few-shot Learning (https://arxiv.org/abs/1703.05175).
"""

from typing import Literal

from metalearn_cli.core.gradient import gradient_learner
from metalearn_cli.core.heads import nearest_prototype, prototypes, require_body, require_classes, support_features
from metalearn_cli.core.inner_loop import InnerLoop, nothing
from metalearn_cli.core.meta import Learner, Meta, Problem, Traits
from metalearn_cli.core.tasks import Examples
from metalearn_cli.layers.passing import Params
from metalearn_cli.settings import Choice


class Config(Choice):
    """It has no settings and learns any number of classes; the paper trains with more `task.ways` than it tests."""

    name: Literal["protonet"] = "protonet"


def build(_config: Config, problem: Problem) -> Learner:
    """A classifier by the squared Euclidean distance of features to the prototypes (equation 2).

    Such a classifier equals a linear head (section 2.4), and an adapted learner holds this head. The network's
    own head is not used.
    """
    require_classes(problem.objective, "protonet")
    require_body(problem.network, "algorithm.name: protonet")

    def begin(meta: Meta, params: Params, support: Examples) -> Params:
        return params | nearest_prototype(prototypes(support_features(problem, meta, params, support)))

    return gradient_learner(InnerLoop(problem, moves=nothing, begin=begin), Traits())
