"""State: everything that changes during a run. It is written into a checkpoint and restored from it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metalearn_cli.core.meta import Learner, Meta
from metalearn_cli.core.objectives import Objective, classification
from metalearn_cli.datasets import PREPARATION_ONLY
from metalearn_cli.errors import CheckpointError, ConfigError
from metalearn_cli.experiment import Experiment, from_mapping
from metalearn_cli.experiment.registry import outside_modules
from metalearn_cli.experiment.yaml_lines import brief
from metalearn_cli.runtime.data.interface import Data
from metalearn_cli.runtime.machine.execution import Plan
from metalearn_cli.runtime.run.checkpoint_contents import require_meta
from metalearn_cli.runtime.run.checkpoint_headers import (
    interface_header,
    interface_of,
    not_written,
    training_header,
    versions,
)
from metalearn_cli.runtime.run.outer_step import learned, leaves, optimizer_for
from metalearn_cli.runtime.run.stored_tensors import laid_out, meta_of
from metalearn_cli.storage.runs.checkpoints import Checkpoint

# A resumed run may change these: all steps before it would have been the same.
_MAY_CHANGE = {
    ("name",),
    ("sinks",),
    ("outer", "iterations"),
    ("outer", "on_nonfinite"),
    ("eval", "episodes"),
    ("eval", "every"),
    ("eval", "calibrate_shots"),
    ("checkpoint", "minutes"),
    ("checkpoint", "every"),
    ("execution", "threads"),
    ("execution", "processes"),
    ("execution", "cuda_graph"),
    *(("dataset", key) for key in PREPARATION_ONLY),
}
_SCHEDULE_READS = ("outer", "iterations")
_READ_THE_END = ("cosine", "linear")  # their rate depends on the last iteration, so it may not change


class Averages(NamedTuple):
    """The running means of the training loss and score over the iterations since the last report."""

    iterations: int = 0
    loss: float = 0.0
    score: float = 0.0

    @property
    def means(self) -> tuple[float, float]:
        """The mean loss and score; NaN if every iteration since the last report was skipped."""
        return (self.loss, self.score) if self.iterations else (math.nan, math.nan)

    def plus(self, loss: float, score: float) -> "Averages":
        """The means with one more iteration."""
        n = self.iterations + 1  # mean_n = mean_(n-1) + (x_n - mean_(n-1)) / n
        return Averages(n, self.loss + (loss - self.loss) / n, self.score + (score - self.score) / n)


class Kept(NamedTuple):
    """One of the kept best checkpoints: its iteration and validation score."""

    iteration: int
    score: float


@dataclass
class State:
    """Everything that changes during a run.

    `iteration`: the number of finished iterations. `meta`, `optimizer`: the meta-parameters and the outer optimizer.
    `plan`: the way in which tasks run; a resumed run keeps it, so that its sums have the same order.
    `best`: the best validation score so far. `window`: the means since the last report.
    `kept`: the checkpoints kept besides best.pt, the best first.
    `reported`: the iteration of the last report.
    `skipped`: the number of steps that were left out because they were not finite; `skipped_in_a_row` counts those
        since the last finite step.
    """

    iteration: int
    meta: Meta
    optimizer: torch.optim.Optimizer
    plan: Plan
    best: float | None = None
    window: Averages = field(default_factory=Averages)
    kept: list[Kept] = field(default_factory=list)
    reported: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0

    def improves(self, score: float, objective: Objective) -> bool:
        """Whether a validation score is better than the best so far: a larger accuracy, or a smaller squared error."""
        if not math.isfinite(score):
            return False
        if self.best is None:
            return True
        return score > self.best if objective is classification else score < self.best

    def best_with(self, score: float, objective: Objective, most: int) -> list[Kept]:
        """The `most` best of the kept checkpoints and a new one with `score`; of equal scores the earlier is better.

        If `most` is 1 the list stays empty, because best.pt is that checkpoint.
        """
        if most == 1 or not math.isfinite(score):
            return self.kept
        sign = -1 if objective is classification else 1
        candidates = [*self.kept, Kept(self.iteration, score)]
        return sorted(candidates, key=lambda kept: (sign * kept.score, kept.iteration))[:most]


def fresh(experiment: Experiment, meta: Meta, plan: Plan) -> State:
    """The state before the first iteration, from the meta-parameters on their device."""
    return State(0, meta, optimizer_for(experiment.outer, meta), plan)


def checkpoint_of(experiment: Experiment, data: Data, state: State, ground: Mapping[str, object]) -> Checkpoint:
    """A checkpoint with everything that a run needs to continue from this state as if it had never stopped."""
    header = {
        "kind": "meta",
        "experiment": experiment.model_dump(mode="json"),
        "interface": interface_header(data.interface),
        "data_sha256": data.sha256,
        "iteration": state.iteration,
        "best": state.best,
        "kept": [list(kept) for kept in state.kept],
        "window": list(state.window),
        "reported": state.reported,
        "plan": list(state.plan[:2]),
        "ground": dict(ground),
        "skipped": state.skipped,
        "skipped_in_a_row": state.skipped_in_a_row,
        "calibration": [],
        "versions": versions(),
    }
    tensors = leaves(state.meta)
    # torch numbers the optimizer's tensors; a file has their names, so that no order of parameters is relied on.
    slots_of = state.optimizer.state_dict()["state"]
    for number, name in enumerate(learned(state.meta)):
        slots = slots_of.get(number, {}).items()
        tensors |= {f"optimizer.{slot}.{name}": value for slot, value in slots if value is not None}
    return Checkpoint(header, tensors)


def restored(
    checkpoint: Checkpoint,
    path: Path,
    experiment: Experiment,
    data: Data,
    learner: Learner,
    device: torch.device,
    plan: Plan,
) -> State:
    """The state in a checkpoint, from which training continues exactly as if it had never stopped.

    From `plan` only the number of threads is used; the chunks of tasks are those that the run began with.

    Raises ConfigError, with the keys, if the experiment changed in a way that would give other weights or files;
    CheckpointError if it is not a training checkpoint, or if the dataset has changed.
    """
    header = training_header(checkpoint, path)
    approved = outside_modules(experiment.model_dump(mode="json"))
    try:
        trained = from_mapping(header.experiment, str(path), approved)
    except ConfigError as error:
        raise not_written(path, error) from None
    _require_same(trained, experiment)
    view = interface_of(header, trained, path).view
    if view is not None:
        view.require_same(data.interface.view, path)
    if header.data_sha256 != data.sha256:
        raise CheckpointError(f"{path}: the run was trained on other data than the prepared dataset holds now")
    require_meta(checkpoint, path, trained, interface_of(header, trained, path))
    meta = meta_of(checkpoint, path, learner, device)
    optimizer = _optimizer_in(checkpoint, experiment, meta)
    # The chunks decide the order of sums. On another kind of device the last bits differ in any case.
    if header.plan is not None and header.ground.get("device", device.type) == device.type:
        plan = Plan(*header.plan, plan.threads)
    return State(
        header.iteration, meta, optimizer, plan,
        best=header.best,
        window=Averages(*header.window),
        kept=[Kept(*pair) for pair in header.kept],
        reported=header.reported,
        skipped=header.skipped,
        skipped_in_a_row=header.skipped_in_a_row,
    )  # fmt: skip


def _optimizer_in(checkpoint: Checkpoint, experiment: Experiment, meta: Meta) -> torch.optim.Optimizer:
    optimizer = optimizer_for(experiment.outer, meta)
    slots: dict[int, dict[str, Tensor]] = {}
    numbers = {name: number for number, name in enumerate(learned(meta))}
    for name, value in checkpoint.below("optimizer.").items():
        slot, leaf = name.split(".", 1)
        # Adam's `step` is a scalar; its moments must lie in memory as the parameters do, see `laid_out`.
        slots.setdefault(numbers[leaf], {})[slot] = value if value.dim() == 0 else laid_out(value, leaves(meta)[leaf])
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return optimizer


def _require_same(trained: Experiment, asked: Experiment) -> None:
    before, after = _flat(trained.model_dump(mode="json")), _flat(asked.model_dump(mode="json"))
    may_change = _MAY_CHANGE - ({_SCHEDULE_READS} if asked.outer.schedule in _READ_THE_END else set())
    changed = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    broken = [key for key in changed if key not in may_change]
    if broken:
        pairs = [(".".join(key), brief(repr(before.get(key))), brief(repr(after.get(key)))) for key in broken]
        listed = "; ".join(f"{key}: {then} before, {now} now" for key, then, now in pairs)
        raise ConfigError(f"--resume: the run was started with other settings: {listed}")


def _flat(values: dict[str, Any], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    flat: dict[tuple[str, ...], Any] = {}
    for key, value in values.items():
        flat |= _flat(value, (*above, key)) if isinstance(value, dict) else {(*above, key): value}
    return flat
