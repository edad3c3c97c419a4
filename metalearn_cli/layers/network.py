"""A module as a pure function of its parameters, for many tasks at once.

Legend: T tasks, N examples, F features.
"""

import copy
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.attention import PlainAttention
from metalearn_cli.layers.drop_block import DropBlock
from metalearn_cli.layers.norm import TaskNorm
from metalearn_cli.layers.passing import BY_BATCH, Params, Pass
from metalearn_cli.layers.task_layers import (
    LeadingLayer,
    TaskLayer,
    first_names,
    foreign_layers,
    has_hooks,
    is_by_example,
    is_sequence,
    shared_names,
)

Kind = TypeVar("Kind", bound=nn.Module)

_WRONG_UNDER_VMAP = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)

_READ_THE_PASS = (TaskNorm, DropBlock)
"""Layers whose outputs depend on the pass."""


class Network:
    """`network(params, inputs, how)`: the module's outputs with `params` in the place of its own, which do not change.

    Every task has its parameters: `params` are [T, ...] by name. A `TaskLayer` runs all tasks at once; any other
    module is run on them by vmap. Only the forward pass goes through vmap: autograd differentiates what comes out, in
    plain torch operations, as often as need be. With `one_by_one` every task runs by itself, through the plain modules
    that the network is made of: the reference that all else is compared with. With `plain_attention` torch's attention
    takes a form that can be differentiated twice.

    `network.features` and `network.classify` run its two children, `body` and `head`, on the same names. `fixed` are
    the parameters with requires_grad=False: they have no gradient, so nothing moves them.
    Several threads may call one Network at once, each on its own copy of the module, because functional_call
    swaps parameters in place while it runs.

    Raises ConfigError if the module holds a norm that remembers other tasks (see layers/norm.py), or if its head and
    its body share a parameter.
    """

    def __init__(self, module: nn.Module, one_by_one: bool = False, plain_attention: bool = False) -> None:
        for name, child in module.named_modules():
            if isinstance(child, _WRONG_UNDER_VMAP):
                raise ConfigError(f"backbone: {name} is a {type(child).__name__}; use core.norm.TaskNorm instead")
        for value in module.parameters():
            if value.dim() == 4:  # the weights of convolutions lie as they are multiplied; values and names stay
                value.data = value.data.contiguous(memory_format=torch.channels_last)
        self.runs_one_by_one, self.plain_attention = one_by_one, plain_attention
        self.fixed = frozenset(name for name, value in module.named_parameters() if not value.requires_grad)
        self._module = module
        self._shared = shared_names(module)
        self._first_names = first_names(module)
        self._holds_buffers = next(module.buffers(), None) is not None
        self._copies = threading.local()

    def one_by_one(self) -> "Network":
        """The same network, which runs every task by itself."""
        return Network(self._module, one_by_one=True, plain_attention=self.plain_attention)

    def with_plain_attention(self) -> "Network":
        """The same network, whose attention can be differentiated twice."""
        return Network(self._module, self.runs_one_by_one, plain_attention=True)

    def copied(self) -> nn.Module:
        """A copy of the module."""
        return copy.deepcopy(self._module)

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

    def foreign_layers(self) -> dict[str, nn.Module]:
        """The layers, by name, that are neither this package's nor such as it runs by itself for many tasks."""
        return dict(foreign_layers(self._module, ""))

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
        module = self._copy(inputs).get_submodule(child)
        if self.fixed or self._shared:
            params = {name: value.detach() if name in self.fixed else value for name, value in params.items()}
            params |= {name: params[first] for name, first in self._shared.items() if first in params}
        how = how._replace(first_names=self._first_names)
        if child:
            params, how = below(f"{child}.", params), how.at(child)
        with PlainAttention() if self.plain_attention else nullcontext():
            run = _each_alone if self.runs_one_by_one else over_tasks
            return run(module, params, inputs, how)

    def _copy(self, like: Tensor) -> nn.Module:
        """This thread's copy of the module; its buffers, if any, have the device and the type of `like`."""
        kind = (like.device, like.dtype) if self._holds_buffers else None
        copies: dict[Any, nn.Module] = self._copies.__dict__
        if kind not in copies:
            made = copy.deepcopy(self._module)
            copies[kind] = made.to(like.device, like.dtype) if kind else made
        return copies[kind]


def over_tasks(module: nn.Module, params: Params, inputs: Tensor, how: Pass = BY_BATCH) -> Tensor:
    """Outputs [T, N, ...] of a module for inputs [T, N, ...] and its parameters [T, ...] by name."""
    if is_sequence(module):
        # named_children() leaves out a layer that comes a second time.
        children = [(name, child) for name, child in module._modules.items() if child is not None]
        return _in_sequence(children, params, inputs, how)
    if has_hooks(module):
        return _by_vmap(module, params, inputs, how)
    if isinstance(module, TaskLayer):
        return module.over_tasks(params, inputs, how)
    if type(module) is nn.Linear and inputs.dim() == 3:
        outputs = inputs @ params["weight"].mT
        return outputs + params["bias"].unsqueeze(1) if "bias" in params else outputs
    if is_by_example(module):
        alike: Tensor = module(inputs.flatten(0, 1))
        return alike.view(*inputs.shape[:2], *alike.shape[1:])
    return _by_vmap(module, params, inputs, how)


def _by_vmap(module: nn.Module, params: Params, inputs: Tensor, how: Pass) -> Tensor:
    with _told(module, how):
        each: Tensor = torch.vmap(partial(_called, module), randomness="different")(params, inputs)
    return each


def _each_alone(module: nn.Module, params: Params, inputs: Tensor, how: Pass) -> Tensor:
    """The same, one task after the other through the module's own `forward`."""
    each = []
    for task, of_task in enumerate(inputs):
        with _told(module, how.of_task(task)):
            each.append(_called(module, {name: value[task] for name, value in params.items()}, of_task))
    return torch.stack(each)


def _called(module: nn.Module, params: Params, inputs: Tensor) -> Tensor:
    own = [name for name, _ in module.named_parameters()]  # of a shared parameter functional_call wants one name alone
    given = {name: params[name] for name in own}
    # a head without a bias gets that of its task, if there is one
    given |= {name: value for name, value in params.items() if name not in given and _fills_a_gap(module, name)}
    outputs: Tensor = functional_call(module, given, (inputs,))
    return outputs


def _fills_a_gap(module: nn.Module, name: str) -> bool:
    owner, _, own = name.rpartition(".")
    return own in (layer := module.get_submodule(owner))._parameters and layer._parameters[own] is None


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
        if isinstance(child, LeadingLayer) and not has_hooks(child) and (taken := child.takes(following, inputs, how)):
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
        if rises and type(after) is nn.MaxPool2d and not (after.return_indices or has_hooks(layer) or has_hooks(after)):
            order[place : place + 2] = children[place + 1], children[place]
    return order


def below(prefix: str, params: Params) -> Params:
    """The parameters whose names start with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}
