"""No network: inputs go to the head as they are, as the features of a frozen extractor do."""

import math
from collections import OrderedDict
from typing import Literal

from torch import nn

from metalearn_cli.settings import Choice


class Config(Choice):
    """Nothing to choose, and nothing before the head to learn."""

    name: Literal["identity"] = "identity"


def build(_config: Config, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A body that flattens, and a linear head with torch's default initialisation."""
    return nn.Sequential(OrderedDict(body=nn.Flatten(), head=nn.Linear(math.prod(input_shape), outputs)))
