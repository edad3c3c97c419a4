"""A network written in the experiment file, layer by layer; every size that can be inferred is.

    layers:
      - conv2d: {channels: 64, kernel: 3, stride: 2}
      - bn
      - relu
      - flatten
      - linear

A layer is its name, or its name with arguments. Legend: C channels, H height, W width, F features; a shape is
that of one example, (C, H, W) or (F,).
"""

from collections import OrderedDict
from typing import Annotated, Literal, cast

import torch
from pydantic import BeforeValidator, Field, PlainSerializer, field_validator
from torch import nn

from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.convolution import TaskConv2d
from metalearn_cli.layers.norm import TaskNorm
from metalearn_cli.settings import Settings, Size

Shape = tuple[int, ...]
Padding = Annotated[int, Field(ge=0, le=65_536)]


class Convolution(Settings):
    """A convolution or its transpose, with a bias unless `bn` comes next, which would cancel it.

    `channels` (channels): how many the layer gives.
    `kernel` (pixels): the side of the window.
    `stride` (pixels): how far the window moves.
    `padding` (pixels): zeros around the picture.
    """

    kind: Literal["conv2d", "convt2d"]
    channels: Size
    kernel: Size = 3
    stride: Size = 1
    padding: Padding = 0


class Linear(Settings):
    """A fully connected layer.

    `features` (units): how many the layer gives; the last layer may leave it out: they are the outputs of the task.
    """

    kind: Literal["linear"]
    features: Size | None = None


class Pooling(Settings):
    """The largest or the mean value of each window.

    `kernel` (pixels): the side of the window.
    `stride` (pixels): how far the window moves; null, its side, so that windows do not overlap.
    `padding` (pixels): how many are added around the picture.
    """

    kind: Literal["max_pool2d", "avg_pool2d"]
    kernel: Size = 2
    stride: Size | None = None
    padding: Padding = 0


class Upsample(Settings):
    """Larger pictures.

    `scale` (times): how many times as high and as wide each pixel becomes.
    """

    kind: Literal["upsample"]
    scale: Size = 2


class LeakyRelu(Settings):
    """A ReLU that leaks.

    `slope`: by what negative values are multiplied.
    """

    kind: Literal["leakyrelu"]
    slope: float = Field(default=0.01, ge=0)


class Reshape(Settings):
    """Each example in a new shape of as many values.

    `shape`: the new shape of an example.
    """

    kind: Literal["reshape"]
    shape: list[Size] = Field(min_length=1)


class Plain(Settings):
    """A layer without arguments; `bn` is core.norm.TaskNorm."""

    kind: Literal["bn", "relu", "tanh", "sigmoid", "flatten"]


def _with_kind(layer: object) -> object:
    """`relu` and `{conv2d: {channels: 64}}` as the mappings that the types above describe."""
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

    `layers`: in running order; the last is the head and must be linear, all before it are the body.
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

    Raises ConfigError, with the layer's number from 0, where a layer cannot take what comes to it.
    """
    layers = [*config.layers[:-1], _head(config, outputs)]
    shape = input_shape
    modules: list[nn.Module] = []
    for number, layer in enumerate(layers):
        bias = layer is layers[-1] or layers[number + 1].kind != "bn"
        try:
            following = _shape_after(layer, shape)
        except (RuntimeError, ValueError) as error:
            reason = f"cannot take inputs of shape {list(shape)}: {str(error).partition(chr(10))[0]}"
            raise ConfigError(f"backbone.layers[{number}] ({layer.kind}): {reason}") from error
        modules.append(_module(layer, shape, bias))
        shape = following
    network = nn.Sequential(OrderedDict(body=nn.Sequential(*modules[:-1]), head=modules[-1]))
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
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
    if isinstance(layer, Convolution | Pooling | Upsample) and len(shape) != 3:
        raise ValueError("needs pictures, [channels, height, width]")
    if isinstance(layer, Linear) and len(shape) != 1:
        raise ValueError("needs flat inputs; put `flatten` before it")
    with torch.device("meta"):  # neither memory nor arithmetic, however large the layer
        return tuple(_module(layer, shape, bias=True)(torch.empty(2, *shape)).shape[1:])


def _module(layer: AnyLayer, shape: Shape, bias: bool) -> nn.Module:
    """The torch module of a layer whose inputs have this shape."""
    match layer:
        case Convolution():
            window = (layer.kernel, layer.stride, layer.padding)
            convolution = TaskConv2d if layer.kind == "conv2d" else nn.ConvTranspose2d
            return convolution(shape[0], layer.channels, *window, bias=bias)
        case Linear():
            return nn.Linear(shape[0], cast(int, layer.features), bias)
        case Pooling():
            pooling = nn.MaxPool2d if layer.kind == "max_pool2d" else nn.AvgPool2d
            return pooling(layer.kernel, layer.stride, layer.padding)
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


_PLAIN: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "flatten": nn.Flatten,
}
