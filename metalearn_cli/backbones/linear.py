"""One linear map before the head: a change of the features' metric, which keeps a frozen extractor's knowledge."""

import math
from collections import OrderedDict
from typing import Literal

from torch import nn

from metalearn_cli.settings import Choice, Size


class Config(Choice):
    """A map without bias, activation and norm.

    `features`: the number of outputs of the map; null makes it that of the inputs.
    """

    name: Literal["linear"] = "linear"
    features: Size | None = None


def build(config: Config, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A network whose body starts as the identity, or for another number of features as a random orthogonal map.

    Both keep distances as far as they can, so training starts at about the accuracy of the inputs alone.
    """
    size = math.prod(input_shape)
    features = config.features or size
    layer = nn.Linear(size, features, bias=False)
    if features == size:
        nn.init.eye_(layer.weight)
    else:
        nn.init.orthogonal_(layer.weight)
    body = nn.Sequential(nn.Flatten(), layer)
    return nn.Sequential(OrderedDict(body=body, head=nn.Linear(features, outputs)))
