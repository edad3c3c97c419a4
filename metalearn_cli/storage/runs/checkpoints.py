"""Checkpoints: self-verifying files without pickle, in the safetensors format.

The metadata of the file hold a JSON header and a SHA-256 over this header and every tensor's name, dtype, shape and
bytes. `load` checks it, so a file that was cut or has a single flipped bit is refused. No checkpoint can run code.
"""

import hashlib
import json
import math
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from metalearn_cli.errors import CheckpointError, DamagedError, reason
from metalearn_cli.experiment.yaml_lines import brief
from metalearn_cli.storage.files.atomic import write_file
from metalearn_cli.storage.files.reading import content_of

FORMAT = 3
_LARGEST_HEADER = 16 << 20  # bytes
_DEEPEST = 32  # levels of lists and dictionaries; an experiment needs a few
_SAME = "same"
"""The field of the header that names tensors which were not written, each with the one that is equal to it."""
_TYPES = {torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32}
"""The dtypes that a checkpoint may have."""

Fields = dict[str, Any]


class Checkpoint(NamedTuple):
    """A JSON header (kind, experiment, progress of the run, versions) and named tensors."""

    header: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def below(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names start with `prefix`, under their names without it."""
        found = self.tensors.items()
        return {name.removeprefix(prefix): value for name, value in found if name.startswith(prefix)}


def save(path: Path, checkpoint: Checkpoint, predecessor: Path | None = None) -> None:
    """Write the checkpoint to `path`; its old content becomes that of `predecessor`, if that is given.

    At any moment one of the two files is whole. Tensors that lie in the same memory are written once. Raises RunError
    if the disk refuses.
    """
    tensors, same = _each_once({name: value.detach().cpu() for name, value in checkpoint.tensors.items()})
    fields = {"format": FORMAT, **checkpoint.header} | ({_SAME: same} if same else {})
    header = json.dumps(fields, sort_keys=True, allow_nan=False)
    metadata = {"metalearn": header, "sha256": _digest(header, tensors)}
    write_file(path, safetensors.torch.save(tensors, metadata), predecessor)


def read_checkpoint(path: Path) -> Checkpoint:
    """The verified checkpoint in `path`; an older format is converted to that of this version.

    Raises DamagedError, with the reason, if the file is not a whole checkpoint; CheckpointError if it cannot be read or
    has an unknown format.
    """
    if path.is_dir():
        raise CheckpointError(
            f"{path}: is a folder, expected a file, such as checkpoints/best.pt in the folder of a run"
        )
    try:
        data = content_of(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    metadata = _metadata(path, data)
    header = metadata["metalearn"]
    try:
        tensors = safetensors.torch.load(data)
    except Exception as error:
        raise DamagedError(f"{path}: damaged: {reason(error)}") from None
    for name, value in tensors.items():
        if value.dtype not in _TYPES:
            raise DamagedError(f"{path}: {brief(name)} is of type {value.dtype}; metalearn did not write it")
    if _digest(header, tensors) != metadata.get("sha256"):
        raise DamagedError(f"{path}: damaged: its contents do not match its checksum")
    return _up_to_date(path, _with_all(path, Checkpoint(_fields(path, header), tensors)))


def _each_once(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors without those that share the memory of an earlier one, and {name of such a one: the earlier name}.

    A classifier that can grow stores the learner before adaptation too, and both may share parameters.
    """
    kept, same, places = dict[str, Tensor](), dict[str, str](), dict[object, str]()
    for name, value in sorted(tensors.items()):
        place = (value.data_ptr(), value.dtype, value.shape, value.stride())
        if value.numel() and place in places:
            same[name] = places[place]
        else:
            kept[name], places[place] = value.contiguous(), name
    return kept, same


def _with_all(path: Path, checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with the tensors that `save` left out because an equal one was written under another name."""
    same, tensors = checkpoint.header.get(_SAME, {}), checkpoint.tensors
    if not isinstance(same, dict) or not all(
        name not in tensors and isinstance(stored, str) and stored in tensors for name, stored in same.items()
    ):
        raise DamagedError(f"{path}: {_SAME}: found no names of its tensors; metalearn did not write it")
    header = {name: value for name, value in checkpoint.header.items() if name != _SAME}
    return Checkpoint(header, {**tensors, **{name: tensors[stored] for name, stored in same.items()}})


def _fields(path: Path, header: str) -> Fields:
    try:
        fields = _parsed(header)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise DamagedError(f"{path}: its header is not a JSON object; metalearn did not write it")
    return fields


def _parsed(text: str | bytes) -> Any:
    """The values of a JSON text, read more strictly than by json.loads.

    Raises ValueError for a repeated key, NaN, infinity, half of a surrogate pair, or nesting that is too deep;
    RecursionError for still deeper nesting.
    """
    values = json.loads(text, object_pairs_hook=_once, parse_constant=_refused, parse_float=_finite)
    level = [values]
    for _depth in range(_DEEPEST):
        inner = [value for value in level if isinstance(value, dict | list)]
        for value in level:
            if isinstance(value, str):
                value.encode()  # half of a surrogate pair raises UnicodeEncodeError, which is a ValueError
        level = [part for outer in inner for part in (outer if isinstance(outer, list) else (*outer, *outer.values()))]
    if level:
        raise ValueError("too deep")
    return values


def _once(pairs: list[tuple[str, Any]]) -> Fields:
    if len(fields := dict(pairs)) < len(pairs):
        raise ValueError("a key is there twice")
    return fields


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"{text} is no number that a computer has")
    return value


def _up_to_date(path: Path, checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint converted to the format of this version."""
    found = checkpoint.header.get("format")
    if type(found) is int and 1 <= found <= FORMAT:
        for migrate in _MIGRATIONS[found - 1 :]:
            checkpoint = migrate(checkpoint)
        return checkpoint
    versions = checkpoint.header.get("versions")
    made_by = versions.get("metalearn") if isinstance(versions, dict) else None
    maker = brief(made_by) if made_by and isinstance(made_by, str) else "of an unknown version"
    newer = type(found) is int and found > FORMAT
    raise CheckpointError(
        f"{path}: has format {brief(repr(found))} (made by metalearn {maker}), this metalearn reads "
        f"1 to {FORMAT}; {'install a newer metalearn' if newer else 'metalearn did not write it'}"
    )


def _from_1(checkpoint: Checkpoint) -> Checkpoint:
    """Format 2 adds the plan, the machine, the last report and the skipped steps; in format 1 there were none."""
    fields = checkpoint.header
    window, iteration = fields.get("window"), fields.get("iteration")
    since = window[0] if isinstance(window, list) and window else 0
    reported = iteration - since if isinstance(iteration, int) and isinstance(since, int) else None
    unknown: Fields = {"plan": None, "ground": {}, "reported": reported, "skipped": 0, "skipped_in_a_row": 0}
    return checkpoint._replace(header={**unknown, **fields, "format": 2})


def _from_2(checkpoint: Checkpoint) -> Checkpoint:
    """Format 3 separates running statistics from coefficients, and drops those of optimizers and classifiers."""
    learned = {name: value for name, value in checkpoint.tensors.items() if not _OF_STATISTICS_IN_2.match(name)}
    counted = checkpoint.below("coefficients.running.").items()
    return Checkpoint(
        {**checkpoint.header, "format": 3}, learned | {f"statistics.{name}": value for name, value in counted}
    )


_OF_STATISTICS_IN_2 = re.compile(r"(optimizer\.[^.]+\.)?coefficients\.running\.|adapted\.running\.")
_MIGRATIONS: tuple[Callable[[Checkpoint], Checkpoint], ...] = (_from_1, _from_2)
"""Entry n (from 0) converts format n + 1 to format n + 2."""


def _metadata(path: Path, data: bytes) -> dict[str, str]:
    foreign = DamagedError(f"{path}: is not a metalearn checkpoint; `metalearn train` writes checkpoints/best.pt")
    if len(data) < 8:
        raise DamagedError(f"{path}: damaged: {len(data)} bytes long")
    length = struct.unpack("<Q", data[:8])[0]  # safetensors: 8 bytes with the header's length, the header, the tensors
    if length > min(len(data) - 8, _LARGEST_HEADER):
        raise foreign
    try:
        metadata = _parsed(data[8 : 8 + length])["__metadata__"]
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
