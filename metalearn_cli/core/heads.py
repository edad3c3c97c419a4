"""Linear heads that are computed from the features of a support set, for any number of classes.

Legend: T tasks, N examples, W ways, F features.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metalearn_cli.core.meta import Meta, Problem
from metalearn_cli.core.objectives import Objective, classification
from metalearn_cli.core.tasks import Examples, ways_of
from metalearn_cli.errors import ConfigError, some_of
from metalearn_cli.layers.network import Network
from metalearn_cli.layers.passing import Params, Pass

HEAD = "head."
"""The prefix of a head's parameter names."""


def one_hot(seen: Examples) -> Tensor:
    """The targets 0..W-1 [T, N] as rows of zeros with a single one, [T, N, W], in the dtype of the inputs."""
    classes = torch.arange(ways_of(seen), device=seen.targets.device)
    return (seen.targets.unsqueeze(-1) == classes).to(seen.inputs.dtype)


def prototypes(seen: Examples) -> Tensor:
    """The prototypes c_k [T, W, F]: for each class the mean of its features, given as `seen.inputs` [T, N, F].

    Snell et al. 2017 (https://arxiv.org/abs/1703.05175), equation 1.

    >>> seen = Examples(torch.tensor([[[0.0], [2.0], [5.0]]]), torch.tensor([[0, 0, 1]]))  # one task, one feature
    >>> prototypes(seen).tolist()
    [[[1.0], [5.0]]]
    """
    # [T, W, N] @ [T, N, F] sums the features of each class; members.sum(1) is the number of examples per class.
    members = one_hot(seen)
    return members.mT @ seen.inputs / members.sum(1).unsqueeze(-1)


def nearest_prototype(centres: Tensor) -> Params:
    """The linear head whose softmax is that of the distances -|x - c_k|^2 to the prototypes c_k [T, W, F].

    Its outputs are 2 c_k . x - |c_k|^2 = -|x - c_k|^2 + |x|^2, and |x|^2 is the same for all classes, so the softmax
    does not see it (Snell et al. 2017, section 2.4).
    """
    return {"head.weight": 2 * centres, "head.bias": -centres.square().sum(-1)}


def ridge(seen: Examples, strength: Tensor) -> Params:
    """The head (weight and bias) that minimises |outputs - one-hot|^2 + strength |head|^2 on features [T, N, F].

    With the features X [N, F + 1], a column of ones among them for the bias, and one-hot targets Y [N, W], the head is
    X^T (X X^T + strength I)^-1 Y. By the Woodbury identity this solves a system of size N, the support set, and not
    of size F + 1 (Bertinetto et al. 2019, https://arxiv.org/abs/1805.08136, equation 6).
    """
    known = torch.cat([seen.inputs, torch.ones_like(seen.inputs[..., :1])], -1)
    gram = known @ known.mT + strength * torch.eye(known.shape[1], dtype=known.dtype, device=known.device)
    # solve_ex and not solve: solve waits for a GPU to check that the matrix is regular, and strength > 0 makes it so.
    both = known.mT @ torch.linalg.solve_ex(gram, one_hot(seen)).result
    # [T, F + 1, W]: the last row belongs to the column of ones, so it is the bias.
    return {"head.weight": both[:, :-1].mT, "head.bias": both[:, -1]}


def directions(features: Tensor) -> Tensor:
    """Features [..., F] scaled to length one; their product with a weight of length one is a cosine."""
    return F.normalize(features, dim=-1)


class CosineHead(nn.Linear):
    """A linear head that scales its inputs to length one before it multiplies (only classifiers from baseline++)."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs [N, W] for features [N, F] of any length."""
        return super().forward(directions(inputs))


def is_head(name: str) -> bool:
    """Whether the parameter `name` belongs to the head."""
    return name.startswith(HEAD)


def is_body(name: str) -> bool:
    """Whether the parameter `name` belongs to the body."""
    return not name.startswith(HEAD)


def from_zero(problem: Problem) -> Callable[[Meta, Params, Examples], Params]:
    """The `begin` for InnerLoop with which every task starts with a head of zeros and the meta-learned body.

    This is the zeroing trick (Kao et al. 2022, https://arxiv.org/abs/2106.15367, section 3): a meta-learned head fits
    the classes of other tasks, and the first inner steps would have to unlearn it. A head of zeros has a row for each
    class of the task, however many they are; in a regression it has the size of the meta-learned one.
    """
    if problem.objective is not classification:
        return lambda _meta, params, _support: with_zero_head(params)
    return _zeros_for_each_class


