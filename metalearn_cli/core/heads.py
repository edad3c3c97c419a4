"""Linear heads made from a support set's features, for any number of classes.

Legend: T tasks, N examples, W ways, F features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metalearn_cli.core.meta import Meta, Objective, Problem, classification
from metalearn_cli.core.tasks import Examples, ways_of
from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.network import Network
from metalearn_cli.layers.passing import Params, Pass

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


def is_head(name: str) -> bool:
    """Whether a parameter is one of the head's."""
    return name.startswith(HEAD)


def is_body(name: str) -> bool:
    """Whether a parameter is one of the body's."""
    return not name.startswith(HEAD)


def from_zero(_meta: Meta, params: Params, _examples: Examples) -> Params:
    """A task begins with a head of zeros, whatever was learned for it (`begin` of an InnerLoop).

    The zeroing trick (Kao et al. 2022, https://arxiv.org/abs/2106.15367, section 3): what a head has learned from
    other tasks, of other classes, only has to be unlearned.
    """
    return with_zero_head(params)


def with_zero_head(params: Params) -> Params:
    """The same parameters, those of the head zero."""
    return {name: torch.zeros_like(value) if is_head(name) else value for name, value in params.items()}


def support_features(problem: Problem, meta: Meta, params: Params, support: Examples) -> Examples:
    """The support set with the body's features [T, N, F] in the place of its inputs."""
    moments = meta.statistics if problem.statistics == "running" else None
    how = Pass(moments=moments, keys=support.keys)
    return support._replace(inputs=problem.network.features(params, support.inputs, how))


def features_of(network: Network) -> int:
    """F, how many features the network's head reads."""
    return int(network.initial()["head.weight"].shape[1])


def require_room(classes: int, ways: int | None) -> None:
    """Raise ConfigError where a head has fewer rows for the training classes than a task has classes."""
    if ways is not None and classes < ways:
        raise ConfigError(f"algorithm.classes: found {classes}, expected at least the {ways} of task.ways")


def require_body(network: Network, learner: str, instead: str = "algorithm.name=maml") -> None:
    """Raise ConfigError unless a network has parameters before its head: all that this learner could learn.

    `learner` begins with a setting such as "algorithm.name: protonet"; `instead` is one that would do.
    """
    if all(is_head(name) for name in network.initial()):
        raise ConfigError(
            f"{learner} learns what comes before the last layer, and this backbone has no parameters there; expected a "
            f"layer more, or {instead}"
        )


def require_steps(inner_steps: int) -> None:
    """Raise ConfigError where a head that starts at zero would never learn anything."""
    if inner_steps == 0:
        raise ConfigError("algorithm.inner_steps: from a zero head nothing is learned without inner steps; found 0")


def require_classes(objective: Objective, name: str) -> None:
    """Raise ConfigError unless the task is to tell classes apart."""
    if objective is not classification:
        raise ConfigError(f"algorithm.name: {name} tells classes apart; it cannot predict numbers")
