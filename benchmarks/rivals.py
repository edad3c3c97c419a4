"""The other ways to a MAML meta-gradient, each written as its users write it.

Each gives a function () -> None that leaves the mean meta-gradient over the tasks in `parameter.grad`, or returns it.

Legend: T tasks, N examples.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metalearn_cli.core.tasks import Task


class Problem(NamedTuple):
    """The network as plain `nn` modules, the tasks, and the inner loop."""

    module: nn.Module
    tasks: Task
    rate: float
    steps: int
    second_order: bool


class BatchNorm(nn.Module):
    """Batch normalisation by the batch at hand, in the plainest way."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, inputs: Tensor) -> Tensor:
        return F.batch_norm(inputs, None, None, self.weight, self.bias, training=True)


class NormThenAffine(BatchNorm):
    """The same with the affine outside, without which vmap is silently wrong in second order (torch 2.13)."""

    def forward(self, inputs: Tensor) -> Tensor:
        normalised = F.batch_norm(inputs, None, None, training=True)
        return normalised * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


def plain_conv4(shape: tuple[int, int, int], channels: int, pool: bool, ways: int, norm: type = BatchNorm) -> nn.Module:
    """Conv4 of torch's own layers, as in every MAML script."""
    blocks: list[nn.Module] = []
    inputs, height, width = shape
    for layer in range(4):
        stride = 1 if pool else 2
        blocks += [nn.Conv2d(inputs if layer == 0 else channels, channels, 3, stride, 1, bias=False)]
        blocks += [norm(channels), nn.ReLU(), *([nn.MaxPool2d(2)] if pool else [])]
        height, width = (height // 2, width // 2) if pool else (-(-height // 2), -(-width // 2))
    end = [nn.Flatten()] if pool else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*blocks, *end, nn.Linear(channels * (height * width if pool else 1), ways))


class _Sum(nn.Module):
    """A residual block of ResNet-12: the sum of a long and a short branch."""

    def __init__(self, before: int, after: int, norm: type) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (before, after, after):
            layers += [nn.Conv2d(inputs, after, 3, 1, 1, bias=False), norm(after), nn.LeakyReLU(0.1)]
        self.long = nn.Sequential(*layers[:-1])
        self.short = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), norm(after))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.long(inputs) + self.short(inputs)
        return outputs


def plain_resnet12(shape: tuple[int, int, int], ways: int, norm: type = BatchNorm) -> nn.Module:
    """ResNet-12 of torch's own layers, 64-160-320-640."""
    channels = [shape[0], 64, 160, 320, 640]
    blocks: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        blocks += [_Sum(before, after, norm), nn.LeakyReLU(0.1), nn.MaxPool2d(2)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], ways))


def _each(problem: Problem) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    return list(zip(*problem.tasks.support[:2], *problem.tasks.query[:2], strict=True))


def plain_loop(
    problem: Problem, backward_per_task: bool = False, query_at_every_step: bool = False
) -> Callable[[], None]:
    """Task after task with functional_call and autograd, all intra-op threads; one backward, or one per task.

    `query_at_every_step` also evaluates the query set before and after every inner step, as the well-known
    scripts do.
    """
    params = dict(problem.module.named_parameters())
    tasks = _each(problem)

    def run() -> None:
        problem.module.zero_grad()
        losses = []
        for x_s, y_s, x_q, y_q in tasks:
            fast = params
            for _ in range(problem.steps):
                if query_at_every_step:
                    with torch.no_grad():
                        (torch.func.functional_call(problem.module, fast, (x_q,)).argmax(1) == y_q).sum().item()
                loss = F.cross_entropy(torch.func.functional_call(problem.module, fast, (x_s,)), y_s)
                grads = torch.autograd.grad(loss, list(fast.values()), create_graph=problem.second_order)
                fast = {name: p - problem.rate * g for (name, p), g in zip(fast.items(), grads, strict=True)}
            loss = F.cross_entropy(torch.func.functional_call(problem.module, fast, (x_q,)), y_q) / len(tasks)
            loss.backward() if backward_per_task else losses.append(loss)
        if losses:
            torch.stack(losses).sum().backward()

    return run


def learn2learn(problem: Problem) -> Callable[[], None]:
    """`learn2learn.algorithms.MAML`, as in its examples: clone, adapt, one backward of the summed losses."""
    from learn2learn.algorithms.maml import MAML

    maml = MAML(problem.module, lr=problem.rate, first_order=not problem.second_order)
    tasks = _each(problem)

    def run() -> None:
        maml.zero_grad()
        total = torch.zeros(())
        for x_s, y_s, x_q, y_q in tasks:
            learner = maml.clone()
            for _ in range(problem.steps):
                learner.adapt(F.cross_entropy(learner(x_s), y_s))
            total = total + F.cross_entropy(learner(x_q), y_q)
        (total / len(tasks)).backward()

    return run


def higher(problem: Problem) -> Callable[[], None]:
    """`higher.innerloop_ctx`, as in its examples: a backward per task."""
    import higher as library

    tasks = _each(problem)
    sgd = torch.optim.SGD(problem.module.parameters(), lr=problem.rate)

    def run() -> None:
        problem.module.zero_grad()
        for x_s, y_s, x_q, y_q in tasks:
            with library.innerloop_ctx(
                problem.module, sgd, copy_initial_weights=False, track_higher_grads=problem.second_order
            ) as (network, optimizer):
                for _ in range(problem.steps):
                    optimizer.step(F.cross_entropy(network(x_s), y_s))
                (F.cross_entropy(network(x_q), y_q) / len(tasks)).backward()

    return run


def naive_vmap(problem: Problem) -> Callable[[], None]:
    """One vmap over all tasks of torch.func.grad of a loss with torch.func.grad inside."""
    module = problem.module
    params = {name: value.detach() for name, value in module.named_parameters()}

    def loss(params: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(module, params, (inputs,)), targets)

    def outer(params: dict[str, Tensor], x_s: Tensor, y_s: Tensor, x_q: Tensor, y_q: Tensor) -> Tensor:
        for _ in range(problem.steps):
            grads = torch.func.grad(loss)(params, x_s, y_s)
            if not problem.second_order:
                grads = {name: value.detach() for name, value in grads.items()}
            params = {name: value - problem.rate * grads[name] for name, value in params.items()}
        return loss(params, x_q, y_q)

    every = torch.vmap(torch.func.grad(outer), in_dims=(None, 0, 0, 0, 0))

    def run() -> None:
        found = every(params, *problem.tasks.support[:2], *problem.tasks.query[:2])
        for name, parameter in module.named_parameters():
            parameter.grad = found[name].mean(0)

    return run
