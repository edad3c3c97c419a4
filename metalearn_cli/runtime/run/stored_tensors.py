"""Turns the tensors of a checkpoint into meta-parameters, after a check against those of the learner."""

from pathlib import Path

import torch
from torch import Tensor

from metalearn_cli.core.meta import Learner, Meta
from metalearn_cli.errors import CheckpointError
from metalearn_cli.storage.runs.checkpoints import Checkpoint


def meta_of(checkpoint: Checkpoint, path: Path, learner: Learner, device: torch.device) -> Meta:
    """The meta-parameters in a checkpoint, on a device.

    Raises CheckpointError if their names or shapes differ from the learner's.
    """
    like = learner.init()
    parts = (
        tensors_like(checkpoint.below(f"{part}."), own, path) for part, own in zip(Meta._fields, like, strict=True)
    )
    return on(Meta(*parts), device)


def tensors_like(stored: dict[str, Tensor], like: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The `stored` tensors of a file, in the order and memory layout of `like`; a file keeps neither of them.

    Raises CheckpointError if names or shapes differ from those of `like`.
    """
    for name in sorted(stored.keys() | like.keys()):
        there, wanted = (part[name].shape if name in part else None for part in (stored, like))
        if there != wanted:
            raise CheckpointError(
                f"{path}: does not fit the experiment: {name} is {_shape(there)} in the file, "
                f"{_shape(wanted)} in the learner; leave backbone and algorithm as they were in training"
            )
    return {name: laid_out(stored[name], value) for name, value in like.items()}


def laid_out(value: Tensor, like: Tensor) -> Tensor:
    """The same numbers in the memory layout of `like`; the order of sums, and so their last bit, depends on it."""
    return torch.empty_like(like, dtype=value.dtype).copy_(value)


def _shape(shape: torch.Size | None) -> str:
    return "absent" if shape is None else str(list(shape))


def on(meta: Meta, device: torch.device) -> Meta:
    """The same meta-parameters on a device."""
    moved = ({name: value.to(device) for name, value in part.items()} for part in meta)
    return Meta(*moved)
