"""How wrong torch's second-order meta-gradient is where `vmap` runs over tasks and norms adapt: two steps, float64.

    python -m benchmarks.norm_under_vmap

Printed for each norm: the relative difference between all tasks in one vmap and one task after the other, whose
gradient finite differences confirm. Nothing of the package is used.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

TASKS, WAYS, QUERIES, SIDE, CHANNELS = 4, 5, 3, 12, 8
RATES, STEPS = (0.1, 0.4, 2.0), (1, 5)
NORMS = {
    "batch_norm(x, weight, bias)": lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
    "batch_norm(x) * weight + bias": lambda x, w, b: (
        F.batch_norm(x, None, None, training=True) * w[:, None, None] + b[:, None, None]
    ),
    "instance_norm(x, weight, bias)": lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
    "group_norm(x, weight, bias)": lambda x, w, b: F.group_norm(x, 2, w, b),
}
Params = dict[str, Tensor]


class Norm(nn.Module):
    """A norm whose weight and bias are parameters."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(CHANNELS) + 0.5), nn.Parameter(torch.randn(CHANNELS) / 10)
        self.norm = NORMS[name]

    def forward(self, inputs: Tensor) -> Tensor:
        return self.norm(inputs, self.weight, self.bias)


def network(name: str) -> nn.Module:
    """Two convolutions with a smooth nonlinearity, so that finite differences can tell."""
    torch.manual_seed(1)
    layers: list[nn.Module] = []
    for channels in (1, CHANNELS):
        layers += [nn.Conv2d(channels, CHANNELS, 3, 2, 1, bias=False), Norm(name), nn.Softplus()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, WAYS)).double()


def differences(name: str, steps: int, rate: float) -> tuple[float, float]:
    """Relative difference of the vmapped gradient, and of the loop's from finite differences along one direction."""
    module = network(name)
    params = {key: value.detach() for key, value in module.named_parameters()}
    xs, xq = (torch.rand(TASKS, WAYS * n, 1, SIDE, SIDE, dtype=torch.float64) for n in (1, QUERIES))
    ys, yq = (torch.arange(WAYS).repeat(TASKS, n) for n in (1, QUERIES))

    def loss(at: Params, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(module, at, (x,)), y)

    def after(start: Params, xs: Tensor, ys: Tensor, xq: Tensor, yq: Tensor) -> Tensor:
        fast = start
        for _ in range(steps):
            grads = grad(loss)(fast, xs, ys)
            fast = {key: value - rate * grads[key] for key, value in fast.items()}
        return loss(fast, xq, yq)

    def at_once(start: Params) -> Tensor:
        return vmap(after, (None, 0, 0, 0, 0))(start, xs, ys, xq, yq).sum()

    def one_by_one(start: Params) -> Tensor:
        return torch.stack([after(start, *task) for task in zip(xs, ys, xq, yq, strict=True)]).sum()

    found, right = (torch.cat([g.flatten() for g in grad(way)(params).values()]) for way in (at_once, one_by_one))
    way = {key: torch.randn_like(value) for key, value in params.items()}
    above, below = (one_by_one({k: v + e * way[k] for k, v in params.items()}) for e in (1e-5, -1e-5))
    slope, told = (above - below) / 2e-5, right @ torch.cat([value.flatten() for value in way.values()])
    return float((found - right).norm() / right.norm()), float(abs(told - slope) / abs(slope))


def main() -> None:
    print(f"torch {torch.__version__}, {TASKS} tasks, {WAYS}-way 1-shot; steps {STEPS}, rates {RATES}")
    for name in NORMS:
        found = [differences(name, steps, rate) for steps in STEPS for rate in RATES]
        wrong, confirmed = zip(*found, strict=True)
        checked = f"the loop and finite differences: {max(confirmed):.0e}"
        print(f"{name:<32} off by {min(wrong):.1e} to {max(wrong):.1e} ({checked})")


if __name__ == "__main__":
    main()
