"""A fully connected network with ReLU; by default the 2 x 40 of the paper's sinusoids.

Finn et al. 2017, section 5.1.
"""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from metalearn_cli.settings import Choice


class Config(Choice):
    """`hidden`: the size of each hidden layer."""

    name: Literal["mlp"] = "mlp"
    hidden: list[Annotated[int, Field(ge=1)]] = Field(default=[40, 40])


class Mlp(nn.Module):
    """Inputs [N, ...] to outputs [N, outputs]; `body` flattens and ends in features [N, F], `head` is linear."""

    def __init__(self, sizes: list[int], outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for size, following in pairwise(sizes):
            layers += [nn.Linear(size, following), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs, before any softmax."""
        outputs: Tensor = self.head(self.body(inputs))
        return outputs


def build(config: Config, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """An Mlp with torch's default initialisation."""
    size = 1
    for extent in input_shape:
        size *= extent
    return Mlp([size, *config.hidden], outputs)
