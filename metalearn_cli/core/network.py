"""A module as a pure function of its parameters, for many tasks at once.

Legend: T tasks, N examples, F features.
"""

import copy
import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metalearn_cli.core.dropping import DropBlock
from metalearn_cli.core.norm import TaskNorm
from metalearn_cli.core.passing import BY_BATCH, Params, Pass
from metalearn_cli.errors import ConfigError

Kind = TypeVar("Kind", bound=nn.Module)

_WRONG_UNDER_VMAP = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)

_BY_EXAMPLE = (
    *(nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Identity, nn.Flatten, nn.Unflatten),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Upsample),
)
"""Layers without parameters that treat every example by itself, whichever task it is of."""

_READ_THE_PASS = (TaskNorm, DropBlock)
"""Layers whose outputs depend on the pass."""


@runtime_checkable
class TaskLayer(Protocol):
    """A layer that runs many tasks in one call, each with parameters of its own."""

    def over_tasks(self, params: Params, inputs: Tensor, how: Pass, /) -> Tensor:
        """Outputs [T, N, ...] for inputs [T, N, ...] and `params` [T, ...] by the names of the layer's own."""


@runtime_checkable
class LeadingLayer(TaskLayer, Protocol):
    """One that can do the work of layers that follow it in the same pass, where that is faster."""

    def takes(self, following: Sequence[nn.Module], inputs: Tensor, how: Pass) -> int:
        """How many of those that follow it in a Sequential, for inputs [T, N, ...]."""

    def over_tasks_with(self, following: Sequence[nn.Module], params: Sequence[Params], inputs: Tensor) -> Tensor:
        """Outputs [T, N, ...] of itself and the `following` layers, whose parameters come after its own."""


class Network:
    """`network(params, inputs, how)`: the module's outputs with `params` in the place of its own, which do not change.

    Every task has its parameters: `params` are [T, ...] by name. A `TaskLayer` runs all tasks at once; any other
    module is run on them by vmap. Only the forward pass goes through vmap: autograd differentiates what comes out, in
    plain torch operations, as often as need be. With `one_by_one` every task runs by itself, through the plain modules
    that the network is made of: the reference that all else is compared with.

    `network.features` and `network.classify` run its two children, `body` and `head`, on the same names.
    Several threads may call one Network at once, each on its own copy of the module, because functional_call
    swaps parameters in place while it runs.

    Raises ConfigError if the module holds a norm that remembers other tasks (see core/norm.py).
    """

    def __init__(self, module: nn.Module, one_by_one: bool = False) -> None:
        for name, child in module.named_modules():
            if isinstance(child, _WRONG_UNDER_VMAP):
                raise ConfigError(f"backbone: {name} is a {type(child).__name__}; use core.norm.TaskNorm instead")
        # The weights of convolutions lie as they are multiplied; values and names stay.
        self._module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._one_by_one = one_by_one
        self._copies = threading.local()

    def one_by_one(self) -> "Network":
        """The same network, which runs every task by itself."""
        return Network(self._module, one_by_one=True)

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

    def __call__(self, params: Params, inputs: Tensor, how: Pass = BY_BATCH) -> Tensor:
        """Outputs [T, N, outputs] for inputs [T, N, ...]."""
        return self._run("", params, inputs, how)

    def features(self, params: Params, inputs: Tensor, how: Pass = BY_BATCH) -> Tensor:
        """What the body makes of inputs [T, N, ...]: features [T, N, F]."""
        return self._run("body", params, inputs, how)

    def classify(self, params: Params, features: Tensor, how: Pass = BY_BATCH) -> Tensor:
        """What the head makes of features [T, N, F]: outputs [T, N, outputs]."""
        return self._run("head", params, features, how)

    def _run(self, child: str, params: Params, inputs: Tensor, how: Pass) -> Tensor:
        module = self._copy().get_submodule(child)
        if child:
            params, how = below(f"{child}.", params), how.at(child)
        return _each_alone(module, params, inputs, how) if self._one_by_one else over_tasks(module, params, inputs, how)

    def _copy(self) -> nn.Module:
        if not hasattr(self._copies, "module"):
            self._copies.module = copy.deepcopy(self._module)
        module: nn.Module = self._copies.module
        return module


def over_tasks(module: nn.Module, params: Params, inputs: Tensor, how: Pass = BY_BATCH) -> Tensor:
    """Outputs [T, N, ...] of a module for inputs [T, N, ...] and its parameters [T, ...] by name."""
    if isinstance(module, nn.Sequential):
        return _in_sequence(list(module.named_children()), params, inputs, how)
    if isinstance(module, TaskLayer):
        return module.over_tasks(params, inputs, how)
    if type(module) is nn.Linear and inputs.dim() == 3:
        outputs = inputs @ params["weight"].mT
        return outputs + params["bias"].unsqueeze(1) if "bias" in params else outputs
    if type(module) in _BY_EXAMPLE:
        alike: Tensor = module(inputs.flatten(0, 1))
        return alike.view(*inputs.shape[:2], *alike.shape[1:])
    with _told(module, how):
        each: Tensor = torch.vmap(partial(functional_call, module), randomness="different")(params, (inputs,))
    return each


def _each_alone(module: nn.Module, params: Params, inputs: Tensor, how: Pass) -> Tensor:
    """The same, one task after the other through the module's own `forward`."""
    each = []
    for task, of_task in enumerate(inputs):
        with _told(module, how.of_task(task)):
            each.append(functional_call(module, {name: value[task] for name, value in params.items()}, (of_task,)))
    return torch.stack(each)


@contextmanager
def _told(module: nn.Module, how: Pass) -> Iterator[None]:
    """Inside the block the norms and random layers in the module know the pass.

    A `forward` that is not of this package cannot hand it on to them, so it is set on the layers themselves. They
    belong to a thread's own copy of the network, so no other call sees it.
    """
    layers = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, _READ_THE_PASS)]
    for name, layer in layers:
        layer.how = how.at(name) if name else how
    try:
        yield
    finally:
        for _, layer in layers:
            layer.how = BY_BATCH


def _in_sequence(children: list[tuple[str, nn.Module]], params: Params, inputs: Tensor, how: Pass) -> Tensor:
    children = _pooled_first(children)
    while children:
        (name, child), *children = children
        own, following = below(f"{name}.", params), [layer for _, layer in children]
        if isinstance(child, LeadingLayer) and (taken := child.takes(following, inputs, how)):
            theirs = [below(f"{other}.", params) for other, _ in children[:taken]]
            inputs, children = child.over_tasks_with(following[:taken], [own, *theirs], inputs), children[taken:]
        else:
            inputs = over_tasks(child, own, inputs, how.at(name))
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
