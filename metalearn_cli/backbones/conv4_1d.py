"""Conv4 in one dimension: four convolutions over a series, each with a norm and ReLU; for series of sensors.

As conv4, with a kernel of three steps in the place of 3x3 pixels; the head reads the mean over the last map's steps.
"""

import math
from collections import OrderedDict
from typing import Literal

import torch
from torch import nn

from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.convolution import TaskConv1d
from metalearn_cli.layers.norm import TaskGroupNorm, TaskNorm
from metalearn_cli.settings import Choice, Size

_GROUPS = 8  # as in conv4


class Config(Choice):
    """Four blocks of the same width, for series [channels, steps].

    `channels` (channels): the output channels of each layer.
    `kernel` (steps): the side of the window; odd, so that a series keeps its middle.
    `pool`: true halves the series by max-pooling, false by strides.
    `norm`: "group" normalises every series by itself, in groups of channels (Wu & He 2018, arXiv 1803.08494).
    """

    name: Literal["conv4_1d"] = "conv4_1d"
    channels: Size = 64
    kernel: Literal[3, 5, 7, 9, 11] = 3
    pool: bool = False
    norm: Literal["batch", "group"] = "batch"


def build(config: Config, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A network for series of `input_shape` (C, L), initialised as conv4 is.

    Raises ConfigError for other inputs, and if a series is too short to be halved four times.
    """
    if len(input_shape) != 2:
        raise ConfigError(f"backbone.name: conv4_1d needs series, the dataset gives inputs of shape {input_shape}")
    channels, steps = input_shape
    if config.pool and steps < 16:
        raise ConfigError(f"backbone.pool: needs series of 16 steps or more, the dataset's have {steps}")
    blocks: list[nn.Module] = []
    for layer in range(4):
        blocks += _block(channels if layer == 0 else config.channels, config)
    body = nn.Sequential(*blocks, nn.AdaptiveAvgPool1d(1), nn.Flatten())
    head = nn.Linear(config.channels, outputs)
    network = nn.Sequential(OrderedDict(body=body, head=head))
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    with torch.no_grad():
        head.bias.zero_()
    return network


def _block(channels: int, config: Config) -> list[nn.Module]:
    stride = 1 if config.pool else 2
    # With half the kernel as its margin a convolution of stride 1 keeps the length of the series.
    convolution = TaskConv1d(channels, config.channels, config.kernel, stride, config.kernel // 2, bias=False)
    norm: nn.Module = TaskNorm(config.channels)
    if config.norm == "group":
        norm = TaskGroupNorm(math.gcd(config.channels, _GROUPS), config.channels)
    block: list[nn.Module] = [convolution, norm, nn.ReLU()]
    return [*block, nn.MaxPool1d(2)] if config.pool else block
