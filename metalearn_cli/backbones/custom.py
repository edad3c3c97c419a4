"""A network of your own: any Python function that returns an nn.Module whose last layer is linear.

    backbone: {name: custom, call: "mynets.small:build", arguments: {width: 32}}

Its batch norms are replaced by norms that work for many tasks at once, and the outputs before and after are compared.
With `statistics: frozen` a pretrained network keeps its running statistics.
"""

import copy
from collections import OrderedDict
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.norm import FrozenNorm, TaskGroupNorm, TaskNorm
from metalearn_cli.references import first_line, imported
from metalearn_cli.settings import Choice

_TOLERANCE, _EXAMPLES = 1e-4, 4
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_Plain = bool | int | float | str | None


class Config(Choice):
    """This backbone runs Python code: read that code before you run an experiment of another person.

    Group norms stay as they are. Batch norms of other libraries, instance norms, norms without scale and shift, and
    dropout are refused.

    `call`: the function or class, `package.module:name`; modules are also looked for in the folder where the command
        runs.
    `arguments`: its keyword arguments.
    `head`: the name, within the module, of the linear layer that gives the outputs; if empty, the last linear layer. If
        the task has another number of outputs, a new layer takes its place.
    `statistics`: the statistics of batch norms: those of the current batch ("batch"), as in training, or the running
        statistics of a pretrained network, which then never change ("frozen").
    `freeze`: whether nothing before the head moves, within a task or in training.
    """

    name: Literal["custom"] = "custom"
    call: str = Field(pattern=r"^[\w.]+:\w+$")
    arguments: dict[str, _Plain | list[_Plain]] = Field(default={})
    head: str = ""
    statistics: Literal["batch", "frozen"] = "batch"
    freeze: bool = False


