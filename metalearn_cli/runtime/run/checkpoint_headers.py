"""Reads the header of a checkpoint: its kind, its experiment, the interface of its network, and versions.

Every field is checked as strictly as an experiment file. The checksum of a checkpoint proves that the file is whole; it
does not prove that metalearn wrote it.
"""

import platform
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import Field, StringConstraints

from metalearn_cli.core.objectives import classification, regression
from metalearn_cli.datasets import Preprocessing
from metalearn_cli.datasets.tabular import Encoding
from metalearn_cli.errors import CheckpointError, ConfigError
from metalearn_cli.experiment import Experiment, from_mapping
from metalearn_cli.experiment.mistakes import ValueSource, validated
from metalearn_cli.experiment.yaml_lines import brief
from metalearn_cli.references import Call
from metalearn_cli.runtime.data.extraction import asked_features
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.data.table_tasks import objective_of
from metalearn_cli.runtime.data.view import Typical, View
from metalearn_cli.runtime.run.interface_check import unlike_experiment
from metalearn_cli.runtime.run.promises import Calibration
from metalearn_cli.settings import Settings, Size, Steps
from metalearn_cli.storage.runs.checkpoints import Checkpoint
from metalearn_cli.version import own_version

_Count = Annotated[int, Field(ge=0, le=10**9)]
_Word = Annotated[str, StringConstraints(max_length=100, pattern=r"^[ -~]*$")]
_NAMES = {"meta": "a training checkpoint", "adapted": "an adapted classifier"}


class _View(Settings):
    """A View as `interface_header` writes it; its settings are the experiment's."""

    identity: str = Field(pattern=r"^[0-9a-f]{64}$")
    about: _Word
    first: Preprocessing | None
    typical: Typical | None


class _Interface(Settings):
    """An Interface as `interface_header` writes it."""

    input_shape: tuple[Size, ...] = Field(min_length=1)
    outputs: Size
    objective: Literal["accuracy", "mse"]
    preprocessing: Preprocessing | None
    view: _View | None = None
    table: Encoding | None = None


class _Header(Settings):
    """The fields of both kinds of headers. The experiment stays a dictionary here; `experiment_in` reads it."""

    format: int
    kind: str
    experiment: dict[str, Any]
    interface: _Interface
    versions: dict[_Word, _Word] = Field(default={})


class TrainingHeader(_Header):
    """The header of a training checkpoint: the fields of runtime.run.state.State that are not tensors."""

    data_sha256: _Word
    iteration: _Count
    best: float | None
    kept: list[tuple[_Count, float]] = Field(default=[], max_length=100)
    window: tuple[_Count, float, float]
    reported: _Count
    plan: tuple[Literal["loop", "vmap", "threads"], Size] | None
    ground: dict[_Word, _Word | int]
    skipped: _Count
    skipped_in_a_row: _Count
    calibration: list[Calibration] = Field(default=[], max_length=100)

    def mistake(self) -> str:
        """The first field with an impossible value, in words; "" if there is none."""
        kept = [iteration for iteration, _ in self.kept]
        times = {"window": self.window[0], "reported": self.reported, "skipped": self.skipped, "kept": max([0, *kept])}
        for name, time in times.items():
            if time > self.iteration:
                return f"{name}: found {time}, but only {self.iteration} iterations were done"
        if len(set(kept)) < len(kept):
            return f"kept: found {kept}, expected each iteration once"
        if self.skipped_in_a_row > self.skipped:
            return f"skipped_in_a_row: found {self.skipped_in_a_row}, but only {self.skipped} steps were left out"
        return self._mistake_in_calibration()

    def _mistake_in_calibration(self) -> str:
        if self.calibration and self.interface.objective != "accuracy":
            return "calibration: found one, but it predicts numbers"
        sizes = [one.size for one in self.calibration]
        if len(set(sizes)) < len(sizes):
            return f"calibration: found {', '.join(sizes)}, expected each size once"
        return next((f"calibration.{one.mistake}" for one in self.calibration if one.mistake), "")


class AdaptedHeader(_Header):
    """The header of an adapted classifier: its labels, in the order of its probabilities, and its number of steps."""

    classes: list[str | bool | int | float] = Field(min_length=1)
    inner_steps: Steps
    calibration: Calibration | None = None
    temperature: Annotated[float, Field(ge=1e-5, le=1e7)] = 1.0

    def mistake(self) -> str:
        """The first field with an impossible value, in words; "" if there is none."""
        if self.calibration is not None and self.calibration.mistake:
            return f"calibration.{self.calibration.mistake}"
        if self.calibration is not None and self.temperature != self.calibration.temperature:
            return f"temperature: found {self.temperature}, but that of calibration is another"
        if len(set(self.classes)) < len(self.classes):
            return "classes: found a label twice, expected each once"
        if len(self.classes) != self.interface.outputs:
            return f"classes: found {len(self.classes)}, but the network has {self.interface.outputs} outputs"
        return ""


