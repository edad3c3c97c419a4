"""Network: runs a torch module as a pure function of its parameters, for many tasks at once.

Legend: T tasks, N examples, F features.
"""

import copy
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
from metalearn_cli.layers.cpu.kernels import Kernels
from metalearn_cli.layers.drop_block import DropBlock
from metalearn_cli.layers.norm import TaskNorm
from metalearn_cli.layers.one_task import alone, goes_alone, is_small
from metalearn_cli.layers.passing import BY_BATCH, Params, Pass, under_prefix
from metalearn_cli.layers.task_layers import (
    LeadingLayer,
    TaskLayer,
    first_names,
    foreign_layers,
    has_hooks,
    is_by_example,
    is_sequence,
    pooled_first,
    shared_names,
)

Kind = TypeVar("Kind", bound=nn.Module)

_WRONG_UNDER_VMAP = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)

_READ_THE_PASS = (TaskNorm, DropBlock)
"""The layers whose outputs depend on the Pass: `_told` sets it on them inside modules that are not ours."""


class Network:
    """`network(params, inputs, how)` returns the module's outputs [T, N, outputs] with `params` as its parameters.

    Every task has its own parameters: `params` are [T, ...] by name. The module's own parameters never change. A
    `TaskLayer` runs all tasks in one call; every other module runs under vmap. Only the forward pass uses vmap:
    autograd then differentiates plain torch operations, any number of times.

    `one_by_one=True`: each task runs alone, through the plain modules. It is slow, and the reference for the tests.
    `plain_attention=True`: torch's attention runs in a form that can be differentiated twice.
    `kernels`: the compiled functions that its convolutions may use on a CPU; None is torch alone.
    `features` and `classify` run the children `body` and `head`. `fixed` names the parameters with
    requires_grad=False; they get no gradient and never move.

    Several threads may call one Network at once. Each uses its own copy of the module, because functional_call swaps
    parameters in place while it runs.

    Raises ConfigError if the module holds a torch batch or instance norm (see layers/norm.py), or if its head and its
    body share a parameter.

    >>> from collections import OrderedDict
    >>> network = Network(nn.Sequential(OrderedDict(body=nn.Flatten(), head=nn.Linear(4, 2))))
    >>> params = {name: value.expand(3, *value.shape) for name, value in network.initial().items()}
    >>> network(params, torch.rand(3, 5, 4)).shape  # 3 tasks of 5 examples, each with 4 values
    torch.Size([3, 5, 2])
    """

    def __init__(
        self,
        module: nn.Module,
        one_by_one: bool = False,
        plain_attention: bool = False,
        kernels: Kernels | None = None,
    ) -> None:
        for name, child in module.named_modules():
            if isinstance(child, _WRONG_UNDER_VMAP):
                raise ConfigError(f"backbone: {name} is a {type(child).__name__}; use layers.norm.TaskNorm instead")
        for value in module.parameters():
            if value.dim() == 4:  # weights of convolutions: channels-last memory is faster; the values stay the same
                value.data = value.data.contiguous(memory_format=torch.channels_last)
        self.runs_one_by_one, self.plain_attention, self.kernels = one_by_one, plain_attention, kernels
        self.fixed = frozenset(name for name, value in module.named_parameters() if not value.requires_grad)
        self._module = module
        self._shared = shared_names(module)
        self._first_names = first_names(module)
        self._holds_buffers = next(module.buffers(), None) is not None
        self._copies = threading.local()

    def one_by_one(self) -> "Network":
        """The same network, but each task runs alone."""
        return Network(self._module, one_by_one=True, plain_attention=self.plain_attention)

    def with_plain_attention(self) -> "Network":
        """The same network, but its attention can be differentiated twice."""
        return Network(self._module, self.runs_one_by_one, plain_attention=True, kernels=self.kernels)

    def copied(self) -> nn.Module:
        """A deep copy of the module, with its own parameters."""
        return copy.deepcopy(self._module)

    def initial(self) -> Params:
        """A copy of the module's own parameters, by the names of `named_parameters()`."""
        return {name: value.detach().clone() for name, value in self._module.named_parameters()}

    def parameters_of(self, kind: type[nn.Module] | tuple[type[nn.Module], ...]) -> frozenset[str]:
        """The names of the parameters of all submodules that are instances of `kind`."""
        found = [(name, module) for name, module in self._module.named_modules() if isinstance(module, kind)]
        return frozenset(f"{name}.{own}" for name, module in found for own, _ in module.named_parameters())

    def modules_of(self, kind: type[Kind]) -> dict[str, Kind]:
        """The submodules that are instances of `kind`, by name."""
        return {name: module for name, module in self._module.named_modules() if isinstance(module, kind)}

    def foreign_layers(self) -> dict[str, nn.Module]:
        """The layers, by name, that are not of this package: they run under vmap, or are TaskLayers of others."""
        return dict(foreign_layers(self._module, ""))

    def runs_alone(self, support: Tensor) -> bool:
        """Whether a task with the support inputs [T, N, ...] is a single small one (layers/one_task.py).

        Compiled kernels are faster for it.
        """
        return self.kernels is None and not self.runs_one_by_one and is_small(support)

    def __call__(self, params: Params, inputs: Tensor, how: Pass = BY_BATCH) -> Tensor:
        """The outputs [T, N, outputs] for inputs [T, N, ...]."""
        return self._run("", params, inputs, how)

    def features(self, params: Params, inputs: Tensor, how: Pass = BY_BATCH) -> Tensor:
        """The body's features [T, N, F] for inputs [T, N, ...]."""
        return self._run("body", params, inputs, how)

    def classify(self, params: Params, features: Tensor) -> Tensor:
        """The head's outputs [T, N, outputs] for features [T, N, F]."""
        return self._run("head", params, features, BY_BATCH)

    def _run(self, child: str, params: Params, inputs: Tensor, how: Pass) -> Tensor:
        module = self._copy(inputs).get_submodule(child)
        if self.fixed or self._shared:  # a shared parameter has several names; `params` holds it under the first one
            params = {name: value.detach() if name in self.fixed else value for name, value in params.items()}
            params |= {name: params[first] for name, first in self._shared.items() if first in params}
        how = how._replace(first_names=self._first_names, kernels=self.kernels)
        if child:
            params, how = under_prefix(f"{child}.", params), how.at(child)
        with PlainAttention() if self.plain_attention else nullcontext():
            if self.runs_one_by_one:
                return _each_alone(module, params, inputs, how)
            run = partial(alone, over_tasks) if goes_alone(inputs, how) else over_tasks
            return run(module, params, inputs, how)

    def _copy(self, like: Tensor) -> nn.Module:
        """This thread's copy of the module; its buffers, if it has any, have the device and the dtype of `like`."""
        kind = (like.device, like.dtype) if self._holds_buffers else None
        # threading.local: each thread has a dictionary of its own copies, by device and dtype of their buffers.
        copies: dict[Any, nn.Module] = self._copies.__dict__
        if kind not in copies:
            made = copy.deepcopy(self._module)
            copies[kind] = made.to(like.device, like.dtype) if kind else made
        return copies[kind]


