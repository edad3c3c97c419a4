"""Networks as people write them, for the backbone that calls them by name."""

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """Plain layers and a shortcut, one norm of each kind that is understood."""

    def __init__(self, inputs: int = 1, width: int = 4, outputs: int = 3, norm: str = "batch") -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, width, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width) if norm == "batch" else nn.GroupNorm(2, width)
        self.second = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.Softplus()
        )
        self.between = nn.Linear(width, 5, bias=False)
        self.last = nn.BatchNorm1d(5) if norm == "batch" else nn.LayerNorm(5)
        self.classifier = nn.Linear(5, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.tanh(self.norm(self.first(inputs)))
        features = self.between((hidden + self.second(hidden)).mean((2, 3)))
        return self.classifier(self.last(features).tanh())


class Scaled(Residual):
    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * super().forward(inputs)


class Noisy(Residual):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs + torch.randn_like(inputs))


class Norm(nn.BatchNorm2d):
    pass


def in_two_children(outputs: int = 3) -> nn.Module:
    module = nn.Sequential()
    module.add_module("body", nn.Sequential(nn.Flatten(), nn.Linear(256, 4), nn.BatchNorm1d(4), nn.ReLU()))
    module.add_module("head", nn.Linear(4, outputs))
    return module


def with_layer(kind: str) -> nn.Module:
    layers = {
        "instance": nn.InstanceNorm2d(1, affine=True),
        "plain": nn.BatchNorm2d(1, affine=False),
        "groups": nn.GroupNorm(1, 1, affine=False),
        "own": Norm(1),
        "random": nn.Dropout(0.5),
        "still": nn.Dropout(0.0),
    }
    return nn.Sequential(layers[kind], nn.Flatten(), nn.Linear(256, 3))


def headless() -> nn.Module:
    return nn.Flatten()


def no_module() -> str:
    return "a string"


def broken() -> nn.Module:
    raise ValueError("two\nlines")


def flat() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def pretrained() -> nn.Module:
    """A network whose weights and running statistics come from elsewhere, as from a file."""
    generator = torch.Generator().manual_seed(7)
    donor = Residual()
    values = {name: torch.rand(value.shape, generator=generator) for name, value in donor.state_dict().items()}
    module = Residual()
    module.load_state_dict({name: value for name, value in values.items() if "num_batches" not in name}, strict=False)
    return module


def without_statistics() -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), nn.Linear(256, 3))
