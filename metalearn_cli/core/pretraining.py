"""Training without episodes: a classifier of all training classes, whose features later serve new classes.

Only the two baselines use it.

Chen et al. 2019, A Closer Look at Few-shot Classification (https://arxiv.org/abs/1904.04232), section 3.

Legend: T tasks, N examples.
"""

from functools import partial

import torch

from metalearn_cli.core.gradient import reverse_mode
from metalearn_cli.core.inner_loop import InnerLoop, adapt, predict
from metalearn_cli.core.meta import Learner, Meta, Scores, Traits
from metalearn_cli.core.objectives import classification
from metalearn_cli.core.rules import Rule, averaged, chain, decayed, fixed_rate
from metalearn_cli.core.shared_parameters import for_tasks
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.layers.passing import Params, Pass
from metalearn_cli.layers.random_bits import random_bits

_MOMENTUM = 0.9


def descent(rate: float, decay: float) -> Rule:
    """The rule by which a task's head learns: SGD with weight decay, momentum 0.9 and dampening 0.9.

    These are the values in the code of the paper.
    """
    # The order of the links is that of torch.optim.SGD: decay, then momentum, then the rate.
    return chain(decayed(decay), averaged(_MOMENTUM), fixed_rate(rate))


def shuffled_batches(seen: Examples, number: int, size: int) -> list[Examples]:
    """The examples [T, N, ...] in shuffled batches of `size`, for pass `number` = 0, 1, ...; the last may be smaller.

    Each pass has an order of its own. The order depends on `number` only, so the same support set always gives the
    same head.
    """
    # Sorting random numbers gives a random permutation without a generator and its state.
    key = torch.zeros(1, dtype=torch.int64, device=seen.targets.device)
    order = random_bits(key, number, 0, seen.targets.shape[1])[0].argsort()
    # All tasks of a batch take the same order, so one index selects for all of them.
    parts = torch.split(order, size)
    return [seen._replace(inputs=seen.inputs[:, some], targets=seen.targets[:, some]) for some in parts]


def pretrained(loop: InnerLoop, head: Params, traits: Traits) -> Learner:
    """The Learner that trains body and head as one classifier of all training classes; each task trains a new head.

    `head`: the initial parameters of the head for the training classes. They become the coefficients of Meta. A task's
    own head starts as `loop.begin` says. In training the support set and the query set of a task form one batch.
    The network's own head is not used.
    """
    network = loop.problem.network
    assert loop.head_reads is not None  # a local name, so that mypy knows below that it is not None
    reads = loop.head_reads

    def training_scores(meta: Meta, tasks: Task, _iteration: int) -> Scores:
        # half[:2] are the inputs and the targets of the support set, then of the query set.
        inputs, targets = (torch.cat(parts, 1) for parts in zip(*(half[:2] for half in tasks), strict=True))
        params = for_tasks(meta.params, len(targets))
        of_classes = {f"head.{n}": v.expand(len(targets), *v.shape) for n, v in meta.coefficients.items()}
        features = reads(network.features(params, inputs, Pass(keys=tasks.support.keys)))
        # The head of the training classes takes the place of the network's head; baseline++ scales it in `shown`.
        outputs = network.classify(loop.shown({**params, **of_classes}, 0), features)
        return Scores(classification.loss(outputs, targets), classification.score(outputs, targets))

    return Learner(
        init=lambda: Meta(network.initial(), {name: value.clone() for name, value in head.items()}),
        # Training never goes through an adaptation, so no graph of it is kept.
        adapt=torch.no_grad()(partial(adapt, loop)),
        predict=partial(predict, loop),
        meta_gradient=reverse_mode(training_scores),
        objective=classification,
        traits=traits,
    )
