"""The whole experiment, typed and frozen: YAML and `--set` in, `Experiment` out.

`name` in the blocks dataset, backbone and algorithm picks a file of the folder of that name, and the
block's other keys are that file's `Config`: the folder is the registry. Importing this module imports no
torch; `load` does, through the files it picks.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, create_model, field_validator

from metalearn_cli import yaml_lines
from metalearn_cli.errors import ConfigError
from metalearn_cli.mistakes import Mistake, Source, did_you_mean, found, key, refusal, validated
from metalearn_cli.overrides import overridden
from metalearn_cli.registry import ROOMS, chosen_by
from metalearn_cli.settings import Choice, Settings, Size, Steps
from metalearn_cli.yaml_lines import Location, shown

LARGEST_SEED = 2**63 - 1
Iterations = Annotated[int, Field(ge=1, le=10**9)]
Episodes = Annotated[int, Field(ge=2, le=10**6)]  # sampling draws them by numbers of 20 bits

_READERS = {
    "momentum": ("optimizer", ("sgd",)),
    "min_lr": ("schedule", ("cosine", "linear")),
    "step_every": ("schedule", ("step",)),
    "step_factor": ("schedule", ("step",)),
}
"""Which keys of `outer` are read only where another has one of these values."""


class Task(Settings):
    """N-way K-shot: what one training task holds.

    `ways` (classes): how many a task has.
    `shots` (examples): how many of each class are given with their labels: the support set.
    `queries` (examples): how many more of each class are to be predicted.
    `statistics`: what the norms see: all the queries at once ("transductive", as in MAML's code) or the support set
        alone ("support"), so that no prediction depends on the other queries.
    `running_statistics`: whether training keeps a running mean of what the norms see, for `eval.statistics: running`.
    """

    ways: Size = 5
    shots: Size = 1
    queries: Size = 15
    statistics: Literal["transductive", "support"] = "transductive"
    running_statistics: bool = False


class Outer(Settings):
    """The meta-update; by default MAML's (Finn et al. 2017, appendix A): Adam at a constant 1e-3.

    What the chosen optimizer or schedule would not read is refused.

    `optimizer`: what makes a meta-step of a meta-gradient.
    `lr`: the rate of the meta-steps.
    `weight_decay`: decay of the meta-parameters at every meta-step.
    `momentum`: the share of the last meta-step that is taken again; for sgd.
    `schedule`: how the rate changes over the run.
    `min_lr`: where the cosine or the line ends; a line to 0 is Reptile's.
    `step_every` (iterations): after how many the schedule "step" multiplies the rate; by default as CAVIA (Zintgraf et
        al. 2019).
    `step_factor`: by what it multiplies.
    `clip_norm`: bounds the norm of the whole meta-gradient; null does not clip.
    `clip_value`: bounds each of its elements; null does not clip.
    `meta_batch_size` (tasks): how many a meta-step learns from.
    `iterations` (meta-steps): how many the whole run has.
    `on_nonfinite`: whether a loss or a gradient that is not finite ends the run ("stop"), or its step is left out and
        counted ("skip").
    """

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    schedule: Literal["constant", "cosine", "linear", "step"] = "constant"
    min_lr: float = Field(default=0.0, ge=0)
    step_every: Iterations = 5000
    step_factor: float = Field(default=0.9, gt=0, le=1)
    clip_norm: float | None = Field(default=None, gt=0)
    clip_value: float | None = Field(default=None, gt=0)
    meta_batch_size: Size = 4
    iterations: Iterations = 60_000
    on_nonfinite: Literal["stop", "skip"] = "stop"

    @field_validator(*_READERS)
    @classmethod
    def _has_a_reader(cls, value: float, info: ValidationInfo) -> float:
        name = str(info.field_name)
        reader, choices = _READERS[name]
        if value != cls.model_fields[name].default and info.data.get(reader, choices[0]) not in choices:
            raise ValueError(f"has no effect unless {reader} is {' or '.join(choices)}; it is {info.data[reader]}")
        return value


class Eval(Settings):
    """How accuracy is measured, in validation and test.

    `ways` (classes): how many a test task has; null, as in training. Only a learner that is not tied to a number of
        classes (protonet and others) can be measured with other ways.
    `inner_steps` (steps): by how many a test task is learned; null, as in training.
    `queries` (examples): how many of each class are to be predicted.
    `episodes` (tasks): how many `metalearn eval` draws.
    `val_episodes` (tasks): how many each validation draws.
    `every` (iterations): how many lie between two validations.
    `seed`: picks the episodes, the same for every checkpoint.
    `statistics`: what the norms see; null, as in training; "running", the running mean of what they saw in training, so
        that no prediction depends on others.
    """

    ways: Annotated[Size, Field(ge=2)] | None = None
    inner_steps: Steps | None = None
    queries: Size = 15
    episodes: Episodes = 600
    val_episodes: Episodes = 200
    every: Iterations = 500
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    statistics: Literal["transductive", "support", "running"] | None = None


class Keeping(Settings):
    """How often a checkpoint is written besides at every report, at a signal and at the end.

    `minutes` (minutes): after so many.
    `every` (iterations): after so many; null, never for that reason.
    """

    minutes: float = Field(default=10.0, gt=0)
    every: int | None = Field(default=None, ge=1)


class Execution(Settings):
    """How the tasks of a meta-batch run at once; but for rounding, what is learned does not depend on it.

    `mode`: one task after the other ("loop"), at once ("vmap"), at once on threads ("threads"), or what suits the
        device.
    `chunk` (tasks): how many go through the network together; null, as many as suit the caches and the threads.
    `threads`: how many; null, one a core.
    """

    mode: Literal["auto", "loop", "vmap", "threads"] = "auto"
    chunk: Size | None = None
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None


def _sink(reference: str) -> str:
    if not re.fullmatch(r"tensorboard|[A-Za-z_][\w.]*:[A-Za-z_]\w*", reference):
        raise ValueError(f"found {found(reference)}, expected tensorboard or package.module:Name, a sink of your own")
    return reference


class Experiment(Settings):
    """All that decides a run.

    `name`: names the run's folder, `runs/NAME`.
    `seed`: decides the initialisation and the tasks.
    `dataset`: what tasks are drawn from.
    `task`: the size of a training task.
    `backbone`: the network.
    `algorithm`: how a task is learned, and what is meta-learned.
    `outer`: the meta-update.
    `eval`: how accuracy is measured.
    `checkpoint`: how often the run is kept on disk between reports.
    `execution`: how the tasks of a meta-batch run at once.
    `sinks`: who receives the run's numbers besides metrics.jsonl, each "tensorboard" or "package.module:Name"
        (docs/sinks.md); null, TensorBoard where its library is installed. What is learned does not depend on them.
    """

    name: str
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    dataset: Choice
    task: Task = Task()
    backbone: Choice
    algorithm: Choice
    outer: Outer = Outer()
    eval: Eval = Eval()
    checkpoint: Keeping = Keeping()
    execution: Execution = Execution()
    sinks: list[Annotated[str, AfterValidator(_sink)]] | None = None

    @field_validator("name")
    @classmethod
    def _folder_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise ValueError(f"found {found(name)}, expected a folder's name: letters, digits, '.', '_' and '-'")
        return name


def load(reference: str, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment in a file, or in the shipped config of that name, after each `key.path=value`.

    Raises ConfigError with one line for each mistake.
    """
    file = _find(reference)
    document = yaml_lines.read(file)
    return _experiment(document.values, overrides, shown(str(file)), document.lines)


def with_overrides(experiment: Experiment, overrides: Sequence[str]) -> Experiment:
    """The experiment after each `key.path=value`. Where a name is another, the other keys of its block are forgotten.

    Raises ConfigError with one line for each mistake.
    """
    values = experiment.model_dump(mode="json")
    asked, given = overridden(values, overrides)
    for block in ROOMS:
        if (block, "name") in given and asked[block]["name"] != values[block]["name"]:
            values[block] = {}
    return _experiment(values, overrides, "experiment")


def from_mapping(values: object, where: str) -> Experiment:
    """The experiment that `model_dump(mode="json")` gave; `where` is what errors call its source."""
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: found {found(values)}, expected an experiment")
    return _experiment(values, (), where)


def to_yaml(experiment: Experiment) -> str:
    """The experiment as a file that `load` turns back into an equal one; no key is left out."""
    return yaml_lines.write(experiment.model_dump(mode="json"))


def dataset_settings(name: str, overrides: Sequence[str] = ()) -> Choice:
    """The settings of dataset `name` after each `dataset.key=value`. Raises ConfigError as `load` does."""
    values, given = overridden({"dataset": {"name": name}}, overrides)
    for location in given:
        if location[0] != "dataset" or location[1:] in ((), ("name",)):
            raise ConfigError(f"--set {key(location)}: here only the dataset's keys can be set, as dataset.KEY")
    source = Source("prepare", {}, given)
    chosen = chosen_by("dataset", ("dataset",), values["dataset"])
    if isinstance(chosen, Mistake):
        raise refusal([chosen], source)
    model: Any = create_model("Prepared", __base__=Settings, dataset=(chosen, ...))
    settings: Choice = validated(model, values, source).dataset  # type: ignore[attr-defined]
    return settings


def shipped() -> dict[str, Path]:
    """The configs that ship with the package, by name, such as `quickstart` or `omniglot/5way1shot`."""
    package = Path(__file__).parent
    installed, checkout = package / "configs", package.parent / "configs"
    folder = installed if installed.is_dir() else checkout
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in sorted(folder.rglob("*.yaml"))}


