"""MLP: a fully connected network, by default with ReLUs and the two layers of 40 units of the paper's sinusoids.

Finn et al. 2017, section 5.1.
"""

import math
from collections import OrderedDict
from typing import Literal

from pydantic import Field
from torch import nn

from metalearn_cli.layers.norm import TaskGroupNorm, TaskNorm
from metalearn_cli.settings import Choice, Size


class Config(Choice):
    """A network of hidden layers of any size, for inputs of any shape.

    `hidden` (units): the size of each hidden layer.
    `activation`: the function after each hidden layer; all but "relu" and "leaky_relu" have a second derivative.
    `norm`: the norm before each activation: "batch" normalises each unit over the examples of a task, as
        `task.statistics` says, "layer" the units of each example by itself (Ba et al. 2016, arXiv 1607.06450).
    """

    name: Literal["mlp"] = "mlp"
    hidden: list[Size] = Field(default=[40, 40])
    activation: Literal["relu", "leaky_relu", "tanh", "softplus", "gelu"] = "relu"
    norm: Literal["none", "batch", "layer"] = "none"


_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "tanh": nn.Tanh, "softplus": nn.Softplus, "gelu": nn.GELU,
}  # fmt: skip


def build(config: Config, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """The network of linear layers, with torch's default initialisation; its body flattens the inputs first."""
    layers: list[nn.Module] = [nn.Flatten()]
    size = math.prod(input_shape)
    for following in config.hidden:
        layers.append(nn.Linear(size, following))
        if config.norm != "none":
            layers.append(TaskNorm(following) if config.norm == "batch" else TaskGroupNorm(1, following))
        layers.append(_ACTIVATIONS[config.activation]())
        size = following
    return nn.Sequential(OrderedDict(body=nn.Sequential(*layers), head=nn.Linear(size, outputs)))
