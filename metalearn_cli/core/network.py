"""A module as a pure function of its parameters, for many tasks at once.

Legend: T tasks, N examples, F features.
"""

import copy
import threading
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metalearn_cli.errors import ConfigError

Params = dict[str, Tensor]

_WRONG_UNDER_VMAP = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


class Network:
    """`network(params, inputs)`: the module's outputs with `params` in the place of its own, which stay as they are.

    Every task has its parameters: `params` are [T, ...] by name. The module itself is written for one task, and vmap
    runs it on all. Only the forward pass goes through vmap; autograd differentiates what comes out, in plain torch
    operations, as often as need be. One task alone runs without vmap.

    `network.features` and `network.classify` run its two children, `body` and `head`, on the same names.
    Several threads may call one Network at once, each on its own copy of the module, because functional_call
    swaps parameters in place while it runs.

    Raises ConfigError if the module holds a norm whose second-order gradient is wrong under vmap (see core/norm.py).
    """

    def __init__(self, module: nn.Module) -> None:
        for name, child in module.named_modules():
            if isinstance(child, _WRONG_UNDER_VMAP):
                raise ConfigError(f"backbone: {name} is a {type(child).__name__}; use core.norm.TaskNorm instead")
        self._module = module
        self._copies = threading.local()

    def initial(self) -> Params:
        """A copy of the module's own parameters, by the names of `named_parameters()`."""
        return {name: value.detach().clone() for name, value in self._module.named_parameters()}

    def __call__(self, params: Params, inputs: Tensor) -> Tensor:
        """Outputs [T, N, outputs] for inputs [T, N, ...]."""
        return self._call(self._copy(), params, inputs)

    def features(self, params: Params, inputs: Tensor) -> Tensor:
        """What the body makes of inputs [T, N, ...]: features [T, N, F]."""
        return self._call(self._copy().get_submodule("body"), _below("body.", params), inputs)

    def classify(self, params: Params, features: Tensor) -> Tensor:
        """What the head makes of features [T, N, F]: outputs [T, N, outputs]."""
        return self._call(self._copy().get_submodule("head"), _below("head.", params), features)

    def _call(self, module: nn.Module, params: Params, inputs: Tensor) -> Tensor:
        if len(inputs) == 1:
            alone = {name: value[0] for name, value in params.items()}
            one: Tensor = functional_call(module, alone, (inputs[0],))
            return one.unsqueeze(0)
        outputs: Tensor = torch.vmap(partial(functional_call, module), randomness="different")(params, (inputs,))
        return outputs

    def _copy(self) -> nn.Module:
        if not hasattr(self._copies, "module"):
            self._copies.module = copy.deepcopy(self._module)
        module: nn.Module = self._copies.module
        return module


def leading(value: Tensor, dim: int | None, tasks: int) -> Tensor:
    """A tensor that vmap has batched at `dim` (None: not at all) with its T axis first."""
    return value.expand(tasks, *value.shape) if dim is None else value.movedim(dim, 0)


def _below(prefix: str, params: Params) -> Params:
    return {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}
