"""Networks as people write them that give torch trouble, and every plain layer of torch between two others."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PICTURES = {
    **{name: lambda name=name: getattr(nn, name)() for name in (
        "ReLU", "LeakyReLU", "PReLU", "RReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Softplus", "Softsign",
        "Softshrink", "Hardshrink", "Tanh", "Tanhshrink", "Hardtanh", "Hardswish", "Hardsigmoid", "Sigmoid",
        "LogSigmoid", "ReLU6", "Identity", "Softmax2d",
    )},
    "Threshold": lambda: nn.Threshold(0.1, 0.2),
    "Softmax": lambda: nn.Softmax(1), "Softmin": lambda: nn.Softmin(1), "LogSoftmax": lambda: nn.LogSoftmax(1),
    "GLU": lambda: nn.GLU(1),
    "Conv2d": lambda: nn.Conv2d(4, 4, 3, stride=2, padding=1), "grouped": lambda: nn.Conv2d(4, 4, 3, groups=2),
    "dilated": lambda: nn.Conv2d(4, 4, 2, dilation=2),
    "reflected": lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(4, 4, 3, stride=2),
    "BatchNorm2d": lambda: nn.BatchNorm2d(4), "GroupNorm": lambda: nn.GroupNorm(2, 4),
    "LayerNorm": lambda: nn.LayerNorm([4, 6, 6]), "RMSNorm": lambda: nn.RMSNorm(6),
    "LocalResponseNorm": lambda: nn.LocalResponseNorm(2), "CrossMapLRN2d": lambda: nn.CrossMapLRN2d(2),
    "MaxPool2d": lambda: nn.MaxPool2d(2), "AvgPool2d": lambda: nn.AvgPool2d(2), "LPPool2d": lambda: nn.LPPool2d(2, 2),
    "AdaptiveAvgPool2d": lambda: nn.AdaptiveAvgPool2d(2), "AdaptiveMaxPool2d": lambda: nn.AdaptiveMaxPool2d(2),
    "Upsample": lambda: nn.Upsample(scale_factor=2), "bilinear": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "UpsamplingBilinear2d": lambda: nn.UpsamplingBilinear2d(scale_factor=2),
    "UpsamplingNearest2d": lambda: nn.UpsamplingNearest2d(scale_factor=2),
    "PixelShuffle": lambda: nn.PixelShuffle(2), "PixelUnshuffle": lambda: nn.PixelUnshuffle(2),
    "ChannelShuffle": lambda: nn.ChannelShuffle(2), "ZeroPad2d": lambda: nn.ZeroPad2d(1),
    "ConstantPad2d": lambda: nn.ConstantPad2d(1, 0.5), "ReflectionPad2d": lambda: nn.ReflectionPad2d(1),
    "ReplicationPad2d": lambda: nn.ReplicationPad2d(1), "CircularPad2d": lambda: nn.CircularPad2d(1),
    "Unfold": lambda: nn.Unfold(2), "Fold": lambda: nn.Sequential(nn.Unfold(2), nn.Fold((6, 6), 2)),
    "Unflatten": lambda: nn.Unflatten(1, (2, 2)),
    "Conv3d": lambda: nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv3d(1, 2, 2)),
    "MaxPool3d": lambda: nn.Sequential(nn.Unflatten(1, (1, 4)), nn.MaxPool3d(2)),
    "BatchNorm3d": lambda: nn.Sequential(nn.Unflatten(1, (2, 2)), nn.BatchNorm3d(2)),
    "Dropout of nothing": lambda: nn.Dropout(0.0), "LazyConv2d": lambda: nn.LazyConv2d(3, 2),
    "LazyBatchNorm2d": lambda: nn.LazyBatchNorm2d(),
}  # fmt: skip
"""What can stand between pictures [N, 4, 6, 6] and a flattening; `RReLU` is random and is refused."""

ROWS = {
    "Conv1d": lambda: nn.Conv1d(4, 3, 3), "ConvTranspose1d": lambda: nn.ConvTranspose1d(4, 3, 3),
    "BatchNorm1d": lambda: nn.BatchNorm1d(4), "MaxPool1d": lambda: nn.MaxPool1d(2),
    "AvgPool1d": lambda: nn.AvgPool1d(2),
    "LPPool1d": lambda: nn.LPPool1d(2, 2), "AdaptiveAvgPool1d": lambda: nn.AdaptiveAvgPool1d(3),
    "AdaptiveMaxPool1d": lambda: nn.AdaptiveMaxPool1d(3), "Linear": lambda: nn.Linear(36, 5),
    "LazyLinear": lambda: nn.LazyLinear(5), "ZeroPad1d": lambda: nn.ZeroPad1d(1),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(36, 2, 8, dropout=0.0, batch_first=True),
}  # fmt: skip
"""What can stand between sequences [N, 4, 36] and a flattening."""

REFUSED, TWICE_REFUSED = {"RReLU"}, {"CrossMapLRN2d", "Hardsigmoid"}


class Around(nn.Sequential):
    """A convolution, a layer, and what makes outputs of it."""


def around(layer: str, outputs: int = 2) -> nn.Module:
    made = PICTURES[layer]() if layer in PICTURES else nn.Sequential(nn.Flatten(2), ROWS[layer]())
    return Around(nn.Conv2d(1, 4, 3), nn.Tanh(), made, nn.Flatten(), nn.LazyLinear(6), nn.Tanh(), nn.Linear(6, outputs))


class Own(nn.Module):
    """A network whose forward is a function of its layers and its inputs, a flat row."""

    def __init__(self, function, **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.fc = nn.Linear(8, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.fc(self.function(self, inputs.flatten(1)))


def item() -> nn.Module:
    return Own(lambda s, x: s.a(x).tanh() * (1 if x.max().item() < 9 else 2), a=nn.Linear(64, 8))


def in_place() -> nn.Module:
    return Own(lambda s, x: torch.zeros(len(x), 8).add_(s.a(x)).tanh(), a=nn.Linear(64, 8))


def branches() -> nn.Module:
    return Own(lambda s, x: s.a(x).tanh() if bool((x > 0).any()) else s.a(-x), a=nn.Linear(64, 8))


def numpy() -> nn.Module:
    return Own(lambda s, x: s.a(x).tanh() * float(x.detach().numpy().shape[0]), a=nn.Linear(64, 8))


def single() -> nn.Module:
    """One that insists on float32."""
    return Own(lambda s, x: s.a(x.float()).tanh(), a=nn.Linear(64, 8))


def recurrent(kind: str) -> nn.Module:
    return Own(lambda s, x: s.a(x.view(-1, 8, 8))[0][:, -1], a=getattr(nn, kind)(8, 8, batch_first=True))


def attention() -> nn.Module:
    def attend(own: nn.Module, inputs: Tensor) -> Tensor:
        seen = own.a(inputs.view(-1, 1, 8, 8))
        return F.scaled_dot_product_attention(seen, seen, seen)[:, 0].mean(1)

    return Own(attend, a=nn.Linear(8, 8))


def unused() -> nn.Module:
    return Own(lambda s, x: s.a(x).tanh(), a=nn.Linear(64, 8), aux=nn.Linear(3, 3))


def repeated() -> nn.Module:
    """One activation and one layer that come twice, and a norm too."""
    activation, same, norm = nn.Tanh(), nn.Linear(8, 8), nn.BatchNorm1d(8)
    layers = [nn.Flatten(), nn.Linear(64, 8), norm, activation, same, activation, same, norm, activation]
    return nn.Sequential(*layers, nn.Linear(8, 2))


def tied() -> nn.Module:
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    second.weight = first.weight
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), first, nn.Tanh(), second, nn.Tanh(), nn.Linear(8, 2)
    )


class Skips(nn.Sequential):
    """A Sequential that is more than one."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + super().forward(inputs)


