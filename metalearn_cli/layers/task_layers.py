"""Functions that tell in which way a layer can run many tasks at once, and the interface of layers that can.

Legend: T tasks, N examples.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.passing import Params, Pass

_OWN_LAYERS = ("metalearn_cli.layers.", "metalearn_cli.backbones.")

_BY_EXAMPLE = (
    *(nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.GELU, nn.Identity, nn.Flatten, nn.Unflatten),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Upsample),
    *(nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d),
)
"""torch layers without parameters that compute each example by itself, so tasks need not be told apart."""


@runtime_checkable
class TaskLayer(Protocol):
    """A layer that runs many tasks in one call, each task with its own parameters.

    >>> class LinearOfTasks(nn.Linear):
    ...     def over_tasks(self, params, inputs, how):
    ...         return inputs @ params["weight"].mT  # [T, N, F] @ [T, F, outputs]
    >>> isinstance(LinearOfTasks(4, 2, bias=False), TaskLayer)
    True
    """

    def over_tasks(self, params: Params, inputs: Tensor, how: Pass, /) -> Tensor:
        """The outputs [T, N, ...] for inputs [T, N, ...]; `params` are [T, ...], by the layer's own parameter names."""


@runtime_checkable
class LeadingLayer(TaskLayer, Protocol):
    """A TaskLayer that can compute the layers after it in the same call, because that is faster (only TaskConv2d)."""

    def takes(self, following: Sequence[nn.Module], inputs: Tensor, how: Pass) -> int:
        """The number of `following` layers that it computes in the same call for inputs [T, N, ...]; 0 for none."""

    def over_tasks_with(
        self, following: Sequence[nn.Module], params: Sequence[Params], inputs: Tensor, how: Pass
    ) -> Tensor:
        """The outputs [T, N, ...] of this layer and the `following` ones; `params` are its own first, then theirs."""


def is_sequence(module: nn.Module) -> bool:
    """Whether the module is an nn.Sequential that runs its children one after the other and does nothing else."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward and not has_hooks(module)


def has_hooks(module: nn.Module) -> bool:
    """Whether the module has forward hooks, so that calling it does more than its `forward`."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def is_by_example(module: nn.Module) -> bool:
    """Whether the module has no parameters and computes each example by itself, so tasks need not be told apart."""
    if isinstance(module, nn.Flatten | nn.Unflatten):
        # Flatten(0) would merge the examples.
        first = module.start_dim if isinstance(module, nn.Flatten) else module.dim
        return type(module) in _BY_EXAMPLE and isinstance(first, int) and first > 0
    # A max-pool with return_indices gives a pair of tensors.
    return type(module) in _BY_EXAMPLE and not getattr(module, "return_indices", False)


def foreign_layers(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield (name, layer) for the layers that are not of this package, which have to be tried before training.

    Most of them run under vmap; a TaskLayer of somebody else runs by its own `over_tasks`. `name` is the module's own
    name, the prefix of theirs.
    """
    if is_sequence(module):
        for own, layer in _apart(module):
            yield from foreign_layers(layer, f"{name}.{own}".lstrip("."))  # the root's own name is ""
    elif isinstance(module, TaskLayer) and not has_hooks(module):
        if not type(module).__module__.startswith(_OWN_LAYERS):
            yield name, module
    elif has_hooks(module) or not (type(module) is nn.Linear or is_by_example(module)):
        yield name, module


def shared_names(module: nn.Module) -> dict[str, str]:
    """For parameters that a module holds in several places: {each further name: the first name}.

    Raises ConfigError if the head shares a parameter with the body.
    """
    first: dict[Tensor, str] = {}
    shared = {}
    for name, value in module.named_parameters(remove_duplicate=False):
        if (known := first.setdefault(value, name)) != name:
            shared[name] = known
            if known.startswith("body.") and name.startswith("head."):
                raise ConfigError(f"backbone: {known} and {name} are one parameter; body and head must not share any")
    return shared


def first_names(module: nn.Module) -> dict[str, str]:
    """For layers that stand in several places of a module: {each further name: the first name}."""
    first: dict[nn.Module, str] = {}
    every = module.named_modules(remove_duplicate=False)
    return {name: known for name, layer in every if (known := first.setdefault(layer, name)) != name}


def pooled_first(sequence: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers of an nn.Sequential by name, but a max-pool that follows a ReLU or leaky ReLU comes before it.

    Both orders give the same values and gradients, because these activations never decrease; the activation then has
    fewer values to work on. Sequences within the sequence are taken apart, so that it does not matter where they end.
    """
    children = list(_apart(sequence))
    order = list(children)
    # Swapping places in a copy: `children` keeps the order of the network while pairs are read from it.
    for place, ((_, layer), (_, after)) in enumerate(itertools.pairwise(children)):
        rises = type(layer) is nn.ReLU or (type(layer) is nn.LeakyReLU and layer.negative_slope >= 0)
        if rises and type(after) is nn.MaxPool2d and not (after.return_indices or has_hooks(layer) or has_hooks(after)):
            order[place : place + 2] = children[place + 1], children[place]
    return order


def _apart(sequence: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield (name, layer) in their order; a layer of a sequence within has both names, as in `0.1`."""
    for name, child in sequence._modules.items():  # named_children() leaves out a layer that comes a second time
        if child is not None and is_sequence(child):
            yield from ((f"{name}.{inner}", layer) for inner, layer in _apart(child))
        elif child is not None:
            yield name, child
