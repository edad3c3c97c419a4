"""Learning without episodes: a classifier of all training classes, whose features then serve new ones.

Chen et al. 2019, A Closer Look at Few-shot Classification (https://arxiv.org/abs/1904.04232), section 3.

Legend: T tasks, N examples, W ways, C training classes, F features.
"""

from functools import partial

import torch

from metalearn_cli.core.gradient import reverse_mode
from metalearn_cli.core.inner_loop import InnerLoop, adapt, for_tasks, predict
from metalearn_cli.core.meta import Learner, Meta, Scores, Traits, classification
from metalearn_cli.core.passing import Params, Pass
from metalearn_cli.core.tasks import Task


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