def overridden() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), Skips(nn.Linear(8, 8), nn.Tanh()), nn.Linear(8, 2))


def hooked() -> nn.Module:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 2))
    module[1].register_forward_hook(lambda _layer, _inputs, outputs: outputs.sin())
    return module


def normed_weight() -> nn.Module:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(64, 8))
    return nn.Sequential(nn.Flatten(), layer, nn.Tanh(), nn.Linear(8, 2))


def buffered() -> nn.Module:
    module = Own(lambda s, x: s.a(x + s.places).tanh(), a=nn.Linear(64, 8))
    module.register_buffer("places", torch.linspace(0, 1, 64))
    return module


def writes_inputs() -> nn.Module:
    return nn.Sequential(
        nn.LeakyReLU(0.5, inplace=True), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(inplace=True), nn.Linear(8, 2)
    )


class Doubling(torch.autograd.Function):
    """An operation of somebody's own, whose form for vmap is wrong."""

    @staticmethod
    def forward(inputs: Tensor) -> Tensor:
        return 2 * inputs

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        pass

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return 2 * gradient

    @staticmethod
    def vmap(info, in_dims, inputs: Tensor):
        return 2.01 * inputs, in_dims[0]


def wrong_at_once() -> nn.Module:
    return Own(lambda s, x: Doubling.apply(s.a(x)).tanh(), a=nn.Linear(64, 8))


class Once(torch.autograd.Function):
    """An operation without a second derivative."""

    @staticmethod
    def forward(ctx, inputs: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        return inputs.tanh()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient * (1 - ctx.saved_tensors[0].tanh() ** 2)


class Layer(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return Once.apply(inputs)


def once() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), Layer(), nn.Linear(8, 2))


def frozen(parts: str) -> nn.Module:
    layers = [nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2)]
    module = nn.Sequential(*layers)
    for number in parts:
        module[int(number)].requires_grad_(False)
    return module


TROUBLES = [
    item,
    in_place,
    branches,
    numpy,
    single,
    attention,
    unused,
    repeated,
    tied,
    overridden,
    hooked,
    normed_weight,
]
TROUBLES += [buffered, writes_inputs, wrong_at_once]
