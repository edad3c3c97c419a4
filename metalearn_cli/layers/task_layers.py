"""Which layers of a network can run many tasks at once, and in which way.

Legend: T tasks, N examples.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.passing import Params, Pass

_OWN_LAYERS = ("metalearn_cli.core.", "metalearn_cli.backbones.")

_BY_EXAMPLE = (
    *(nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Identity, nn.Flatten, nn.Unflatten),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Upsample),
)
"""Layers without parameters that treat every example by itself, whichever task it is of."""


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


def is_sequence(module: nn.Module) -> bool:
    """Whether its children one after the other are all it does."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward and not has_hooks(module)


def has_hooks(module: nn.Module) -> bool:
    """Whether calling it does more than its forward."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def is_by_example(module: nn.Module) -> bool:
    """Whether it has no parameters and treats every example by itself, whichever task it is of."""
    if isinstance(module, nn.Flatten | nn.Unflatten):
        first = module.start_dim if isinstance(module, nn.Flatten) else module.dim
        return type(module) in _BY_EXAMPLE and isinstance(first, int) and first > 0
    return type(module) in _BY_EXAMPLE and not getattr(module, "return_indices", False)


def foreign_layers(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The layers below `name` that are neither this package's nor such as it runs by itself for many tasks."""
    if is_sequence(module):
        for own, child in module._modules.items():
            if child is not None:
                yield from foreign_layers(child, f"{name}.{own}".lstrip("."))
    elif isinstance(module, TaskLayer) and not has_hooks(module):
        if not type(module).__module__.startswith(_OWN_LAYERS):
            yield name, module
    elif has_hooks(module) or not (type(module) is nn.Linear or is_by_example(module)):
        yield name, module


def shared_names(module: nn.Module) -> dict[str, str]:
    """The further names of parameters that a module holds in several places, each with the first name.

    Raises ConfigError if its head shares one with its body.
    """
    first: dict[Tensor, str] = {}
    shared = {}
    for name, value in module.named_parameters(remove_duplicate=False):
        if (known := first.setdefault(value, name)) != name:
            shared[name] = known
            if known.startswith("body.") and name.startswith("head."):
                raise ConfigError(f"backbone: {known} and {name} are one parameter; body and head need one each")
    return shared


def first_names(module: nn.Module) -> dict[str, str]:
    """The further names of layers that stand in several places of a module, each with the first name."""
    first: dict[nn.Module, str] = {}
    every = module.named_modules(remove_duplicate=False)
    return {name: known for name, layer in every if (known := first.setdefault(layer, name)) != name}
