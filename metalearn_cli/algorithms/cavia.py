"""CAVIA: within a task only a small context vector moves; all tasks share the network that reads it.

Zintgraf et al. 2019, Fast Context Adaptation via Meta-Learning (https://arxiv.org/abs/1810.03642).
"""

import math
from typing import Literal

import torch
from pydantic import Field

from metalearn_cli.core.gradient import gradient_learner
from metalearn_cli.core.inner_loop import InnerLoop
from metalearn_cli.core.meta import Learner, Meta, Problem, Traits
from metalearn_cli.core.rules import fixed_rate
from metalearn_cli.core.tasks import Examples
from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.norm import NORMS
from metalearn_cli.layers.passing import Params
from metalearn_cli.settings import Choice, Size, Steps

CONTEXT, READS = "context", "reads."  # names: c itself, and the prefix of each W


class Config(Choice):
    """Only a context vector moves within a task.

    `context` (numbers): the size of the context vector.
    `inner_lr`: the context's rate on the mean loss over the support set.
    `inner_steps` (steps): the number of inner steps in training.
    `second_order`: whether the meta-gradient goes through the inner gradients; false is the first-order form.
    """

    name: Literal["cavia"] = "cavia"
    context: Size = 100
    inner_lr: float = Field(1.0, gt=0)
    inner_steps: Steps = 2
    second_order: bool = True


def build(config: Config, problem: Problem) -> Learner:
    """A context c that starts at 0 in every task and shifts some parameters p of the network to p + W c.

    In a network with norms, p are the scales and shifts of all norms ("FiLM"; in the paper, of one layer). In a network
    without norms, p are the first layer's biases, which equals giving c as an additional input. W is learned; it is a
    coefficient of Meta.

    Raises ConfigError if the network has neither norms nor biases.
    """
    start = problem.network.initial()
    biases = [name for name in start if name.endswith("bias")]
    readers = sorted(problem.network.parameters_of(NORMS)) or biases[:1]
    if not readers:
        raise ConfigError("algorithm.name: cavia needs a backbone with norms or biases for its context to shift")
    bound = 1 / math.sqrt(config.context)  # torch's default for a linear layer that reads the context
    weights = {name: torch.empty(*start[name].shape, config.context).uniform_(-bound, bound) for name in readers}

    def begin(meta: Meta, params: Params, _support: Examples) -> Params:
        # W travels with the parameters, so that the meta-gradient reaches it; it has no T, as all tasks share it.
        like = next(iter(params.values()))
        context = like.new_zeros(len(like), config.context)
        return params | {READS + name: value for name, value in meta.coefficients.items()} | {CONTEXT: context}

    rule = fixed_rate(config.inner_lr)
    loop = InnerLoop(problem, rule, config.second_order, lambda name: name == CONTEXT, begin, shown=_shifted)
    traits = Traits(config.inner_steps, config.second_order, problem.ways)
    return gradient_learner(loop, traits, weights)


def _shifted(params: Params, _step: int) -> Params:
    """The network's own parameters [T, ...]; those that read the context c [T, context] are shifted by W c."""
    context = params[CONTEXT]
    own = {name: value for name, value in params.items() if name != CONTEXT and not name.startswith(READS)}
    for name in [name for name in own if READS + name in params]:
        # W [..., context] as a matrix [values, context]; W c for each task is [T, values], in the parameter's order.
        own[name] = own[name] + (context @ params[READS + name].flatten(0, -2).mT).view_as(own[name])
    return own
