"""MLP: a fully connected network with ReLUs; by default the two layers of 40 units of the paper's sinusoids.

Finn et al. 2017, section 5.1.
"""

import math
from collections import OrderedDict
from typing import Literal

from pydantic import Field
from torch import nn

from metalearn_cli.settings import Choice, Size


class Config(Choice):
    """A network of hidden layers of any size, for inputs of any shape.

    `hidden` (units): the size of each hidden layer.
    """

    name: Literal["mlp"] = "mlp"
    hidden: list[Size] = Field(default=[40, 40])


def build(config: Config, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """The network of linear layers, with torch's default initialisation; its body flattens the inputs first."""
    layers: list[nn.Module] = [nn.Flatten()]
    size = math.prod(input_shape)
    for following in config.hidden:
        layers += [nn.Linear(size, following), nn.ReLU()]
        size = following
    return nn.Sequential(OrderedDict(body=nn.Sequential(*layers), head=nn.Linear(size, outputs)))
