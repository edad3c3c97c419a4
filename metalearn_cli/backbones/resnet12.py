"""ResNet-12: four residual blocks of three 3x3 convolutions each. It is the larger network of few-shot tables.

Lee et al. 2019, MetaOptNet (https://arxiv.org/abs/1904.03758), section 4.1, after Oreshkin et al. 2018.
"""

from collections import OrderedDict
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.convolution import TaskConv2d
from metalearn_cli.layers.drop_block import DropBlock
from metalearn_cli.layers.network import over_tasks
from metalearn_cli.layers.norm import TaskNorm
from metalearn_cli.layers.passing import BY_BATCH, Params, Pass, under_prefix
from metalearn_cli.settings import Choice, Size

_SLOPE = 0.1  # of the leaky ReLUs


class Config(Choice):
    """Four blocks. With `drop_rate` above 0, training has drop-block (Ghiasi et al. 2018, arXiv 1810.12890) after each.

    `channels` (channels): the output channels of each of the four blocks.
    `drop_rate` (share): the share of a block's outputs that training sets to zero; the paper has 0.1. Validation, test
        and `finetune` drop nothing.
    `block_size` (values): the side of the squares that are dropped together after the last two blocks; the whole map if
        it is smaller. After the first two blocks single values are dropped. The paper has 5, and 2 for CIFAR.
    """

    name: Literal["resnet12"] = "resnet12"
    channels: list[Size] = Field(default=[64, 160, 320, 640], min_length=4, max_length=4)
    drop_rate: float = Field(default=0.0, ge=0, lt=1)
    block_size: Size = 5


class Residual(nn.Module):
    """The sum of two branches that read the same inputs, for one task or for many at once."""

    def __init__(self, long: nn.Sequential, short: nn.Sequential) -> None:
        super().__init__()
        self.long = long
        self.short = short

    def forward(self, inputs: Tensor) -> Tensor:
        """The outputs [N, ...] for inputs [N, ...] of one task."""
        outputs: Tensor = self.long(inputs) + self.short(inputs)
        return outputs

    def over_tasks(self, params: Params, inputs: Tensor, how: Pass = BY_BATCH) -> Tensor:
        """The outputs [T, N, ...] for inputs [T, N, ...] and parameters [T, ...] by name."""
        long, short = (
            over_tasks(self.get_submodule(name), under_prefix(f"{name}.", params), inputs, how.at(name))
            for name in ("long", "short")
        )
        return long + short


def build(config: Config, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A ResNet-12 for pictures of `input_shape` (C, H, W).

    Convolutions are He-normal for their leaky ReLU and have no bias (the norm after them would cancel it). The head is
    Xavier-uniform with a bias of zero.

    Raises ConfigError if the picture is too small to be halved four times.
    """
    if len(input_shape) != 3:
        raise ConfigError(f"backbone.name: resnet12 needs pictures, the dataset gives inputs of shape {input_shape}")
    channels, height, width = input_shape
    if min(height, width) < 16:
        raise ConfigError(f"backbone.name: resnet12 needs pictures of 16x16 or more, these are {height}x{width}")
    blocks: list[nn.Module] = []
    for number, (before, after) in enumerate(zip([channels, *config.channels], config.channels, strict=False)):
        # y = pool(a(long(x) + short(x))), with the activation a; a 1x1 convolution gives x the channels of the sum.
        long = nn.Sequential(*_layer(before, after), nn.LeakyReLU(_SLOPE), *_layer(after, after))
        long.extend([nn.LeakyReLU(_SLOPE), *_layer(after, after)])
        short = nn.Sequential(TaskConv2d(before, after, 1, bias=False), TaskNorm(after))
        blocks += [Residual(long, short), nn.LeakyReLU(_SLOPE), _smaller(config, number)]
    body = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = nn.Sequential(OrderedDict(body=body, head=nn.Linear(config.channels[-1], outputs)))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            # Variance 2 / ((1 + slope^2) fan_out): keeps the size of gradients (He et al. 2015, equations 14 and 15).
            nn.init.kaiming_normal_(module.weight, _SLOPE, mode="fan_out", nonlinearity="leaky_relu")
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            with torch.no_grad():
                module.bias.zero_()
    return network


def _smaller(config: Config, number: int) -> nn.Module:
    """The max-pool after block `number`, with drop-block if it is asked for.

    Neither has parameters and both are one child, so the names of all parameters are the same with and without it.
    """
    if not config.drop_rate:
        return nn.MaxPool2d(2)
    return nn.Sequential(nn.MaxPool2d(2), DropBlock(config.drop_rate, config.block_size if number > 1 else 1, number))


def _layer(before: int, after: int) -> list[nn.Module]:
    return [TaskConv2d(before, after, 3, padding=1, bias=False), TaskNorm(after)]
