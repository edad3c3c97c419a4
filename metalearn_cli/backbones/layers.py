"""A network written in the experiment file, layer by layer. Sizes of inputs are inferred.

    layers:
      - conv2d: {channels: 64, kernel: 3, stride: 2}
      - bn
      - relu
      - flatten
      - linear

A layer is its name, or its name with arguments. Legend: C channels, H height, W width, L steps, F features; a shape
is that of one example, (C, H, W), (C, L) or (F,).
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated, Literal, cast

import torch
from pydantic import BeforeValidator, Field, PlainSerializer, field_validator
from torch import nn

from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.convolution import TaskConv1d, TaskConv2d
from metalearn_cli.layers.norm import TaskNorm
from metalearn_cli.settings import Settings, Size

Shape = tuple[int, ...]
Padding = Annotated[int, Field(ge=0, le=65_536)]


class Convolution(Settings):
    """A convolution or its transpose. It has a bias, unless `bn` comes next, which would cancel the bias.

    `channels` (channels): the output channels.
    `kernel` (pixels or steps): the side of the window.
    `stride` (pixels or steps): the distance between two windows.
    `padding` (pixels or steps): the width of the border of zeros around the picture, or at both ends of the series.
    """

    kind: Literal["conv2d", "convt2d", "conv1d"]
    channels: Size
    kernel: Size = 3
    stride: Size = 1
    padding: Padding = 0


class Linear(Settings):
    """A fully connected layer.

    `features` (units): the number of outputs. The last layer may leave it out; its number is that of the task.
    """

    kind: Literal["linear"]
    features: Size | None = None


class Pooling(Settings):
    """The largest or the mean value of each window.

    `kernel` (pixels or steps): the side of the window.
    `stride` (pixels or steps): the distance between two windows; null takes the side of the window, so windows do not
        overlap.
    `padding` (pixels or steps): the width of the border around the picture, or at both ends of the series.
    """

    kind: Literal["max_pool2d", "avg_pool2d", "max_pool1d", "avg_pool1d"]
    kernel: Size = 2
    stride: Size | None = None
    padding: Padding = 0


class Upsample(Settings):
    """Enlarges pictures by repeating each pixel.

    `scale` (times): the factor for height and width.
    """

    kind: Literal["upsample"]
    scale: Size = 2


class LeakyRelu(Settings):
    """A ReLU that multiplies negative values by a slope in place of 0.

    `slope`: the factor for negative values.
    """

    kind: Literal["leakyrelu"]
    slope: float = Field(default=0.01, ge=0)


class Reshape(Settings):
    """Gives each example another shape with the same number of values.

    `shape`: the new shape of an example.
    """

    kind: Literal["reshape"]
    shape: list[Size] = Field(min_length=1)


class Plain(Settings):
    """A layer without arguments; `bn` is layers.norm.TaskNorm."""

    kind: Literal["bn", "relu", "tanh", "sigmoid", "flatten"]


def _with_kind(layer: object) -> object:
    """A layer as written, `relu` or `{conv2d: {channels: 64}}`, turned into a mapping with the key `kind`."""
    if isinstance(layer, str):
        return {"kind": layer}
    if isinstance(layer, dict) and len(layer) == 1:
        [(kind, arguments)] = layer.items()
        if isinstance(arguments, dict) and "kind" not in arguments:
            return {**arguments, "kind": kind}
    raise ValueError(f"found {layer!r:.60}, expected a layer: its name, or one name with arguments, name: {{...}}")


def _as_written(layer: Settings) -> object:
    arguments = layer.model_dump(exclude_none=True)
    kind = arguments.pop("kind")
    return {kind: arguments} if arguments else kind


AnyLayer = Convolution | Linear | Pooling | Upsample | LeakyRelu | Reshape | Plain
Layer = Annotated[
    Annotated[AnyLayer, Field(discriminator="kind")],
    BeforeValidator(_with_kind),
    PlainSerializer(_as_written),
]


class Config(Settings):
    """A list of layers, each a name or a name with arguments.

    `layers`: the layers in running order. The last one is the head and must be `linear`; the others are the body.
    """

    name: Literal["layers"] = "layers"
    layers: list[Layer]

    @field_validator("layers")
    @classmethod
    def _end_in_a_head(cls, layers: list[AnyLayer]) -> list[AnyLayer]:
        if not layers or layers[-1].kind != "linear":
            found = layers[-1].kind if layers else "no layer"
            raise ValueError(f"found {found} at the end, expected linear: the last layer is the head")
        for number, layer in enumerate(layers[:-1]):
            if isinstance(layer, Linear) and layer.features is None:
                raise ValueError(f"layer {number} is linear without features, which only the last may leave out")
        return layers


def build(config: Config, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """The network for inputs of `input_shape`; weights are Kaiming-normal (He et al. 2015), biases zero.

    Raises ConfigError, with the layer's number counted from 0, if a layer cannot take the outputs of the one before.
    """
    layers = [*config.layers[:-1], _head(config, outputs)]
    shape = input_shape
    modules: list[nn.Module] = []
    for number, layer in enumerate(layers):
        # A norm subtracts the mean, and with it any bias before it.
        bias = layer is layers[-1] or layers[number + 1].kind != "bn"
        try:
            following = _shape_after(layer, shape)
        except (RuntimeError, ValueError) as error:
            # The first line of torch's message is its reason; others may be a trace.
            reason = f"cannot take inputs of shape {list(shape)}: {str(error).partition(chr(10))[0]}"
            raise ConfigError(f"backbone.layers[{number}] ({layer.kind}): {reason}") from error
        modules.append(_module(layer, shape, bias))
        shape = following
    network = nn.Sequential(OrderedDict(body=nn.Sequential(*modules[:-1]), head=modules[-1]))
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def _head(config: Config, outputs: int) -> Linear:
    features = cast(Linear, config.layers[-1]).features
    if features not in (None, outputs):
        place = f"backbone.layers[{len(config.layers) - 1}] (linear)"
        raise ConfigError(f"{place}: features is {features}, the task has {outputs} outputs; leave it out")
    return Linear(kind="linear", features=outputs)


def _shape_after(layer: AnyLayer, shape: Shape) -> Shape:
    """The shape of the layer's outputs; ValueError or RuntimeError if it cannot take inputs of `shape`."""
    series = layer.kind.endswith("1d")
    if series and len(shape) != 2:
        raise ValueError("needs series, [channels, steps]")
    if isinstance(layer, Convolution | Pooling | Upsample) and not series and len(shape) != 3:
        raise ValueError("needs pictures, [channels, height, width]")
    if isinstance(layer, Linear) and len(shape) != 1:
        raise ValueError("needs flat inputs; put `flatten` before it")
    with torch.device("meta"):  # infers shapes without memory or arithmetic, however large the layer
        # Two examples, as a batch norm refuses a single value per channel.
        return tuple(_module(layer, shape, bias=True)(torch.empty(2, *shape)).shape[1:])


