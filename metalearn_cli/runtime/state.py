"""What changes while a run goes on, and how it becomes a checkpoint and comes back."""

import math
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metalearn_cli.core.meta import Learner, Meta, Objective, classification, regression
from metalearn_cli.datasets import PREPARATION_ONLY, Preprocessing
from metalearn_cli.errors import CheckpointError, ConfigError
from metalearn_cli.experiment import Experiment, from_mapping
from metalearn_cli.runtime.assembly import Data, Interface
from metalearn_cli.runtime.outer import leaves, optimizer_for
from metalearn_cli.storage.checkpoints import Checkpoint, save
from metalearn_cli.version import own_version

_MAY_CHANGE = {
    ("name",),
    ("sinks",),
    ("outer", "iterations"),
    ("eval", "episodes"),
    *(("dataset", key) for key in PREPARATION_ONLY),
}
_SCHEDULE_READS = ("outer", "iterations")
_READ_THE_END = ("cosine", "linear")


_FIELDS: dict[str, dict[str, type]] = {
    "meta": {"experiment": dict, "interface": dict, "data_sha256": str, "iteration": int, "window": list},
    "adapted": {"experiment": dict, "interface": dict, "classes": list, "inner_steps": int},
}
"""What the header of each kind of checkpoint must hold."""


class Window(NamedTuple):
    """Means of the training loss and score over the iterations since the last report."""

    iterations: int = 0
    loss: float = 0.0
    score: float = 0.0

    def plus(self, loss: float, score: float) -> "Window":
        """The window with one iteration more."""
        n = self.iterations + 1
        return Window(n, self.loss + (loss - self.loss) / n, self.score + (score - self.score) / n)


@dataclass
class State:
    """Iterations done, meta-parameters, outer optimizer, best validation score so far."""

    iteration: int
    meta: Meta
    optimizer: torch.optim.Optimizer
    best: float | None = None
    window: Window = field(default_factory=Window)

    def improves(self, score: float, objective: Objective) -> bool:
        """Whether a validation score beats the best so far: a larger accuracy, a smaller error."""
        if not math.isfinite(score):
            return False
        if self.best is None:
            return True
        return score > self.best if objective is classification else score < self.best


def fresh(experiment: Experiment, learner: Learner, device: torch.device) -> State:
    """The state before the first iteration."""
    meta = on(learner.init(), device)
    return State(0, meta, optimizer_for(experiment.outer, meta))


def keep(path: Path, experiment: Experiment, data: Data, state: State) -> None:
    """`path` is a checkpoint of the state."""
    header = {
        "kind": "meta",
        "experiment": experiment.model_dump(mode="json"),
        "interface": interface_header(data.interface),
        "data_sha256": data.sha256,
        "iteration": state.iteration,
        "best": state.best,
        "window": list(state.window),
        "versions": versions(),
    }
    tensors = leaves(state.meta)
    slots_of = state.optimizer.state_dict()["state"]
    for number, name in enumerate(list(tensors)):
        slots = slots_of.get(number, {}).items()
        tensors |= {f"optimizer.{slot}.{name}": value for slot, value in slots if value is not None}
    save(path, Checkpoint(header, tensors))


def restored(
    checkpoint: Checkpoint, path: Path, experiment: Experiment, data: Data, learner: Learner, device: torch.device
) -> State:
    """The state in a checkpoint, from which training goes on exactly as if it had never stopped.

    Raises ConfigError, by name, if the experiment changed in a way that would end in other weights, CheckpointError
    if the checkpoint is none of training or the dataset is another one.
    """
    require_kind(checkpoint, "meta", path)
    _require_same(from_mapping(checkpoint.header["experiment"], str(path)), experiment)
    if checkpoint.header["data_sha256"] != data.sha256:
        raise CheckpointError(f"{path}: the run was trained on other data than the prepared dataset holds now")
    meta = meta_of(checkpoint, path, learner, device)
    optimizer = optimizer_for(experiment.outer, meta)
    slots: dict[int, dict[str, Tensor]] = {}
    numbers = {name: number for number, name in enumerate(leaves(meta))}
    for name, value in checkpoint.below("optimizer.").items():
        slot, leaf = name.split(".", 1)
        slots.setdefault(numbers[leaf], {})[slot] = value if value.dim() == 0 else _laid_out(value, leaves(meta)[leaf])
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    header = checkpoint.header
    try:
        window = Window(*header["window"])
    except TypeError:
        raise CheckpointError(f"{path}: its header has no usable 'window'; metalearn did not write it") from None
    return State(header["iteration"], meta, optimizer, header.get("best"), window)


