"""Identity: a network of a head alone, which reads its inputs unchanged; made for the features of an extractor."""

import math
from collections import OrderedDict
from typing import Literal

from torch import nn

from metalearn_cli.settings import Choice


class Config(Choice):
    """It has no settings, and no parameters before the head."""

    name: Literal["identity"] = "identity"


def build(_config: Config, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A body that flattens, and a linear head with torch's default initialisation."""
    return nn.Sequential(OrderedDict(body=nn.Flatten(), head=nn.Linear(math.prod(input_shape), outputs)))
