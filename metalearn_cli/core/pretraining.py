"""Learning without episodes: a classifier of all training classes, whose features then serve new ones.

Chen et al. 2019, A Closer Look at Few-shot Classification (https://arxiv.org/abs/1904.04232), section 3.

Legend: T tasks, N examples.
"""

from functools import partial

import torch

from metalearn_cli.core.gradient import reverse_mode
from metalearn_cli.core.inner_loop import InnerLoop, adapt, for_tasks, predict
from metalearn_cli.core.meta import Learner, Meta, Scores, Traits, classification
from metalearn_cli.core.rules import Rule, averaged, chain, decayed, fixed_rate
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.layers.passing import Params, Pass
from metalearn_cli.layers.random_bits import random_bits

_MOMENTUM = 0.9


def descent(rate: float, decay: float) -> Rule:
    """SGD as the paper's code has it for a task's head: weight decay, a momentum of 0.9 and a dampening of 0.9."""
    return chain(decayed(decay), averaged(_MOMENTUM), fixed_rate(rate))


def shuffled_batches(seen: Examples, number: int, size: int) -> list[Examples]:
    """The examples [T, N, ...] in batches of `size`, the last one of what is left, for pass `number` = 0, 1, ...

    Their order is another in every pass. It is a function of the pass alone, so that a task's head does not depend on
    chance.
    """
    key = torch.zeros(1, dtype=torch.int64, device=seen.targets.device)
    order = random_bits(key, number, 0, seen.targets.shape[1])[0].argsort()
    parts = torch.split(order, size)
    return [seen._replace(inputs=seen.inputs[:, some], targets=seen.targets[:, some]) for some in parts]


def pretrained(loop: InnerLoop, head: Params, traits: Traits) -> Learner:
    """The Learner that trains body and head on batches of all training classes; a task trains a new head alone.

    `head` are the parameters of the training classes' head at the start, which become coefficients of Meta; a task's
    head begins as the loop says. The support and the query set of a training task are one batch to it. The network's
    own head is not used.
    """
    network = loop.problem.network
    assert loop.head_reads is not None
    reads = loop.head_reads

    def training_scores(meta: Meta, tasks: Task, _iteration: int) -> Scores:
        inputs, targets = (torch.cat(parts, 1) for parts in zip(*(half[:2] for half in tasks), strict=True))
        params = for_tasks(meta.params, len(targets))
        of_classes = {f"head.{n}": v.expand(len(targets), *v.shape) for n, v in meta.coefficients.items()}
        features = reads(network.features(params, inputs, Pass(keys=tasks.support.keys)))
        outputs = network.classify(loop.shown({**params, **of_classes}, 0), features)
        return Scores(classification.loss(outputs, targets), classification.score(outputs, targets))

    return Learner(
        init=lambda: Meta(network.initial(), {name: value.clone() for name, value in head.items()}),
        adapt=torch.no_grad()(partial(adapt, loop)),
        predict=partial(predict, loop),
        meta_gradient=reverse_mode(training_scores),
        objective=classification,
        traits=traits,
    )