def build(config: Config, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """The module that `call` returns, split into the children `body` and `head`, with norms that many tasks can use.

    Raises ConfigError, with the reason, if the module cannot be changed so, or if the changed module gives other
    outputs than the original does in training mode (with frozen statistics: in evaluation mode).
    """
    function = imported(config.call, "backbone.call")
    try:
        module = function(**config.arguments)
    except (Exception, SystemExit) as error:  # somebody else's code
        raise ConfigError(f"backbone.call: {config.call} failed: {first_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise ConfigError(f"backbone.call: {config.call} gave a {type(module).__name__}, expected an nn.Module")
    if any(isinstance(value, UninitializedParameter) for value in module.parameters()):
        with torch.no_grad():  # lazy layers learn their sizes from their first inputs
            _answer(config, module, torch.rand(_EXAMPLES, *input_shape))
    name, head = _head(config, module)
    frozen = config.statistics == "frozen"
    original = copy.deepcopy(module).train(not frozen)
    network = _split(_with_own_norms(module, {}, frozen), name, head).train()
    for layer in network.modules():
        if getattr(layer, "inplace", None) is True:  # in place it would overwrite inputs that tasks or derivatives need
            setattr(layer, "inplace", False)  # noqa: B010  (mypy takes it for a tensor)
    if not any(value.is_meta for value in network.parameters()):
        _require_the_same(config, original, network, input_shape)
    if head.out_features != outputs:
        network.head = nn.Linear(head.in_features, outputs, bias=head.bias is not None)
    if config.freeze:
        network.body.requires_grad_(False)
    return network


def _head(config: Config, module: nn.Module) -> tuple[str, nn.Linear]:
    linear = {name: one for name, one in module.named_modules() if type(one) is nn.Linear and name}
    if config.head and config.head not in linear:
        raise ConfigError(f"backbone.head: {config.call} has no linear layer {config.head!r}, only {', '.join(linear)}")
    if not linear:
        raise ConfigError(f"backbone.call: the module of {config.call} has no linear layer for a head")
    name = config.head or list(linear)[-1]
    return name, linear[name]


def _split(module: nn.Module, name: str, head: nn.Linear) -> nn.Sequential:
    """A Sequential of two children: `body`, the module with its head replaced by nn.Identity, and `head`."""
    children = [own for own, _ in module.named_children()]
    if type(module) is nn.Sequential and name == "head" and children == ["body", "head"]:
        return module
    owner, _, own = name.rpartition(".")
    setattr(module.get_submodule(owner), own, nn.Identity())
    return nn.Sequential(OrderedDict(body=module, head=head))


def _with_own_norms(
    module: nn.Module, replacements: dict[nn.Module, nn.Module], frozen: bool = False, name: str = ""
) -> nn.Module:
    """The module with every batch and group norm replaced by ours.

    A norm that stands in several places is replaced by one norm in all of them.
    """
    for own, child in module._modules.items():  # named_children() lists a layer only once, even in several places
        if child is not None:
            if child not in replacements:
                replacements[child] = _with_own_norms(child, replacements, frozen, f"{name}.{own}".lstrip("."))
            setattr(module, own, replacements[child])
    what = f"backbone.call: {name} is a {type(module).__name__}"
    if isinstance(module, nn.modules.batchnorm._NormBase) and type(module) not in _BATCH_NORMS:
        raise ConfigError(f"{what}; only batch norms of torch itself have a form for many tasks at once")
    if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
        raise ConfigError(f"{what}, which is random; set its probability to 0")
    match module:
        case nn.BatchNorm1d() | nn.BatchNorm2d() | nn.BatchNorm3d():
            replaced: nn.Module = _batch_norm(module, frozen, what)
        case nn.GroupNorm():
            replaced = TaskGroupNorm(module.num_groups, module.num_channels, module.eps)
        case _:
            return module
    if module.weight is None:
        raise ConfigError(f"{what} without scale and shift (affine)")
    replaced.weight, replaced.bias = module.weight, module.bias
    return replaced


def _batch_norm(norm: nn.modules.batchnorm._BatchNorm, frozen: bool, what: str) -> nn.Module:
    """The norm that replaces a batch norm of torch: FrozenNorm keeps its running statistics, TaskNorm forgets them."""
    mean, variance = norm.running_mean, norm.running_var
    if frozen:
        if mean is None or variance is None:
            raise ConfigError(f"{what} that keeps no statistics; expected backbone.statistics=batch")
        return FrozenNorm(mean, variance, norm.eps)
    replaced = TaskNorm(norm.num_features, norm.eps)
    replaced.forgets = mean is not None and not mean.is_meta and bool(mean.any())
    return replaced


def _require_the_same(config: Config, original: nn.Module, network: nn.Module, input_shape: tuple[int, ...]) -> None:
    inputs = torch.rand(_EXAMPLES, *input_shape)
    with torch.no_grad():
        expected, again = (_answer(config, original, inputs.clone()) for _ in range(2))
        try:
            found = network(inputs.clone())
        except (Exception, SystemExit):  # a layer after the head got features in place of outputs, and failed
            found = inputs
    if not torch.equal(expected, again):
        raise ConfigError(f"backbone.call: the module of {config.call} is random; it answers otherwise every time")
    scale = expected.abs().max().clamp(min=1)
    if found.shape != expected.shape or not float((found - expected).abs().max() / scale) < _TOLERANCE:
        raise ConfigError(
            f"backbone.head: {config.call} has more layers after this linear one; expected the last layer"
        )


def _answer(config: Config, module: nn.Module, inputs: Tensor) -> Tensor:
    try:
        outputs = module(inputs)
    except (Exception, SystemExit) as error:  # somebody else's code
        refused = f"{config.call} cannot take inputs of shape {list(inputs.shape[1:])}: {first_line(error)}"
        raise ConfigError(f"backbone.call: {refused}") from error
    if not isinstance(outputs, Tensor) or outputs.dim() != 2:
        raise ConfigError(f"backbone.call: the module of {config.call} must return outputs of shape [N, outputs]")
    return outputs
