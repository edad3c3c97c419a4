"""Baseline: trains a classifier of all training classes, then learns a new linear head on its features for each task.

Chen, Liu, Kira, Wang & Huang 2019, A Closer Look at Few-shot Classification (https://arxiv.org/abs/1904.04232).
"""

from functools import partial
from typing import Literal

from pydantic import Field
from torch import nn

from metalearn_cli.core.heads import features_of, is_head, require_classes, require_room
from metalearn_cli.core.inner_loop import InnerLoop
from metalearn_cli.core.meta import Learner, Meta, Problem, Traits
from metalearn_cli.core.pretraining import descent, pretrained, shuffled_batches
from metalearn_cli.core.tasks import Examples, ways_of
from metalearn_cli.layers.passing import Params
from metalearn_cli.settings import Choice, Size, Steps


class Config(Choice):
    """Each task trains a linear head, from zero, on frozen features; it can have any number of classes.

    In training a task is one batch: `task.ways` of the training classes with `task.shots` + `task.queries` pictures
    each. The norms take the statistics of this whole batch.

    `classes` (classes): rows of the head in training; at least the number of training classes, rotated ones included.
    `inner_lr`: the rate of a task's head on the mean loss over a batch of the support set.
    `inner_steps` (passes): the number of passes of a task's head through the support set, as in the paper's code.
    `batch_size` (pictures): the pictures in one step of the head, as in the paper's code: with 5 classes this makes 200
        steps for 1 shot and 700 steps for 5 shots.
    `weight_decay`: the weight decay of a task's head in every step.
    """

    name: Literal["baseline"] = "baseline"
    classes: Size = 64
    inner_lr: float = Field(0.01, gt=0)
    inner_steps: Steps = 100
    batch_size: Size = 4
    weight_decay: float = Field(0.001, ge=0)


def build(config: Config, problem: Problem) -> Learner:
    """A linear classifier of the training classes; in each task, a new linear head on the same features."""
    require_classes(problem.objective, "baseline")
    require_room(config.classes, problem.ways)

    # `seen` has features in the place of inputs, because the loop below sets head_reads.
    def begin(_meta: Meta, params: Params, seen: Examples) -> Params:
        tasks, _, features = seen.inputs.shape
        ways, zeros = ways_of(seen), seen.inputs.new_zeros
        return params | {"head.weight": zeros(tasks, ways, features), "head.bias": zeros(tasks, ways)}

    layer = nn.Linear(features_of(problem.network), config.classes)
    loop = InnerLoop(
        problem,
        descent(config.inner_lr, config.weight_decay),
        second_order=False,
        batches=partial(shuffled_batches, size=config.batch_size),
        moves=is_head,
        begin=begin,
        head_reads=lambda features: features,
    )
    # The head of the training classes; a task's own begins at zero (`begin`).
    head = {"weight": layer.weight.detach(), "bias": layer.bias.detach()}
    return pretrained(loop, head, Traits(config.inner_steps, classes=config.classes))
