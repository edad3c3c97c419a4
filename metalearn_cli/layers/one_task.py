"""One small task, through torch's own functions.

The layers of this package put many tasks into one call. A single small task gains nothing from that: torch's own
convolution and norm are faster for it. Both ways give the same numbers to rounding, in second order too.

Legend: T tasks, N examples.
"""

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from metalearn_cli.layers.convolution import TaskConv1d, TaskConv2d
from metalearn_cli.layers.norm import TaskNorm
from metalearn_cli.layers.passing import Params, Pass, under_prefix
from metalearn_cli.layers.task_layers import has_hooks, is_by_example, is_sequence, pooled_first

# Measured on one core of an AMD EPYC (CPU time, second order, Conv4, taking turns with the kernels for many tasks):
# a support set of 5 pictures of 28 x 28 (3,920 values) took 0.87 to 0.90 of the kernels' time this way, one of 20 or
# 25 pictures (15,680 and 19,600 values) 1.1 times their time.
_SUPPORT_UP_TO = 10_000
# Queries of such a task follow it, whose weights lie in memory as torch's functions want them: 25 pictures (19,600)
# took 0.87 of the kernels' time, 75 (58,800) as long as by the kernels, and 75 of 42 x 42 (132,300) 1.1 times.
_QUERIES_UP_TO = 60_000

ManyTasks = Callable[[nn.Module, Params, Tensor, Pass], Tensor]
"""A function that returns a module's outputs [T, N, ...] for parameters and inputs [T, ...]: `network.over_tasks`."""


def is_small(support: Tensor) -> bool:
    """Whether the support inputs [T, N, ...] are those of a single task so small that torch's own functions win."""
    return support.device.type == "cpu" and len(support) == 1 and support.numel() <= _SUPPORT_UP_TO


def goes_alone(inputs: Tensor, how: Pass) -> bool:
    """Whether inputs [T, N, ...] of a task that `is_small` are few enough for torch's own functions, too."""
    return how.small and inputs.numel() <= _QUERIES_UP_TO


def alone(many: ManyTasks, module: nn.Module, params: Params, inputs: Tensor, how: Pass) -> Tensor:
    """The outputs [1, N, ...] of a module for a single task, of inputs [1, N, ...] and parameters [1, ...].

    A layer that torch has no function for goes through `many`.
    """
    own = {name: value.squeeze(0) for name, value in params.items()}
    # Dense matrices, so that the last bits do not depend on where they come from, a training or a file. (The weights of
    # convolutions lie in torch's layout for channels last, wherever they come from.)
    own = {name: value.contiguous() if value.dim() <= 2 else value for name, value in own.items()}
    return _alone(many, module, own, inputs.squeeze(0), how).unsqueeze(0)


def _alone(many: ManyTasks, module: nn.Module, params: Params, inputs: Tensor, how: Pass) -> Tensor:
    """The outputs [N, ...] for inputs [N, ...] and parameters without T."""
    if is_sequence(module):
        for name, child in pooled_first(module):
            inputs = _alone(many, child, under_prefix(f"{name}.", params), inputs, how.at(name))
        return inputs
    if not has_hooks(module):
        if isinstance(module, nn.Conv1d | nn.Conv2d) and type(module) in (TaskConv1d, TaskConv2d):
            convolution: Callable[..., Tensor] = F.conv2d if type(module) is TaskConv2d else F.conv1d
            return convolution(inputs, params["weight"], params.get("bias"), module.stride, module.padding)
        if type(module) is TaskNorm and how.by_batch:
            return F.batch_norm(inputs, None, None, params["weight"], params["bias"], training=True, eps=module.eps)
        if type(module) is nn.Linear:
            return F.linear(inputs, params["weight"], params.get("bias"))
        if is_by_example(module):
            return cast(Tensor, module(inputs))
    with_t = {name: value.unsqueeze(0) for name, value in params.items()}
    return many(module, with_t, inputs.unsqueeze(0), how).squeeze(0)