Header = TypeVar("Header", TrainingHeader, AdaptedHeader)


def training_header(checkpoint: Checkpoint, path: Path) -> TrainingHeader:
    """The header of a training checkpoint. Raises CheckpointError for another kind, or for an impossible value."""
    return _read(checkpoint, "meta", TrainingHeader, path)


def adapted_header(checkpoint: Checkpoint, path: Path) -> AdaptedHeader:
    """The header of an adapted classifier. Raises CheckpointError as `training_header` does."""
    return _read(checkpoint, "adapted", AdaptedHeader, path)


def _read(checkpoint: Checkpoint, kind: str, model: type[Header], path: Path) -> Header:
    found = checkpoint.header.get("kind")
    if found != kind:
        hint = "; use it with --query alone, in Python with load_classifier"
        if found != "adapted":
            hint = "; give --support to adapt it first, in Python with load"
        held = _NAMES.get(str(found), brief(repr(found)))
        raise CheckpointError(f"{path}: holds {held}, {_NAMES[kind]} is needed{hint}")
    try:
        header = validated(model, dict(checkpoint.header), ValueSource(str(path), {}))
    except ConfigError as error:
        raise not_written(path, error) from None
    if mistake := header.mistake():
        raise not_written(path, mistake)
    return header


def not_written(path: Path, mistake: ConfigError | str) -> CheckpointError:
    """The error for a checkpoint with a mistake in its header; if there are several, it names only the first."""
    first = str(mistake).partition("\n")[0].removeprefix(f"{path}: ")
    return CheckpointError(f"{path}: its header has no usable {first}; metalearn did not write it")


def experiment_in(checkpoint: Checkpoint, path: Path) -> Experiment:
    """The Experiment in a checkpoint's header.

    Raises CheckpointError if it is not a valid experiment, or if it names Python code that METALEARN_TRUST does not
    approve, because a file must not choose which code runs.
    """
    try:
        experiment = from_mapping(checkpoint.header.get("experiment"), str(path))
    except ConfigError as error:
        raise not_written(path, error) from None
    for block in (experiment.backbone, asked_features(experiment.dataset)):
        code, program = getattr(block, "call", None), getattr(block, "program", None)
        call = Call(code, getattr(block, "arguments", {})) if code is not None else None
        call = Call("torch.export.load", {"f": program}) if isinstance(program, str) else call
        if call is not None and not call.is_trusted():
            raise CheckpointError(
                f"{path}: it would run Python code, {call.shown()}; allow it by: METALEARN_TRUST={call.approval()}"
            )
    return experiment


def interface_header(interface: Interface) -> dict[str, Any]:
    """An Interface as JSON."""
    pictures, view = interface.preprocessing, interface.view
    header: dict[str, Any] = {
        "input_shape": list(interface.input_shape),
        "outputs": interface.outputs,
        "objective": interface.objective.name,
        "preprocessing": None if pictures is None else pictures.model_dump(mode="json"),
    }
    if interface.table is not None:
        header["table"] = interface.table.model_dump(mode="json")
    if view is None:
        return header
    fields = _View(identity=view.identity, about=view.about, first=view.first, typical=view.typical)
    return header | {"view": fields.model_dump(mode="json")}


def interface_of(header: TrainingHeader | AdaptedHeader, experiment: Experiment, path: Path) -> Interface:
    """The Interface in a header.

    Raises CheckpointError if the header's experiment cannot have this interface.
    """
    fields = header.interface
    objective = classification if fields.objective == "accuracy" else regression
    if fields.table is not None:
        if mistake := fields.table.mistake():
            raise not_written(path, f"interface.table.{mistake}")
        objective = objective_of(fields.table)
    interface = Interface(fields.input_shape, fields.outputs, objective, fields.preprocessing, table=fields.table)
    settings = asked_features(experiment.dataset)
    if (settings is None) != (fields.view is None):
        raise not_written(path, "interface.view: is there without dataset.features, or missing with it")
    if fields.view is not None and settings is not None:
        seen = fields.view
        interface = interface._replace(view=View(settings, seen.identity, seen.about, seen.first, seen.typical))
    if mistake := unlike_experiment(interface, experiment, isinstance(header, TrainingHeader)):
        raise not_written(path, f"interface.{mistake}")
    return interface


def versions() -> dict[str, str]:
    """The versions of metalearn, torch and Python that a checkpoint stores."""
    return {"metalearn": own_version(), "torch": torch.__version__, "python": platform.python_version()}