def _zeros_for_each_class(_meta: Meta, params: Params, support: Examples) -> Params:
    ways = ways_of(support)
    zeros = {name: at.new_zeros(len(at), ways, *at.shape[2:]) for name, at in params.items() if is_head(name)}
    return {**params, **zeros}


def after_the_head(name: str, step: int) -> bool:
    """A `pulls` for InnerLoop with a head that begins with equal rows, such as zeros: the body waits for one step.

    The gradient for the features is the sum, over the classes, of a row times (its probability - its target). These
    differences sum to zero, so with equal rows the gradient is zero; with zeros it is under any loss.
    """
    return step > 0 or not name.startswith("body.")


def with_zero_head(params: Params) -> Params:
    """The same parameters with zeros in the head."""
    return {name: torch.zeros_like(value) if is_head(name) else value for name, value in params.items()}


def support_features(problem: Problem, meta: Meta, params: Params, support: Examples) -> Examples:
    """The support set with its inputs replaced by the body's features [T, N, F]."""
    # With "running" the norms use training's moments here too; otherwise the support set's own.
    moments = meta.statistics if problem.statistics == "running" else None
    how = Pass(moments=moments, keys=support.keys, small=problem.network.runs_alone(support.inputs))
    return support._replace(inputs=problem.network.features(params, support.inputs, how))


def features_of(network: Network) -> int:
    """F, the number of features that the network's head reads."""
    return int(network.initial()["head.weight"].shape[1])


def require_room(classes: int, ways: int | None) -> None:
    """Raise ConfigError if the head for the training classes has fewer rows than a task has classes."""
    if ways is not None and classes < ways:
        raise ConfigError(f"algorithm.classes: found {classes}, expected at least the {ways} of task.ways")


def require_body(network: Network, learner: str, instead: str = "algorithm.name=maml") -> None:
    """Raise ConfigError if the network has no parameters before its head, as then `learner` could learn nothing.

    The message begins with `learner`, a setting such as "algorithm.name: protonet", and ends with `instead`, a setting
    that works.
    """
    if all(is_head(name) for name in network.initial()):
        raise ConfigError(
            f"{learner} learns what comes before the last layer, and this backbone has no parameters there; expected a "
            f"layer more, or {instead}"
        )


def require_zero_head(network: Network, name: str, inner_steps: int) -> None:
    """Raise ConfigError if the algorithm `name` could learn nothing from a head of zeros.

    It could not without inner steps, without a body, with several layers in the head, or with a weight of the head that
    is fixed (requires_grad=False).
    """
    if inner_steps == 0:
        raise ConfigError("algorithm.inner_steps: found 0, but a zero head learns nothing without inner steps")
    require_body(network, f"algorithm.zero_head: from a zero head {name}", "zero_head=false")
    require_moving_head(network, f"algorithm.zero_head: from a zero head {name}", "zero_head=false")


def require_moving_head(network: Network, learner: str, instead: str = "algorithm.name=maml") -> None:
    """Raise ConfigError if the head is not one linear layer whose weight moves, so that all its rows would stay equal.

    The message begins with `learner` and ends with `instead`, as that of `require_body`.
    """
    head = sorted(filter(is_head, network.initial()))
    if not {*head} <= {f"{HEAD}weight", f"{HEAD}bias"}:
        raise ConfigError(
            f"{learner} learns nothing through several layers; expected a head of one linear layer, or {instead}; "
            f"found the parameters {some_of(head, 4)}"
        )
    if f"{HEAD}weight" in network.fixed:
        raise ConfigError(
            f"{learner} learns through the last layer, and that of this backbone is fixed (requires_grad=False); "
            f"expected a head that moves, or {instead}"
        )


def require_classes(objective: Objective, name: str) -> None:
    """Raise ConfigError if the tasks are regression; the algorithm `name` can only classify."""
    if objective is not classification:
        raise ConfigError(f"algorithm.name: {name} is for classification; it cannot predict numbers")
