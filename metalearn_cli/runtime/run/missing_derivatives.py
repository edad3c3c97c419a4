"""Finds the layer of a network that has no derivative, and operations that a derivative would silently leave out.

Legend: N examples.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metalearn_cli.layers.attention import PlainAttention
from metalearn_cli.layers.network import Network
from metalearn_cli.layers.passing import Params

EXAMPLES = 4
"""The number of examples that a network is tried on."""


def require_whole(values: list[Tensor]) -> None:
    """Raise RuntimeError if a derivative of `values` would silently leave out an operation.

    An operation marked with `once_differentiable` ends the graph in a node that raises an error. But
    torch.autograd.grad (2.13) never visits that node, because none of the inputs lies behind it, and so returns a
    wrong derivative without an error.
    """
    nodes = [value.grad_fn for value in values]
    known = set(nodes)
    while nodes:
        node = nodes.pop()
        if node is None:
            continue
        if node.name().endswith("Error"):
            raise RuntimeError("an operation is marked with once_differentiable")
        further = {following for following, _ in node.next_functions} - known
        known |= further
        nodes += further


def culprit(network: Network, params: Params, shape: tuple[int, ...], order: int) -> tuple[str, nn.Module] | None:
    """The first innermost layer, with its name, that alone has no derivatives up to `order` for its own inputs."""
    module, entered = network.copied(), dict[str, tuple[nn.Module, tuple[object, ...]]]()

    def note(layer: nn.Module, inputs: tuple[object, ...]) -> None:
        entered.setdefault(names[layer], (layer, inputs))

    names = {layer: name for name, layer in module.named_modules()}
    for layer in names:
        layer.register_forward_pre_hook(note)
    own = {name: value[0].float() for name, value in params.items()}
    try:
        functional_call(module, own, (torch.rand(EXAMPLES, *shape),))
    except (Exception, SystemExit):
        name, (layer, _) = list(entered.items())[-1]  # the last layer that was entered raised the error
        return name.removeprefix("body."), layer
    for name, (layer, inputs) in entered.items():
        if not list(layer.children()) and not _differentiable(layer, inputs, order):
            return name.removeprefix("body."), layer
    return None


def _differentiable(layer: nn.Module, inputs: tuple[object, ...], order: int) -> bool:
    arguments = [_leaf(value) for value in inputs]
    at = [value for value in arguments if isinstance(value, Tensor) and value.requires_grad]
    at += [value for value in layer.parameters() if value.requires_grad]
    try:
        with PlainAttention():
            outputs = layer(*arguments)
        total = (outputs if isinstance(outputs, Tensor) else outputs[0]).square().sum()
        for _ in range(order):
            # The squared length of the gradient is a scalar again, whose gradient contains the next derivative.
            gradients = torch.autograd.grad(total, at, create_graph=True, allow_unused=True)
            total = torch.stack([value.square().sum() for value in gradients if value is not None]).sum()
        require_whole([total])
    except Exception:
        return False
    return True


def _leaf(value: object) -> object:
    return value.detach().requires_grad_() if isinstance(value, Tensor) and value.is_floating_point() else value
