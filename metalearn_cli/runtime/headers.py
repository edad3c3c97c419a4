"""What the header of a checkpoint says: its kind, what its network sees, which versions wrote it."""

import os
import platform
from pathlib import Path
from typing import Any

import torch

from metalearn_cli.core.meta import classification, regression
from metalearn_cli.datasets import Preprocessing
from metalearn_cli.errors import CheckpointError
from metalearn_cli.experiment import Experiment, from_mapping
from metalearn_cli.runtime.opening import Interface
from metalearn_cli.storage.checkpoints import Checkpoint
from metalearn_cli.version import own_version

_FIELDS: dict[str, dict[str, type]] = {
    "meta": {"experiment": dict, "interface": dict, "data_sha256": str, "iteration": int, "window": list},
    "adapted": {"experiment": dict, "interface": dict, "classes": list, "inner_steps": int},
}
"""What the header of each kind of checkpoint must hold."""


def require_kind(checkpoint: Checkpoint, kind: str, path: Path) -> None:
    """Raise CheckpointError if the file is of another kind than "meta" (of training) or "adapted" (of finetune)."""
    names = {"meta": "a training checkpoint", "adapted": "an adapted classifier"}
    found = checkpoint.header.get("kind")
    if found != kind:
        hint = "; use it with --query alone, in Python with load_classifier"
        if found != "adapted":
            hint = "; give --support to adapt it first, in Python with load"
        raise CheckpointError(f"{path}: holds {names.get(str(found), repr(found))}, {names[kind]} is needed{hint}")
    for name, kind_of_value in _FIELDS[kind].items():
        if not isinstance(checkpoint.header.get(name), kind_of_value):
            raise CheckpointError(f"{path}: its header has no usable {name!r}; metalearn did not write it")


def experiment_in(checkpoint: Checkpoint, path: Path) -> Experiment:
    """The Experiment in a checkpoint's header.

    Raises CheckpointError if it names Python code that METALEARN_TRUST does not: no file may choose what is run.
    """
    experiment = from_mapping(checkpoint.header["experiment"], str(path))
    code = getattr(experiment.backbone, "call", None)
    if code is not None and code not in os.environ.get("METALEARN_TRUST", "").split(","):
        raise CheckpointError(f"{path}: it would run Python code, {code}; allow it by: METALEARN_TRUST={code}")
    return experiment


def interface_header(interface: Interface) -> dict[str, Any]:
    """An Interface as JSON."""
    pictures = interface.preprocessing
    return {
        "input_shape": list(interface.input_shape),
        "outputs": interface.outputs,
        "objective": interface.objective.name,
        "preprocessing": None if pictures is None else pictures.model_dump(mode="json"),
    }


def interface_of(checkpoint: Checkpoint, path: Path) -> Interface:
    """The Interface in a checkpoint's header.

    Raises CheckpointError if there is none.
    """
    fields = checkpoint.header["interface"]
    try:
        pictures = fields["preprocessing"]
        return Interface(
            tuple(int(extent) for extent in fields["input_shape"]),
            int(fields["outputs"]),
            classification if fields["objective"] == "accuracy" else regression,
            None if pictures is None else Preprocessing.model_validate(pictures, strict=False),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its header has no usable 'interface'; metalearn did not write it") from error


def versions() -> dict[str, str]:
    """The versions that a checkpoint remembers."""
    return {"metalearn": own_version(), "torch": torch.__version__, "python": platform.python_version()}
