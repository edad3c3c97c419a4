"""Networks of torch's own layers, as people write them: two tasks at once equal one task at a time, in float64."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from metalearn_cli.backbones.custom import _with_own_norms
from metalearn_cli.layers.network import Network
from metalearn_cli.layers.passing import Pass
from metalearn_cli.testing import problems

ACTIVATIONS = {
    "relu": nn.ReLU, "leaky": lambda: nn.LeakyReLU(0.1), "turning": lambda: nn.LeakyReLU(-0.5), "elu": nn.ELU,
    "gelu": nn.GELU, "silu": nn.SiLU, "softplus": nn.Softplus, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid,
    "prelu": nn.PReLU, "hardtanh": nn.Hardtanh, "mish": nn.Mish, "selu": nn.SELU, "logsigmoid": nn.LogSigmoid,
    "softsign": nn.Softsign, "none": nn.Identity,
}  # fmt: skip
NORMS = {
    "batch": lambda: nn.BatchNorm2d(8), "groups": lambda: nn.GroupNorm(2, 8), "one group": lambda: nn.GroupNorm(1, 8),
    "layer": lambda: nn.LayerNorm([8, 7, 7]), "rms": lambda: nn.RMSNorm([8, 7, 7]),
    "local": lambda: nn.LocalResponseNorm(3), "none": nn.Identity,
}  # fmt: skip
CONVOLUTIONS = {
    "plain": lambda: nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False),
    "with a bias": lambda: nn.Conv2d(1, 8, 3, stride=2, padding=1),
    "dilated": lambda: nn.Conv2d(1, 8, 3, stride=2, padding=2, dilation=2),
    "reflecting": lambda: nn.Conv2d(1, 8, 3, stride=2, padding=1, padding_mode="reflect"),
    "separable": lambda: nn.Sequential(
        nn.Conv2d(1, 8, 1), nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False)
    ),
    "transposed": lambda: nn.Sequential(nn.Conv2d(1, 8, 4, stride=4), nn.ConvTranspose2d(8, 8, 3, 2, 0)),
}
POOLS = {
    "max": lambda: nn.MaxPool2d(2), "mean": lambda: nn.AvgPool2d(2), "adaptive": lambda: nn.AdaptiveAvgPool2d(3),
    "adaptive max": lambda: nn.AdaptiveMaxPool2d(3), "lp": lambda: nn.LPPool2d(2, 2),
    "shuffle": lambda: nn.Sequential(nn.PixelShuffle(2), nn.AvgPool2d(4)),
    "upsample": lambda: nn.Upsample(scale_factor=2),
}  # fmt: skip
COMBINATIONS = [
    *((convolution, norm, "relu", "mean") for convolution in CONVOLUTIONS for norm in NORMS),
    *(("plain", "batch", activation, pool) for activation in ACTIVATIONS for pool in ("max", "mean")),
    *(("plain", norm, "softplus", pool) for norm in ("batch", "groups") for pool in POOLS),
]


def built(convolution: str, norm: str, activation: str, pool: str) -> nn.Module:
    """Two convolutions with what follows them, in nn.Sequential, and a linear head."""
    body = nn.Sequential(
        CONVOLUTIONS[convolution](),
        NORMS[norm](),
        ACTIVATIONS[activation](),
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        NORMS[norm](),
        ACTIVATIONS[activation](),
        POOLS[pool](),
        nn.Flatten(),
    )
    with torch.no_grad():
        features = body(torch.rand(4, 1, 14, 14)).shape[1]
    return _with_own_norms(nn.Sequential(OrderedDict(body=body, head=nn.Linear(features, problems.WAYS))), {}).double()


def outcomes(network: Network, params: dict[str, Tensor], inputs: Tensor, how: Pass) -> list[Tensor]:
    """Outputs, first derivatives, and second ones of their squares."""
    at = {name: value.clone().requires_grad_() for name, value in params.items()}
    outputs = network(at, inputs, how)
    first = torch.autograd.grad(outputs.sin().sum(), list(at.values()), create_graph=True, materialize_grads=True)
    second = torch.autograd.grad(
        sum(one.square().sum() for one in first), list(at.values()), allow_unused=True, materialize_grads=True
    )
    return [outputs, *first, *second]


@pytest.mark.parametrize("how", [Pass(), Pass(reference=4)], ids=["of the batch", "of the support set"])
@pytest.mark.parametrize("combination", COMBINATIONS, ids=", ".join)
def test_two_tasks_at_once_equal_one_at_a_time(combination, how):
    network, generator = Network(built(*combination)), torch.Generator().manual_seed(1)
    params = {
        name: value + 0.1 * torch.randn(2, *value.shape, generator=generator, dtype=torch.float64)
        for name, value in network.initial().items()
    }
    inputs = torch.rand(2, 6, 1, 14, 14, generator=generator, dtype=torch.float64)
    together, alone = (outcomes(one, params, inputs, how) for one in (network, network.one_by_one()))
    for one, other in zip(together, alone, strict=True):
        scale = max(1.0, float(other.detach().abs().max()))
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9 * scale)
