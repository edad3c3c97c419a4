"""Linear heads made from a support set's features, for any number of classes.

Legend: T tasks, N examples, W ways, F features.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metalearn_cli.core.meta import Adapted, Learner, Meta, Objective, Scores, Statistics, classification, predict
from metalearn_cli.core.network import Network, Params
from metalearn_cli.core.tasks import Examples, Task, ways_of
from metalearn_cli.errors import ConfigError

HEAD = "head."
"""What the names of a head's parameters start with."""


def one_hot(seen: Examples) -> Tensor:
    """The targets 0..W-1 [T, N] of examples as [T, N, W], in the type of the inputs."""
    classes = torch.arange(ways_of(seen), device=seen.targets.device)
    return (seen.targets.unsqueeze(-1) == classes).to(seen.inputs.dtype)


def prototypes(seen: Examples) -> Tensor:
    """The mean features [T, W, F] of each class of features [T, N, F] with targets 0..W-1 [T, N].

    Snell et al. 2017 (https://arxiv.org/abs/1703.05175), equation 1.
    """
    members = one_hot(seen)
    return members.mT @ seen.inputs / members.sum(1).unsqueeze(-1)


def nearest_prototype(centres: Tensor) -> Params:
    """The head whose outputs are -|x - c_k|^2 + |x|^2 for prototypes [T, W, F] (Snell et al. 2017, section 2.4)."""
    return {"head.weight": 2 * centres, "head.bias": -centres.square().sum(-1)}


def ridge(seen: Examples, strength: Tensor) -> Params:
    """The head that minimises |outputs - one-hot|^2 + strength |head|^2 on features [T, N, F], bias included.

    By the Woodbury identity the system to solve has the size of the support set, not of the features
    (Bertinetto et al. 2019, https://arxiv.org/abs/1805.08136, equation 6).
    """
    known = torch.cat([seen.inputs, torch.ones_like(seen.inputs[..., :1])], -1)
    gram = known @ known.mT + strength * torch.eye(known.shape[1], dtype=known.dtype, device=known.device)
    both = known.mT @ torch.linalg.solve_ex(gram, one_hot(seen)).result
    return {"head.weight": both[:, :-1].mT, "head.bias": both[:, -1]}


def directions(features: Tensor) -> Tensor:
    """Features [..., F] with length one, so that a product with weights of length one is a cosine."""
    return F.normalize(features, dim=-1)


class CosineHead(nn.Linear):
    """A linear head that reads directions."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs [N, W] for features [N, F]."""
        return super().forward(directions(inputs))


def from_zero(learner: Learner) -> Learner:
    """The same learner, whose head is zero before the first inner step of every task, whatever its parameters say.

    The zeroing trick (Kao et al. 2022, https://arxiv.org/abs/2106.15367, section 3): what a head has learned from
    other tasks, of other classes, only has to be unlearned.
    """

    def zeroed(meta: Meta) -> Meta:
        names = [name for name in meta.params if name.startswith(HEAD)]
        return meta._replace(params=meta.params | {name: torch.zeros_like(meta.params[name]) for name in names})

    def meta_gradient(meta: Meta, tasks: Task) -> tuple[Meta, Scores]:
        gradient, scores = learner.meta_gradient(zeroed(meta), tasks)
        return zeroed(gradient), scores

    return learner._replace(
        init=lambda: zeroed(learner.init()),
        adapt=lambda meta, support, steps: learner.adapt(zeroed(meta), support, steps),
        meta_gradient=meta_gradient,
    )


def from_one_body(
    features: Callable[[Params, Tensor], Tensor], classify: Callable[[Params, Tensor], Tensor], statistics: Statistics
) -> Callable[[Sequence[Adapted], Tensor], list[Tensor]]:
    """The `predict_each` of a learner whose inner steps move its head alone: features are computed once."""

    def predict_each(states: Sequence[Adapted], inputs: Tensor) -> list[Tensor]:
        seen = predict(features, statistics, states[0], inputs)
        return [classify(state.params, seen) for state in states]

    return predict_each


def require_room(classes: int, ways: int | None) -> None:
    """Raise ConfigError where a head has fewer rows for the training classes than a task has classes."""
    if ways is not None and classes < ways:
        raise ConfigError(f"algorithm.classes: found {classes}, expected at least the {ways} of task.ways")


def require_body(network: Network, learner: str, instead: str = "algorithm.name=maml") -> None:
    """Raise ConfigError unless a network has parameters before its head: all that this learner could learn.

    `learner` begins with a setting such as "algorithm.name: protonet"; `instead` is one that would do.
    """
    if all(name.startswith(HEAD) for name in network.initial()):
        raise ConfigError(
            f"{learner} learns what comes before the last layer, and this backbone has no parameters there; expected a "
            f"layer more, or {instead}"
        )


def require_classes(objective: Objective, name: str) -> None:
    """Raise ConfigError unless the task is to tell classes apart."""
    if objective is not classification:
        raise ConfigError(f"algorithm.name: {name} tells classes apart; it cannot predict numbers")