def over_tasks(module: nn.Module, params: Params, inputs: Tensor, how: Pass = BY_BATCH) -> Tensor:
    """The outputs [T, N, ...] of a module for inputs [T, N, ...] and parameters [T, ...], by the fastest exact way."""
    if is_sequence(module):
        return _in_sequence(pooled_first(module), params, inputs, how)
    if has_hooks(module):  # a hook must see a call of its module, which only vmap makes
        return _by_vmap(module, params, inputs, how)
    if isinstance(module, TaskLayer):
        return module.over_tasks(params, inputs, how)
    if type(module) is nn.Linear and inputs.dim() == 3:
        # [T, N, F] @ [T, F, outputs]: torch multiplies task by task.
        outputs = inputs @ params["weight"].mT
        return outputs + params["bias"].unsqueeze(1) if "bias" in params else outputs
    if is_by_example(module):  # T tasks of N examples are T * N examples
        alike: Tensor = module(inputs.flatten(0, 1))
        return alike.view(*inputs.shape[:2], *alike.shape[1:])
    return _by_vmap(module, params, inputs, how)


def _by_vmap(module: nn.Module, params: Params, inputs: Tensor, how: Pass) -> Tensor:
    with _told(module, how):
        each: Tensor = torch.vmap(partial(_called, module), randomness="different")(params, inputs)
    return each


def _each_alone(module: nn.Module, params: Params, inputs: Tensor, how: Pass) -> Tensor:
    """The outputs [T, N, ...], one task after the other through the module's own `forward`."""
    each = []
    for task, of_task in enumerate(inputs):
        with _told(module, how.of_task(task)):
            each.append(_called(module, {name: value[task] for name, value in params.items()}, of_task))
    return torch.stack(each)


def _called(module: nn.Module, params: Params, inputs: Tensor) -> Tensor:
    own = [name for name, _ in module.named_parameters()]  # functional_call refuses a shared parameter's second name
    given = {name: params[name] for name in own}
    # A head without a bias gets the bias of its task, if the task has one (ProtoNet, R2D2 make one).
    given |= {name: value for name, value in params.items() if name not in given and _fills_a_gap(module, name)}
    outputs: Tensor = functional_call(module, given, (inputs,))
    return outputs


def _fills_a_gap(module: nn.Module, name: str) -> bool:
    # torch registers an absent bias as None, so the name is known and has no value.
    owner, _, own = name.rpartition(".")
    return own in (layer := module.get_submodule(owner))._parameters and layer._parameters[own] is None


@contextmanager
def _told(module: nn.Module, how: Pass) -> Iterator[None]:
    """Inside the block, the norms and random layers of the module use the pass `how`.

    The `forward` of a foreign module cannot hand `how` on to its layers, so `how` is set on the layers themselves. The
    layers belong to this thread's copy of the network, so no other call sees the change.
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
    # A convolution may take the norm and the activation after it along (`taken` layers), as one function.
    while children:
        (name, child), *children = children
        own, following = under_prefix(f"{name}.", params), [layer for _, layer in children]
        if isinstance(child, LeadingLayer) and not has_hooks(child) and (taken := child.takes(following, inputs, how)):
            theirs = [under_prefix(f"{other}.", params) for other, _ in children[:taken]]
            inputs, children = child.over_tasks_with(following[:taken], [own, *theirs], inputs, how), children[taken:]
        else:
            inputs = over_tasks(child, own, inputs, how.at(name))
    return inputs
