"""Checkpoints: one self-verifying file without pickle, in a safetensors container.

The container's metadata holds one JSON header and a SHA-256 over that header and every tensor's name, type, shape
and bytes. Loading checks it, so a file that was cut or in which a single bit flipped is refused, never loaded as
something else, and no file can run code.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from metalearn_cli.errors import CheckpointError
from metalearn_cli.storage.atomic import write_file

FORMAT = 1
_LARGEST_HEADER = 16 << 20


class Checkpoint(NamedTuple):
    """A JSON header (what, when, from which experiment) and named tensors."""

    header: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def below(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose name starts with `prefix`, without it."""
        found = self.tensors.items()
        return {name.removeprefix(prefix): value for name, value in found if name.startswith(prefix)}


def save(path: Path, checkpoint: Checkpoint) -> None:
    """`path` holds the checkpoint; until the last moment it holds what it held before.

    Raises RunError if the disk refuses.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()}
    header = json.dumps({"format": FORMAT, **checkpoint.header}, sort_keys=True, allow_nan=False)
    metadata = {"metalearn": header, "sha256": _digest(header, tensors)}
    write_file(path, safetensors.torch.save(tensors, metadata))


def load(path: Path) -> Checkpoint:
    """The checkpoint in `path`, verified.

    Raises CheckpointError, with the reason, for anything else than a whole checkpoint of a known format.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    metadata = _metadata(path, data)
    header = metadata["metalearn"]
    try:
        tensors = safetensors.torch.load(data)
    except Exception as error:
        raise CheckpointError(f"{path}: damaged: {error}") from None
    if _digest(header, tensors) != metadata.get("sha256"):
        raise CheckpointError(f"{path}: damaged: its contents do not match its checksum")
    fields: dict[str, Any] = _fields(path, header)
    if fields.get("format") != FORMAT:
        made_by = dict(fields.get("versions") or {}).get("metalearn", "an unknown version")
        raise CheckpointError(
            f"{path}: has format {fields.get('format')} (made by metalearn {made_by}); this metalearn reads {FORMAT}"
        )
    return Checkpoint(fields, tensors)


def _fields(path: Path, header: str) -> dict[str, Any]:
    try:
        fields = json.loads(header)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise CheckpointError(f"{path}: its header is not a JSON object; metalearn did not write it")
    return fields


def _metadata(path: Path, data: bytes) -> dict[str, str]:
    foreign = CheckpointError(f"{path}: is not a metalearn checkpoint; `metalearn train` writes checkpoints/best.pt")
    if len(data) < 8:
        raise CheckpointError(f"{path}: damaged: {len(data)} bytes long")
    length = struct.unpack("<Q", data[:8])[0]
    if length > min(len(data) - 8, _LARGEST_HEADER):
        raise foreign
    try:
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise foreign from None
    if not isinstance(metadata, dict) or not isinstance(metadata.get("metalearn"), str):
        raise foreign
    return metadata


def _digest(header: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