def _module(layer: AnyLayer, shape: Shape, bias: bool) -> nn.Module:
    """The torch module of a layer whose inputs have this shape."""
    match layer:
        case Convolution():
            window = (layer.kernel, layer.stride, layer.padding)
            return _CONVOLUTIONS[layer.kind](shape[0], layer.channels, *window, bias=bias)
        case Linear():
            return nn.Linear(shape[0], cast(int, layer.features), bias)
        case Pooling():
            return _POOLINGS[layer.kind](layer.kernel, layer.stride, layer.padding)
        case Upsample():
            return nn.Upsample(scale_factor=layer.scale)
        case LeakyRelu():
            return nn.LeakyReLU(layer.slope)
        case Reshape():
            return nn.Sequential(nn.Flatten(), nn.Unflatten(1, layer.shape))
        case Plain(kind="bn"):
            return TaskNorm(shape[0])
        case Plain():
            return _PLAIN[layer.kind]()


_CONVOLUTIONS: dict[str, Callable[..., nn.Module]] = {
    "conv2d": TaskConv2d,
    "convt2d": nn.ConvTranspose2d,
    "conv1d": TaskConv1d,
}
_POOLINGS: dict[str, Callable[..., nn.Module]] = {
    "max_pool2d": nn.MaxPool2d,
    "avg_pool2d": nn.AvgPool2d,
    "max_pool1d": nn.MaxPool1d,
    "avg_pool1d": nn.AvgPool1d,
}
_PLAIN: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "flatten": nn.Flatten,
}
