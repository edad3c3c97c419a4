"""MAML on one task, written a second time without any part of the package: the other road to every gradient.

Functional transforms of torch.func over plain `nn` layers, where the package takes autograd over its own layers.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Params = dict[str, Tensor]


def conv4(params: Params, inputs: Tensor, pool: bool) -> Tensor:
    """The network of backbones/conv4.py, from the names of its parameters."""
    for block in range(4):
        number = block * (4 if pool else 3)
        inputs = F.conv2d(inputs, params[f"body.{number}.weight"], stride=1 if pool else 2, padding=1)
        mean, variance = inputs.mean((0, 2, 3)), inputs.var((0, 2, 3), correction=0)
        inputs = (inputs - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        weight, bias = params[f"body.{number + 1}.weight"], params[f"body.{number + 1}.bias"]
        inputs = (inputs * weight[:, None, None] + bias[:, None, None]).relu()
        inputs = F.max_pool2d(inputs, 2) if pool else inputs
    features = inputs.flatten(1) if pool else inputs.mean((2, 3))
    return features @ params["head.weight"].T + params["head.bias"]


def meta_gradient(
    network: Callable[[Params, Tensor], Tensor],
    params: Params,
    support: tuple[Tensor, Tensor],
    query: tuple[Tensor, Tensor],
    rate: float,
    steps: int,
    second_order: bool,
) -> Params:
    """The gradient of the query loss after `steps` inner steps for one task without a leading T."""

    def loss(params: Params, examples: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(network(params, examples[0]), examples[1])

    def outer(params: Params) -> Tensor:
        for _ in range(steps):
            grads = torch.func.grad(loss)(params, support)
            if not second_order:
                grads = {name: value.detach() for name, value in grads.items()}
            params = {name: value - rate * grads[name] for name, value in params.items()}
        return loss(params, query)

    return torch.func.grad(outer)(params)
