"""Your own network as an extractor: a `torch.export` program, or a module with weights in safetensors.

Both run code of their author, so a checkpoint that names one is refused unless METALEARN_TRUST allows it.
"""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import safetensors.torch
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from metalearn_cli.datasets import Preprocessing, Resize
from metalearn_cli.errors import ConfigError
from metalearn_cli.extractors import Extractor, Features, bytes_of, identity_of, rows_of_features
from metalearn_cli.references import first_line, imported


class Config(Features):
    """The network maps float32 inputs [N, C, H, W], which are (pixel / 255 - mean) / std, to [N, features].

    `program`: a file of torch.export.save (.pt2) that works for any N.
    `call`: "package.module:function", a function that returns a torch.nn.Module; with `weights`, in place of `program`.
    `arguments`: the arguments of that function, by name.
    `weights`: a .safetensors file with the module's state_dict.
    `image_size` (pixels): the side of the square pictures that the network reads.
    `channels` (channels): 1 for grey, 3 for colour pictures.
    `resize`: the filter with which pictures are brought to that size.
    `fit`: "crop" takes the largest centred square of a picture, "squash" squeezes the whole picture into a square.
    `mean` (of pixels from 0 to 1): the value that is subtracted, per channel.
    `std` (of pixels from 0 to 1): the value by which the difference is divided, per channel.
    """

    name: Literal["program"] = "program"
    program: str | None = None
    call: str | None = Field(default=None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    arguments: dict[str, Any] = Field(default={})
    weights: str | None = None
    image_size: int = Field(default=224, ge=8, le=1024)
    channels: Literal[1, 3] = 3
    resize: Resize = "bicubic"
    fit: Literal["crop", "squash"] = "crop"
    mean: list[float] = Field(default=[0.485, 0.456, 0.406])
    std: list[float] = Field(default=[0.229, 0.224, 0.225])

    @model_validator(mode="after")
    def _one_network(self) -> Self:
        if (self.program is None) == (self.call is None) or (self.call is None) != (self.weights is None):
            raise ValueError("program: expected a .pt2 file, or in its place `call` and `weights`")
        if not len(self.mean) == len(self.std) == self.channels or min(self.std) <= 0:
            raise ValueError(f"mean and std: expected {self.channels} numbers each, those of std greater than 0")
        return self


def build(config: Config) -> Extractor:
    """The network, after a trial on two blank pictures.

    Raises ConfigError if a file or function is missing or broken, or if the network's output is not [N, features].
    """
    seen = Preprocessing(
        channels=config.channels, height=config.image_size, width=config.image_size, resize=config.resize,
        fit=config.fit, mean=tuple(config.mean), std=tuple(config.std),
    )  # fmt: skip
    content = _content(config)
    module = _exported(config.program, content) if config.program is not None else _called(config, content)
    features = rows_of_features(module, seen)
    about = f"{config.call or config.program} {config.arguments or ''}".strip()
    identity = identity_of([content], seen, about if config.call else "program")
    return Extractor(module, seen, features, identity, Path(config.program).name if config.program else about)


def _content(config: Config) -> bytes:
    key, path = ("program", config.program) if config.program is not None else ("weights", config.weights)
    return bytes_of(Path(str(path)), f"{key}: ")


def _exported(path: str | None, content: bytes) -> nn.Module:
    try:
        return torch.export.load(io.BytesIO(content)).module()
    except Exception as error:  # torch documents no type for a file that is none of its programs
        raise ConfigError(f"program: {path} is no program of torch.export: {first_line(error)}") from error


def _called(config: Config, content: bytes) -> nn.Module:
    assert config.call is not None
    made = imported(config.call, "call")
    try:
        weights: Mapping[str, Tensor] = safetensors.torch.load(content)
        module = made(**config.arguments)
        module.load_state_dict(weights)
    except (Exception, SystemExit) as error:  # code from outside can raise any type, and may even call sys.exit
        digest = hashlib.sha256(content).hexdigest()[:16]
        raise ConfigError(f"call: {config.call} and {config.weights} ({digest}): {first_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise ConfigError(f"call: {config.call} returned {type(module).__name__}, expected a torch.nn.Module")
    return module.eval()
