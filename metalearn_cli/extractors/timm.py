"""Networks of timm (https://github.com/huggingface/pytorch-image-models) as extractors, by name or from a folder."""

from pathlib import Path
from typing import Any, Literal, get_args

import safetensors.torch
from pydantic import Field
from torch import nn

from metalearn_cli.datasets import Preprocessing
from metalearn_cli.errors import ConfigError
from metalearn_cli.extractors import (
    Extractor,
    Features,
    bytes_of,
    identity_of,
    library,
    rows_of_features,
    tensor_bytes,
)
from metalearn_cli.preprocessing import Resize
from metalearn_cli.references import first_line

_FILTERS = frozenset(get_args(Resize))


class Config(Features):
    """The extra `timm` installs the library; it looks for weights in its own cache, and downloads them once.

    `model`: a name that timm itself knows, such as "resnet18.a1_in1k", or the path of a folder with config.json and
        model.safetensors. Repositories of other people, which may hold a pickle, are not read.
    `weights`: a .safetensors file with the network's state_dict, in place of the weights that timm would download.
    `fit`: "crop" takes the largest centred square of a picture, "squash" squeezes the whole picture into a square.
    """

    name: Literal["timm"] = "timm"
    model: str = Field(default="resnet18.a1_in1k", pattern=r"^[^:]+$")
    weights: str | None = None
    fit: Literal["crop", "squash"] = "crop"


def build(config: Config) -> Extractor:
    """The network without its classifier, with the picture size, filter, mean and std that timm records for it.

    Raises ConfigError if timm, the network or its weights are missing or cannot be loaded.
    """
    timm = library("timm")
    network = _network(config, timm)
    facts = timm.data.resolve_model_data_config(network)
    filtered: Resize = facts["interpolation"] if facts["interpolation"] in _FILTERS else "bicubic"
    channels, height, width = facts["input_size"]
    seen = Preprocessing(
        channels=channels, height=height, width=width, resize=filtered, fit=config.fit,
        mean=tuple(facts["mean"]), std=tuple(facts["std"]),
    )  # fmt: skip
    architecture = getattr(network, "pretrained_cfg", {}).get("architecture") or config.model
    identity = identity_of(tensor_bytes(network.state_dict().items()), seen, f"timm {architecture}")
    return Extractor(network, seen, rows_of_features(network, seen), identity, f"timm {architecture}")


def _network(config: Config, timm: Any) -> nn.Module:
    folder = Path(config.model)
    if folder.is_dir() and not (folder / "model.safetensors").exists():
        raise ConfigError(f"model: {config.model} has no model.safetensors; expected a folder that timm saved")
    name = f"local-dir:{folder}" if folder.is_dir() else config.model
    try:
        network: nn.Module = timm.create_model(name, pretrained=config.weights is None, num_classes=0)
        if config.weights is not None:
            _load(network, config.weights)
    except ConfigError:
        raise
    except Exception as error:  # timm, the hub's client and the network code each raise types of their own
        fetch = f"python -c 'import timm; timm.create_model(\"{name}\", pretrained=True)'"
        raise ConfigError(f"model: {name}: {first_line(error)}; where there is a network, type: {fetch}") from error
    return network.eval()


def _load(network: nn.Module, path: str) -> None:
    """Load weights from a .safetensors file into the network; those of a classifier in the file are ignored.

    Raises ConfigError if the file cannot be read, or lacks a tensor that the network needs.
    """
    content = bytes_of(Path(path), "weights: ")
    try:
        found = safetensors.torch.load(content)
    except Exception as error:  # safetensors raises a type of its own, which is no OSError
        raise ConfigError(
            f"weights: {path} cannot be read: {first_line(error)}; expected a .safetensors file"
        ) from error
    missing, _ = network.load_state_dict(found, strict=False)
    if missing:
        raise ConfigError(f"weights: {path} has no {missing[0]}, which this network needs, nor {len(missing) - 1} more")