def meta_of(checkpoint: Checkpoint, path: Path, learner: Learner, device: torch.device) -> Meta:
    """The meta-parameters in a checkpoint.

    Raises CheckpointError if they are not those of the learner.
    """
    like = learner.init()
    params = fitted(checkpoint.below("params."), like.params, path)
    return on(Meta(params, fitted(checkpoint.below("coefficients."), like.coefficients, path)), device)


def fitted(stored: dict[str, Tensor], like: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Tensors from a file in the order and the memory layout of a learner's, which a file does not keep.

    Raises CheckpointError if names or shapes are not the learner's.
    """
    for name in sorted(stored.keys() | like.keys()):
        found, wanted = (part[name].shape if name in part else None for part in (stored, like))
        if found != wanted:
            raise CheckpointError(
                f"{path}: does not fit the experiment: {name} is {_shape(found)} in the file, "
                f"{_shape(wanted)} in the learner; leave backbone and algorithm as they were in training"
            )
    return {name: _laid_out(stored[name], value) for name, value in like.items()}


def _laid_out(value: Tensor, like: Tensor) -> Tensor:
    """The same numbers in the memory layout of `like`, which a file does not keep and a sum's last bit depends on."""
    return torch.empty_like(like, dtype=value.dtype).copy_(value)


def _shape(shape: torch.Size | None) -> str:
    return "absent" if shape is None else str(list(shape))


def on(meta: Meta, device: torch.device) -> Meta:
    """The same meta-parameters on a device."""
    moved = ({name: value.to(device) for name, value in part.items()} for part in meta)
    return Meta(*moved)


def require_kind(checkpoint: Checkpoint, kind: str, path: Path) -> None:
    """Raise CheckpointError if the file is of another kind than "meta" (of training) or "adapted" (of finetune)."""
    names = {"meta": "a training checkpoint", "adapted": "an adapted classifier"}
    found = checkpoint.header.get("kind")
    if found != kind:
        hint = "; use it with --query alone" if found == "adapted" else "; give --support to adapt it first"
        raise CheckpointError(f"{path}: holds {names.get(str(found), repr(found))}, {names[kind]} is needed{hint}")
    for name, kind_of_value in _FIELDS[kind].items():
        if not isinstance(checkpoint.header.get(name), kind_of_value):
            raise CheckpointError(f"{path}: its header has no usable {name!r}; metalearn did not write it")


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


def _require_same(trained: Experiment, asked: Experiment) -> None:
    before, after = _flat(trained.model_dump(mode="json")), _flat(asked.model_dump(mode="json"))
    may_change = _MAY_CHANGE - ({_SCHEDULE_READS} if asked.outer.schedule in _READ_THE_END else set())
    changed = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    broken = [key for key in changed if key not in may_change]
    if broken:
        listed = "; ".join(f"{'.'.join(key)}: {before.get(key)!r} before, {after.get(key)!r} now" for key in broken)
        raise ConfigError(f"--resume: the run was started with other settings: {listed}")


def _flat(values: dict[str, Any], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    flat: dict[tuple[str, ...], Any] = {}
    for key, value in values.items():
        flat |= _flat(value, (*above, key)) if isinstance(value, dict) else {(*above, key): value}
    return flat
