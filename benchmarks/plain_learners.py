"""ProtoNet, ANIL, R2-D2 and Reptile as their users write them: plain modules, one task after the other.

Each takes the place of a learner of ours: a function of a Problem that returns the function that finds the mean over
the tasks of the meta-gradient, by order of parameters, then of coefficients (for Reptile of initial - adapted weights).
"""

import copy
import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.rivals import Problem

Step = Callable[[], list[Tensor]]
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _summed(problem: Problem, learned: list[nn.Parameter], loss: Loss) -> list[Tensor]:
    """The gradient of the tasks' mean loss (x_s, y_s, x_q, y_q) for what is learned, by one backward for each task."""
    optimizer = torch.optim.SGD(learned)
    optimizer.zero_grad()
    support, query = problem.tasks
    for task in zip(support.inputs, support.targets, query.inputs, query.targets, strict=True):
        (loss(*task) / len(support.inputs)).backward()
    return [torch.zeros_like(value) if value.grad is None else value.grad for value in learned]


def protonet(problem: Problem) -> Step:
    """Prototypical networks: softmax over minus the squared distance to the mean feature of each class."""
    body, parameters = problem.module[:-1], list(problem.module.parameters())

    def loss(x_s: Tensor, y_s: Tensor, x_q: Tensor, y_q: Tensor) -> Tensor:
        features, asked = body(x_s), body(x_q)
        prototypes = torch.stack([features[y_s == way].mean(0) for way in range(int(y_s.max()) + 1)])
        distances = (asked.unsqueeze(1) - prototypes).square().sum(-1)
        return F.cross_entropy(-distances, y_q)

    return partial(_summed, problem, parameters, loss)


def anil(problem: Problem) -> Step:
    """ANIL: features once, second-order inner steps of the head on them."""
    body, head, parameters = problem.module[:-1], problem.module[-1], list(problem.module.parameters())

    def loss(x_s: Tensor, y_s: Tensor, x_q: Tensor, y_q: Tensor) -> Tensor:
        features, weight, bias = body(x_s), head.weight, head.bias
        for _ in range(problem.steps):
            support_loss = F.cross_entropy(F.linear(features, weight, bias), y_s)
            grads = torch.autograd.grad(support_loss, (weight, bias), create_graph=problem.second_order)
            weight, bias = weight - problem.rate * grads[0], bias - problem.rate * grads[1]
        return F.cross_entropy(F.linear(body(x_q), weight, bias), y_q)

    return partial(_summed, problem, parameters, loss)


def r2d2(problem: Problem) -> Step:
    """R2-D2: a ridge regression on the features, solved by torch.linalg; its strength and scale are learned."""
    body, parameters = problem.module[:-1], list(problem.module.parameters())
    log_ridge, log_scale = (nn.Parameter(torch.tensor(math.log(start)).to(parameters[0])) for start in (1.0, 10.0))

    def loss(x_s: Tensor, y_s: Tensor, x_q: Tensor, y_q: Tensor) -> Tensor:
        known, asked = (torch.cat([f, f.new_ones(len(f), 1)], 1) for f in (body(x_s), body(x_q)))
        gram = known @ known.T + log_ridge.exp() * torch.eye(len(known), dtype=known.dtype)
        head = known.T @ torch.linalg.solve(gram, F.one_hot(y_s).to(known.dtype))
        return F.cross_entropy(log_scale.exp() * (asked @ head), y_q)

    return partial(_summed, problem, [*parameters, log_ridge, log_scale], loss)


def reptile(problem: Problem) -> Step:
    """Reptile: Adam without momentum on a copy of the module for each task; it never reads the query set."""

    def step() -> list[Tensor]:
        initial = [value.detach() for value in problem.module.parameters()]
        total = [torch.zeros_like(value) for value in initial]
        support = problem.tasks.support
        for x_s, y_s in zip(support.inputs, support.targets, strict=True):
            network = copy.deepcopy(problem.module)
            optimizer = torch.optim.Adam(network.parameters(), lr=problem.rate, betas=(0.0, 0.999))
            for _ in range(problem.steps):
                optimizer.zero_grad()
                F.cross_entropy(network(x_s), y_s).backward()
                optimizer.step()
            for way, start, end in zip(total, initial, network.parameters(), strict=True):
                way += (start - end.detach()) / len(support.inputs)
        return total

    return step
