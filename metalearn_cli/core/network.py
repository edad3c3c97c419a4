"""A module as a pure function of its parameters, for many tasks at once.

Legend: T tasks, N examples, F features.
"""

import copy
import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metalearn_cli.core.chance import task_alone
from metalearn_cli.errors import ConfigError

Params = dict[str, Tensor]
Kind = TypeVar("Kind", bound=nn.Module)

_WRONG_UNDER_VMAP = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)

_BY_EXAMPLE = (
    *(nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Identity, nn.Flatten, nn.Unflatten),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Upsample),
)
"""Layers without parameters that treat every example by itself, whichever task it is of."""

_plain: ContextVar[bool] = ContextVar("plain", default=False)


@runtime_checkable
class TaskLayer(Protocol):
    """A layer that runs many tasks in one call, each with parameters of its own."""

    def over_tasks(self, params: Params, inputs: Tensor) -> Tensor:
        """Outputs [T, N, ...] for inputs [T, N, ...] and `params` [T, ...] by the names of the layer's own."""


@runtime_checkable
class LeadingLayer(TaskLayer, Protocol):
    """One that can do the work of layers that follow it in the same pass, where that is faster."""

    def takes(self, following: Sequence[nn.Module], inputs: Tensor) -> int:
        """How many of those that follow it in a Sequential, for inputs [T, N, ...]."""

    def over_tasks_with(self, following: Sequence[nn.Module], params: Sequence[Params], inputs: Tensor) -> Tensor:
        """Outputs [T, N, ...] of itself and the `following` layers, whose parameters come after its own."""


@contextmanager
def one_task_at_a_time() -> Iterator[None]:
    """Inside the block every network runs task by task, as the plain modules it is made of: the reference."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


class Network:
    """`network(params, inputs)`: the module's outputs with `params` in the place of its own, which stay as they are.

    Every task has its parameters: `params` are [T, ...] by name. A `TaskLayer` runs all tasks at once; any other
    module is run on them by vmap. Only the forward pass goes through vmap: autograd differentiates what comes out, in
    plain torch operations, as often as need be.

    `network.features` and `network.classify` run its two children, `body` and `head`, on the same names.
    Several threads may call one Network at once, each on its own copy of the module, because functional_call
    swaps parameters in place while it runs.

    Raises ConfigError if the module holds a norm that remembers other tasks (see core/norm.py).
    """

    def __init__(self, module: nn.Module) -> None:
        for name, child in module.named_modules():
            if isinstance(child, _WRONG_UNDER_VMAP):
                raise ConfigError(f"backbone: {name} is a {type(child).__name__}; use core.norm.TaskNorm instead")
        # The weights of convolutions lie as they are multiplied; values and names stay.
        self._module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._copies = threading.local()

    def initial(self) -> Params:
        """A copy of the module's own parameters, by the names of `named_parameters()`."""
        return {name: value.detach().clone() for name, value in self._module.named_parameters()}

    def parameters_of(self, kind: type[nn.Module] | tuple[type[nn.Module], ...]) -> frozenset[str]:
        """The names of the parameters that belong to modules of a kind, or of several."""
        found = [(name, module) for name, module in self._module.named_modules() if isinstance(module, kind)]
        return frozenset(f"{name}.{own}" for name, module in found for own, _ in module.named_parameters())

    def modules_of(self, kind: type[Kind]) -> dict[str, Kind]:
        """The modules of a kind, by name."""
        return {name: module for name, module in self._module.named_modules() if isinstance(module, kind)}

    def __call__(self, params: Params, inputs: Tensor) -> Tensor:
        """Outputs [T, N, outputs] for inputs [T, N, ...]."""
        return self._call(self._copy(), params, inputs)

    def features(self, params: Params, inputs: Tensor) -> Tensor:
        """What the body makes of inputs [T, N, ...]: features [T, N, F]."""
        return self._call(self._copy().get_submodule("body"), below("body.", params), inputs)

    def classify(self, params: Params, features: Tensor) -> Tensor:
        """What the head makes of features [T, N, F]: outputs [T, N, outputs]."""
        return self._call(self._copy().get_submodule("head"), below("head.", params), features)

    def _call(self, module: nn.Module, params: Params, inputs: Tensor) -> Tensor:
        if not _plain.get():
            return over_tasks(module, params, inputs)
        each = []
        for task, one in enumerate(inputs):
            with task_alone(task):
                each.append(functional_call(module, {name: value[task] for name, value in params.items()}, (one,)))
        return torch.stack(each)

    def _copy(self) -> nn.Module:
        if not hasattr(self._copies, "module"):
            self._copies.module = copy.deepcopy(self._module)
        module: nn.Module = self._copies.module
        return module


def over_tasks(module: nn.Module, params: Params, inputs: Tensor) -> Tensor:
    """Outputs [T, N, ...] of a module for inputs [T, N, ...] and its parameters [T, ...] by name."""
    if isinstance(module, nn.Sequential):
        return _in_sequence(list(module.named_children()), params, inputs)
    if isinstance(module, TaskLayer):
        return module.over_tasks(params, inputs)
    if type(module) is nn.Linear and inputs.dim() == 3:
        outputs = inputs @ params["weight"].mT
        return outputs + params["bias"].unsqueeze(1) if "bias" in params else outputs
    if type(module) in _BY_EXAMPLE:
        alike: Tensor = module(inputs.flatten(0, 1))
        return alike.view(*inputs.shape[:2], *alike.shape[1:])
    each: Tensor = torch.vmap(partial(functional_call, module), randomness="different")(params, (inputs,))
    return each


def _in_sequence(children: list[tuple[str, nn.Module]], params: Params, inputs: Tensor) -> Tensor:
    children = _pooled_first(children)
    while children:
        (name, child), *children = children
        own, following = below(f"{name}.", params), [layer for _, layer in children]
        if isinstance(child, LeadingLayer) and (taken := child.takes(following, inputs)):
            theirs = [below(f"{other}.", params) for other, _ in children[:taken]]
            inputs, children = child.over_tasks_with(following[:taken], [own, *theirs], inputs), children[taken:]
        else:
            inputs = over_tasks(child, own, inputs)
    return inputs


def _pooled_first(children: list[tuple[str, nn.Module]]) -> list[tuple[str, nn.Module]]:
    """The same layers with a maximum taken before a rising activation, where it came after.

    Values and gradients are the same, and the activation has fewer to work on.
    """
    order = list(children)
    for place, ((_, layer), (_, after)) in enumerate(itertools.pairwise(children)):
        rises = type(layer) is nn.ReLU or (type(layer) is nn.LeakyReLU and layer.negative_slope >= 0)
        if rises and type(after) is nn.MaxPool2d and not after.return_indices:
            order[place : place + 2] = children[place + 1], children[place]
    return order


def below(prefix: str, params: Params) -> Params:
    """The parameters whose names start with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}
