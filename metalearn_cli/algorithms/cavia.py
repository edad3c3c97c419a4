"""CAVIA: within a task only a small context vector moves; the network that reads it is shared by all tasks.

Zintgraf et al. 2019, Fast Context Adaptation via Meta-Learning (https://arxiv.org/abs/1810.03642).
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from metalearn_cli.core.gradient import through_adaptation
from metalearn_cli.core.meta import (
    Adapted,
    InnerLoop,
    Learner,
    Meta,
    Objective,
    Statistics,
    stepped,
    unadapted,
)
from metalearn_cli.core.network import Network, Params
from metalearn_cli.core.norm import NORMS
from metalearn_cli.core.rules import fixed_rate
from metalearn_cli.core.tasks import Examples
from metalearn_cli.errors import ConfigError
from metalearn_cli.settings import Choice, Size, Steps

CONTEXT, READS = "context", "reads."


class Config(Choice):
    """A context vector alone moves within a task.

    `context` (numbers): the size of the context.
    `inner_lr`: the rate of the context on the mean loss over the support set.
    `inner_steps` (steps): by how many a task is learned in training.
    `second_order`: whether the meta-gradient goes through the inner gradients; false is the first-order form.
    """

    name: Literal["cavia"] = "cavia"
    context: Size = 100
    inner_lr: float = Field(1.0, gt=0)
    inner_steps: Steps = 2
    second_order: bool = True


def build(config: Config, network: Network, objective: Objective, statistics: Statistics, ways: int | None) -> Learner:
    """A context that starts at 0 in every task and shifts some parameters p of the network to p + W context.

    In a network with norms these are their scales and shifts ("FiLM"; in the paper, of one layer). In
    one without, they are the first layer's biases, which is what a context beside the inputs comes to.
    W is learned, as a coefficient of Meta.

    Raises ConfigError if the network has neither.
    """
    start = network.initial()
    biases = [name for name in start if name.endswith("bias")]
    readers = sorted(network.parameters_of(NORMS)) or biases[:1]
    if not readers:
        raise ConfigError("algorithm.name: cavia needs a backbone with norms or biases for its context to shift")
    bound = 1 / math.sqrt(config.context)
    weights = {name: torch.empty(*start[name].shape, config.context).uniform_(-bound, bound) for name in readers}

    def in_context(params: Params, inputs: Tensor) -> Tensor:
        return network(_shifted(params), inputs)

    loop = InnerLoop(
        in_context, objective, fixed_rate(config.inner_lr), config.second_order, lambda name: name == CONTEXT
    )

    def adapt(meta: Meta, support: Examples, steps: int) -> list[Adapted]:
        params = unadapted(meta, support).params
        slow = params | {READS + name: value for name, value in meta.coefficients.items()}
        like = next(iter(params.values()))
        fast = {CONTEXT: like.new_zeros(len(like), config.context).requires_grad_(like.requires_grad)}
        states = [Adapted(_shifted(slow | fast), support.inputs)]
        for step in range(steps):
            fast = stepped(loop, {}, fast, slow, support, step)
            states.append(Adapted(_shifted(slow | fast), support.inputs))
        return states

    return through_adaptation(
        lambda: Meta(network.initial(), {name: value.clone() for name, value in weights.items()}),
        adapt, network, objective, statistics, config.inner_steps, config.second_order, ways,
    )  # fmt: skip


def _shifted(params: Params) -> Params:
    """The network's own parameters [T, ...], those that read the context [T, C] shifted by it."""
    context = params[CONTEXT]
    own = {name: value for name, value in params.items() if name != CONTEXT and not name.startswith(READS)}
    for name in [name for name in own if READS + name in params]:
        own[name] = own[name] + (context @ params[READS + name].flatten(0, -2).mT).view_as(own[name])
    return own
