"""Conv4: four 3x3 convolutions, each with a norm and a ReLU. Nearly every few-shot table has it.

Vinyals et al. 2016, section 4.1, with the strides of Finn et al. 2017, section 5.2.
"""

import math
from collections import OrderedDict
from typing import Literal

import torch
from torch import nn

from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.convolution import TaskConv2d
from metalearn_cli.layers.norm import TaskGroupNorm, TaskNorm
from metalearn_cli.settings import Choice, Size

_GROUPS = 8  # of channels; with gcd, as many as divide a narrower width


class Config(Choice):
    """Four blocks of the same width, for pictures.

    `channels` (channels): the output channels of each layer.
    `pool`: true halves the picture in each block by 2x2 max-pooling, and the head reads all values of the last map (the
        paper on miniImageNet, with 32 channels). False halves it by strides, and the head reads the mean of the last
        map (the paper on Omniglot).
    `norm`: "group" normalises every picture by itself, in groups of channels (Wu & He 2018, arXiv 1803.08494), so no
        picture changes another's features, whatever `task.statistics` says.
    """

    name: Literal["conv4"] = "conv4"
    channels: Size = 64
    pool: bool = False
    norm: Literal["batch", "group"] = "batch"


def build(config: Config, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A Conv4 for pictures of `input_shape` (C, H, W), initialised as in the paper's code.

    Convolutions are Xavier-uniform and have no bias (the norm after them would cancel it). The head is Xavier-uniform
    with a bias of zero.

    Raises ConfigError if the picture is too small to be halved four times, or if group norm would make the features of
    all pictures equal.
    """
    if len(input_shape) != 3:
        raise ConfigError(f"backbone.name: conv4 needs pictures, the dataset gives inputs of shape {input_shape}")
    channels, height, width = input_shape
    if config.pool and min(height, width) < 16:
        raise ConfigError(f"backbone.pool: needs pictures of 16x16 or more, the dataset's are {height}x{width}")
    # gcd(channels, 8) groups are one channel each if it equals the number of channels.
    alone = config.norm == "group" and math.gcd(config.channels, _GROUPS) == config.channels
    if alone and not config.pool and max(height, width) <= 16:
        # In the last block each group would be one channel with a single value, and (x - mean) is 0 for any picture.
        raise ConfigError(
            f"backbone.norm: in groups of one channel pictures of {height}x{width} would all look alike after the last "
            f"block; expected backbone.channels={2 * _GROUPS} or more, found {config.channels}, or norm=batch"
        )
    blocks: list[nn.Module] = []
    for layer in range(4):
        blocks += _block(channels if layer == 0 else config.channels, config)
        # A pool leaves out an odd row, a convolution with stride 2 and a margin of 1 keeps it.
        height, width = (height // 2, width // 2) if config.pool else (math.ceil(height / 2), math.ceil(width / 2))
    end = [nn.Flatten()] if config.pool else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    features = config.channels * (height * width if config.pool else 1)
    head = nn.Linear(features, outputs)
    network = nn.Sequential(OrderedDict(body=nn.Sequential(*blocks, *end), head=head))
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    with torch.no_grad():
        head.bias.zero_()
    return network


def _block(channels: int, config: Config) -> list[nn.Module]:
    stride = 1 if config.pool else 2
    convolution = TaskConv2d(channels, config.channels, 3, stride=stride, padding=1, bias=False)
    block: list[nn.Module] = [convolution, _norm(config), nn.ReLU()]
    return [*block, nn.MaxPool2d(2)] if config.pool else block


def _norm(config: Config) -> nn.Module:
    if config.norm == "batch":
        return TaskNorm(config.channels)
    return TaskGroupNorm(math.gcd(config.channels, _GROUPS), config.channels)