def _find(reference: str) -> Path:
    file, configs = Path(reference), shipped()
    if reference in configs:
        return file if file.is_file() else configs[reference]
    with suppress(OSError):  # a name too long or a folder without permission: `read` says which
        if not file.exists():
            hint = did_you_mean(reference.removeprefix("configs/").removesuffix(".yaml"), list(configs))
            known = f"one of the shipped {', '.join(configs)}{hint}"
            raise ConfigError(f"{shown(reference)}: no such file; expected one, or {known}")
    return file


def _experiment(
    values: dict[str, Any],
    overrides: Sequence[str],
    where: str,
    lines: Mapping[Location, int] = MappingProxyType({}),
) -> Experiment:
    values, given = overridden(values, overrides)
    choices = [chosen_by(block, (block,), values.get(block)) for block in ROOMS]
    mistakes = [choice for choice in choices if isinstance(choice, Mistake)]
    model = _model(*(object if isinstance(choice, Mistake) else choice for choice in choices))
    # A block that is missing is a mistake already; as null it is not reported a second time.
    return validated(model, {**dict.fromkeys(ROOMS), **values}, Source(where, lines, given), mistakes)


@functools.cache
def _model(*blocks: type) -> type[Experiment]:
    """The Experiment whose ROOMS have these types; always the same class, without which no two were equal."""
    fields: Any = {name: (block, ...) for name, block in zip(ROOMS, blocks, strict=True)}
    return create_model("Experiment", __base__=Experiment, **fields)
