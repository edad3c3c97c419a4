"""The tensors of a checkpoint as meta-parameters, checked against those of the learner that they are for."""

from pathlib import Path

import torch
from torch import Tensor

from metalearn_cli.core.meta import Learner, Meta
from metalearn_cli.errors import CheckpointError
from metalearn_cli.storage.runs.checkpoints import Checkpoint


def meta_of(checkpoint: Checkpoint, path: Path, learner: Learner, device: torch.device) -> Meta:
    """The meta-parameters in a checkpoint.

    Raises CheckpointError if their names or shapes are not the learner's.
    """
    like = learner.init()
    parts = (
        tensors_like(checkpoint.below(f"{part}."), own, path) for part, own in zip(Meta._fields, like, strict=True)
    )
    return on(Meta(*parts), device)


def tensors_like(stored: dict[str, Tensor], like: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors `stored` in a file, in the order and the memory layout of `like`, which a file does not keep.

    Raises CheckpointError if names or shapes are not those of `like`.
    """
    for name in sorted(stored.keys() | like.keys()):
        found, wanted = (part[name].shape if name in part else None for part in (stored, like))
        if found != wanted:
            raise CheckpointError(
                f"{path}: does not fit the experiment: {name} is {_shape(found)} in the file, "
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
