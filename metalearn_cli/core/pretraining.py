"""Learning without episodes: a classifier of all training classes, whose features then serve new ones.

Chen et al. 2019, A Closer Look at Few-shot Classification (https://arxiv.org/abs/1904.04232), section 3.

Legend: T tasks, N examples, W ways, C training classes, F features.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from metalearn_cli.core.chance import random_bits
from metalearn_cli.core.gradient import reverse_mode
from metalearn_cli.core.heads import from_one_body
from metalearn_cli.core.meta import (
    Adapted,
    InnerLoop,
    Learner,
    Meta,
    Scores,
    Statistics,
    classification,
    predict,
    support_gradient,
    unadapted,
)
from metalearn_cli.core.network import Network, Params
from metalearn_cli.core.rules import fixed_rate
from metalearn_cli.core.tasks import Examples, Task


class Head(NamedTuple):
    """What reads features, for the training classes and, made anew, for those of a task.

    `see(features)` is what it reads of them, `params(fast)` the linear head [T, ...] that its own parameters come to;
    these start at `first(F)` for all training classes and at `start(seen)` [T, ...] for a task, of what it sees.
    """

    see: Callable[[Tensor], Tensor]
    params: Callable[[Params], Params]
    first: Callable[[int], Params]
    start: Callable[[Examples], Params]


class Descent(NamedTuple):
    """How a task's head is learned: `passes` over the support set in batches of `batch` examples, a step for each.

    A step lowers the mean loss over its batch and `decay` / 2 times the squared parameters, by SGD as the paper's code
    has it: with a momentum of 0.9 and a dampening of 0.9, which is a running mean of the gradients.
    """

    rate: float
    passes: int
    decay: float
    batch: int


_MOMENTUM = 0.9


def batches(seen: Examples, number: int, size: int) -> list[Examples]:
    """The examples [T, N, ...] in batches of `size`, the last one of what is left, for pass `number` = 0, 1, ...

    Their order is another in every pass. It is a function of the pass alone, so that a task's head does not depend on
    chance.
    """
    inputs, targets, ways = seen
    key = torch.zeros(1, dtype=torch.int64, device=targets.device)
    order = random_bits(key, number, 0, targets.shape[1])[0].argsort()
    return [Examples(inputs[:, some], targets[:, some], ways) for some in torch.split(order, size)]


def pretrained(network: Network, statistics: Statistics, head: Head, classes: int, descent: Descent) -> Learner:
    """The Learner that trains body and head on batches of all training classes; a task trains a new head alone.

    The support and the query set of a training task are one batch to it. The network's own head is not used.
    """
    first = head.first(network.initial()["head.weight"].shape[1])

    def features(params: Params, inputs: Tensor) -> Tensor:
        return head.see(network.features(params, inputs))

    def outputs(params: Params, inputs: Tensor) -> Tensor:
        return network.classify(params, features(params, inputs))

    def on_seen(fast: Params, seen: Tensor) -> Tensor:
        return network.classify(head.params(fast), seen)

    loop = InnerLoop(on_seen, classification, fixed_rate(descent.rate), second_order=False)

    @torch.no_grad()
    def adapt(meta: Meta, support: Examples, steps: int) -> list[Adapted]:
        body = {name: value.detach() for name, value in unadapted(meta, support).params.items()}
        seen = support._replace(inputs=features(body, support.inputs))
        fast, pace = head.start(seen), None
        states = [Adapted({**body, **head.params(fast)}, support.inputs)]
        for number in range(steps):
            for batch in batches(seen, number, descent.batch):
                slope = support_gradient(loop, fast, {}, batch)
                pull = {name: slope[name] + descent.decay * value for name, value in fast.items()}
                pace = pull if pace is None else {n: _MOMENTUM * v + (1 - _MOMENTUM) * pull[n] for n, v in pace.items()}
                fast = {name: value - descent.rate * pace[name] for name, value in fast.items()}
            states.append(Adapted({**body, **head.params(fast)}, support.inputs))
        return states

    def training_scores(meta: Meta, tasks: Task) -> Scores:
        inputs = torch.cat([half.inputs for half in tasks.halves], 1)
        targets = torch.cat([half.targets for half in tasks.halves], 1)
        body = unadapted(meta, Examples(inputs, targets)).params
        all_classes = {name: value.expand(len(targets), *value.shape) for name, value in meta.coefficients.items()}
        found = outputs({**body, **head.params(all_classes)}, inputs)
        return Scores(classification.loss(found, targets), classification.score(found, targets))

    return Learner(
        init=lambda: Meta(network.initial(), {name: value.clone() for name, value in first.items()}),
        adapt=adapt,
        predict=partial(predict, outputs, statistics),
        meta_gradient=reverse_mode(training_scores),
        objective=classification,
        inner_steps=descent.passes,
        second_order=None,
        ways=None,
        classes=classes,
        predict_each=from_one_body(features, network.classify, statistics),
    )
