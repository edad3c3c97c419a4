"""Turns an adapted learner into a network of plain torch layers that needs neither metalearn nor the support set.

After adaptation the statistics of the support set are constants. So a TaskNorm with support statistics becomes a batch
norm in evaluation mode, and its running statistics are those of the support set.

Legend: N pictures, C channels, W classes.
"""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.convolution import TaskConv1d, TaskConv2d
from metalearn_cli.layers.drop_block import DropBlock
from metalearn_cli.layers.norm import TaskGroupNorm, TaskNorm

_TOLERANCE = 1e-4  # relative; torch's layers round float32 in another order


def without_body(inputs: int) -> nn.Module:
    """A network for a learner that reads raw pixels (only `nearest`): its body only flattens its `inputs` values."""
    return nn.Sequential(OrderedDict(body=nn.Flatten(), head=nn.Linear(inputs, 1)))


def plain(network: nn.Module, params: dict[str, Tensor], support: Tensor, outputs: Tensor) -> nn.Module:
    """The backbone in plain torch layers and evaluation mode, with the adapted parameters `params` under its own names.

    It maps inputs [N, C, H, W] to outputs [N, W], each input by itself. `support` are the support inputs, from which
    the norms get their statistics. `outputs` are the learner's answers to them; the answers of the new network are
    compared with these.

    Raises ConfigError if the network cannot take the parameters, or if its answers differ from the learner's.
    """
    if isinstance(head := getattr(network, "head", None), nn.Linear):
        ways, features = params["head.weight"].shape
        network.head = type(head)(features, ways, bias=head.bias is not None)
    with torch.no_grad():
        try:
            network.load_state_dict(params)
            statistics = _statistics(network, support)
            layers = _replaced(network, lambda layer: _plain_layer(layer, statistics)).eval()
            own = layers(support)
        except RuntimeError as error:
            raise ConfigError(f"its backbone has no plain form: {str(error).splitlines()[0]}") from error
    off = float((own - outputs).abs().max() / outputs.abs().max().clamp(min=1)) if own.shape == outputs.shape else 1
    if not off < _TOLERANCE:
        raise ConfigError(f"in plain layers it would answer otherwise (by {off:.0e}); only the form .pt can hold it")
    return layers


def _statistics(network: nn.Module, support: Tensor) -> dict[nn.Module, tuple[Tensor, Tensor, int]]:
    """For each TaskNorm: mean and variance [C] of its inputs for the support set, and the number of their axes."""
    moments: dict[nn.Module, tuple[Tensor, Tensor, int]] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows = inputs[0].movedim(1, -1).flatten(0, -2)  # [N, C, ...] -> [N * ..., C]
        mean = rows.mean(0)
        # The biased variance, as a norm computes it from its batch; torch's own running variance is the unbiased one.
        moments[layer] = mean, (rows - mean).square().mean(0), inputs[0].dim()

    hooks = [layer.register_forward_pre_hook(note) for layer in network.modules() if isinstance(layer, TaskNorm)]
    network(support)
    for hook in hooks:
        hook.remove()
    return moments


def _replaced(module: nn.Module, layer: Callable[[nn.Module], nn.Module]) -> nn.Module:
    for name, child in module.named_children():
        setattr(module, name, _replaced(child, layer))
    return layer(module)


def _plain_layer(layer: nn.Module, statistics: dict[nn.Module, tuple[Tensor, Tensor, int]]) -> nn.Module:
    """The torch layer that equals a layer of this package; any other layer is returned unchanged."""
    own: nn.Module
    match layer:
        case TaskConv2d():
            window = layer.window
            own = nn.Conv2d(
                layer.in_channels, layer.out_channels, window.kernel, window.stride, window.padding,
                bias=layer.bias is not None,
            )  # fmt: skip
        case TaskConv1d():
            own = nn.Conv1d(
                layer.in_channels, layer.out_channels, layer.window.kernel[1], layer.window.stride[1],
                layer.window.padding[1], bias=layer.bias is not None,
            )  # fmt: skip
        case TaskGroupNorm():
            own = nn.GroupNorm(layer.num_groups, layer.num_channels, layer.eps)
        case TaskNorm():
            mean, variance, axes = statistics[layer]
            own = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[axes](len(mean), layer.eps)
            own.load_state_dict({"running_mean": mean, "running_var": variance}, strict=False)
        case DropBlock():  # it drops only in training
            return nn.Identity()
        case _:
            return layer
    own.load_state_dict(layer.state_dict(), strict=False)
    return own
