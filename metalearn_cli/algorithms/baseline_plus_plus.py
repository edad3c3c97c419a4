"""Baseline++: the baseline with a cosine head: an output is the cosine between a feature and a class's weights.

Chen, Liu, Kira, Wang & Huang 2019, A Closer Look at Few-shot Classification (https://arxiv.org/abs/1904.04232).
"""

from functools import partial
from typing import Literal

from pydantic import Field
from torch import nn
from torch.nn import functional as F

from metalearn_cli.core.heads import directions, features_of, prototypes, require_classes, require_room
from metalearn_cli.core.inner_loop import InnerLoop
from metalearn_cli.core.meta import Learner, Meta, Problem, Traits
from metalearn_cli.core.pretraining import descent, pretrained, shuffled_batches
from metalearn_cli.core.tasks import Examples
from metalearn_cli.layers.passing import Params
from metalearn_cli.settings import Choice, Size, Steps


class Config(Choice):
    """Each task trains a cosine head on frozen features, from the classes' mean directions, for any number of classes.

    In training a task is one batch: `task.ways` of the training classes with `task.shots` + `task.queries` pictures
    each. The norms take the statistics of this whole batch. The paper's code also learns the lengths of the weights and
    starts a task's head at random values.

    `classes` (classes): rows of the head in training; at least the number of training classes, rotated ones included.
    `scale`: a factor on the cosines: a softmax of numbers from -1 to 1 hardly tells classes apart. The paper's code has
        10 for more than 200 classes, and 2 for fewer.
    `inner_lr`: the rate of a task's head on the mean loss over a batch of the support set.
    `inner_steps` (passes): the number of passes of a task's head through the support set, as in the paper's code.
    `batch_size` (pictures): the pictures in one step of the head, as in the paper's code: with 5 classes this makes 200
        steps for 1 shot and 700 steps for 5 shots.
    `weight_decay`: the weight decay of a task's head in every step.
    """

    name: Literal["baseline_plus_plus"] = "baseline_plus_plus"
    classes: Size = 64
    scale: float = Field(10.0, gt=0)
    inner_lr: float = Field(0.01, gt=0)
    inner_steps: Steps = 100
    batch_size: Size = 4
    weight_decay: float = Field(0.001, ge=0)


def build(config: Config, problem: Problem) -> Learner:
    """A cosine classifier of the training classes; in each task, a new cosine head on the same features."""
    require_classes(problem.objective, "baseline_plus_plus")
    require_room(config.classes, problem.ways)

    # `seen` has directions in the place of inputs, because the loop below sets head_reads.
    def begin(_meta: Meta, params: Params, seen: Examples) -> Params:
        return params | {"head.weight": prototypes(seen)}

    def shown(params: Params, _step: int) -> Params:
        # head_reads has scaled the features to length one; with weights of length one the product is a cosine.
        weight = config.scale * F.normalize(params["head.weight"], dim=-1)
        return params | {"head.weight": weight, "head.bias": weight.new_zeros(weight.shape[:-1])}

    loop = InnerLoop(
        problem,
        descent(config.inner_lr, config.weight_decay),
        second_order=False,
        batches=partial(shuffled_batches, size=config.batch_size),
        moves=lambda name: name == "head.weight",
        begin=begin,
        shown=shown,
        head_reads=directions,
    )
    head = {"weight": nn.Linear(features_of(problem.network), config.classes).weight.detach()}
    return pretrained(loop, head, Traits(config.inner_steps, classes=config.classes, reads="directions"))
