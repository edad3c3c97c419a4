"""MAML and Proto-MAML on one task, written a second time without any part of the package: the other road.

Functional transforms of torch.func, or plain autograd at leaves alone, over torch's own functions, where the package
takes autograd through all inner steps and its own layers.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Params = dict[str, Tensor]


def conv4(params: Params, inputs: Tensor, pool: bool) -> Tensor:
    """The network of backbones/conv4.py, from the names of its parameters."""
    return conv4_features(params, inputs, pool) @ params["head.weight"].T + params["head.bias"]


def conv4_features(params: Params, inputs: Tensor, pool: bool) -> Tensor:
    """What its body makes of the inputs."""
    for block in range(4):
        number = block * (4 if pool else 3)
        inputs = F.conv2d(inputs, params[f"body.{number}.weight"], stride=1 if pool else 2, padding=1)
        mean, variance = inputs.mean((0, 2, 3)), inputs.var((0, 2, 3), correction=0)
        inputs = (inputs - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        weight, bias = params[f"body.{number + 1}.weight"], params[f"body.{number + 1}.bias"]
        inputs = (inputs * weight[:, None, None] + bias[:, None, None]).relu()
        inputs = F.max_pool2d(inputs, 2) if pool else inputs
    return inputs.flatten(1) if pool else inputs.mean((2, 3))


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


def proto_maml(
    features: Callable[[Params, Tensor], Tensor],
    body: Params,
    support: tuple[Tensor, Tensor],
    query: tuple[Tensor, Tensor],
    rate: float,
    steps: int,
    second_order: bool,
) -> tuple[Tensor, Params]:
    """Proto-MAML's query loss and its gradient for the body, for one task, by the chain rule written out.

    Every derivative is taken at fresh leaves: with H_k the Hessian of the support loss at theta_k, the cotangent of the
    query loss goes back by v_k = v_(k+1) - rate H_k v_(k+1), and at last through the map from the body to theta_0,
    which is the body and its head of prototypes (Triantafillou et al. 2020, section 3.3).
    """

    def leaves(params: Params) -> Params:
        return {name: value.detach().clone().requires_grad_() for name, value in params.items()}

    def loss(params: Params, examples: tuple[Tensor, Tensor]) -> Tensor:
        outputs = F.linear(features(params, examples[0]), params["head.weight"], params["head.bias"])
        return F.cross_entropy(outputs, examples[1])

    start = leaves(body)
    seen, ways = features(start, support[0]), int(support[1].max()) + 1
    centres = torch.stack([seen[support[1] == way].mean(0) for way in range(ways)])
    first = {**start, "head.weight": 2 * centres, "head.bias": -(centres**2).sum(1)}
    passed = [leaves(first)]
    for _ in range(steps):
        slope = torch.autograd.grad(loss(passed[-1], support), list(passed[-1].values()))
        moved = {name: value - rate * one for (name, value), one in zip(passed[-1].items(), slope, strict=True)}
        passed.append(leaves(moved))
    result = loss(passed[-1], query)
    cotangent = list(torch.autograd.grad(result, list(passed[-1].values())))
    for at in reversed(passed[:-1] if second_order else []):
        slope = torch.autograd.grad(loss(at, support), list(at.values()), create_graph=True)
        products = torch.autograd.grad(slope, list(at.values()), cotangent)
        cotangent = [one - rate * other for one, other in zip(cotangent, products, strict=True)]
    found = torch.autograd.grad(list(first.values()), list(start.values()), cotangent)
    return result.detach(), dict(zip(start, found, strict=True))
