"""Reads an experiment: turns YAML and `--set` into an `Experiment`, a typed and frozen value.

In the blocks dataset, backbone and algorithm, `name` chooses a file in the folder of that name, or a module outside of
this package (registry.py); the block's other keys are the fields of that file's `Config`. Importing this module does
not import torch; `read_experiment` does, through the files that it imports.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, Field, create_model, field_validator

from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import yaml_lines
from metalearn_cli.experiment.blocks import LARGEST_SEED, Eval, Execution, Keeping, Outer, Task
from metalearn_cli.experiment.early import refuse_early
from metalearn_cli.experiment.mistakes import Mistake, ValueSource, did_you_mean, key, refusal, shown_value, validated
from metalearn_cli.experiment.overrides import overridden
from metalearn_cli.experiment.registry import ROOMS, chosen_by, outside_modules
from metalearn_cli.experiment.yaml_lines import Location, escaped
from metalearn_cli.references import require_trusted_modules
from metalearn_cli.settings import Choice, Settings


def _sink(reference: str) -> str:
    if not re.fullmatch(r"tensorboard|[A-Za-z_][\w.]*:[A-Za-z_]\w*", reference):
        raise ValueError(
            f"found {shown_value(reference)}, expected tensorboard or package.module:Name, a sink of your own"
        )
    return reference


class Experiment(Settings):
    """All settings of a run.

    `name`: the name of the run's folder, `runs/NAME`.
    `seed`: the seed of the initial weights and of the tasks.
    `dataset`: the pictures or functions that tasks are drawn from.
    `task`: the size of a training task.
    `backbone`: the network.
    `algorithm`: the method by which a task is learned, and the parameters that training learns for all tasks.
    `outer`: the update of these parameters.
    `eval`: the measurement of accuracy.
    `checkpoint`: the times at which checkpoints are written between reports.
    `execution`: the way in which the tasks of a meta-batch run at once.
    `sinks`: receivers of the run's numbers besides metrics.jsonl, each "tensorboard" or "package.module:Name"
        (docs/sinks.md). Null means TensorBoard, if its library is installed. The learned weights do not depend on
        sinks.

    >>> experiment = load_experiment("quickstart")
    >>> experiment.task.ways, experiment.task.shots, experiment.backbone.name
    (5, 1, 'conv4')
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
            raise ValueError(f"found {shown_value(name)}, expected a folder's name: letters, digits, '.', '_' and '-'")
        return name


def read_experiment(reference: str, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment in the file `reference`, or in the shipped config of that name, changed by the `overrides`.

    Each override is `key.path=value`. Raises ConfigError with one line for each mistake.
    """
    file = _find(reference)
    document = yaml_lines.read(file)
    if overrides and file == shipped().get(reference):
        values, given = overridden(document.values, overrides)
        refuse_early(Experiment, values, ValueSource(escaped(str(file)), document.lines, given))
    return _experiment(document.values, overrides, escaped(str(file)), document.lines)


def load_experiment(reference: str | Path, *overrides: str) -> Experiment:
    """The experiment in a YAML file, or in the shipped config of that name, after each `key.path=value`.

    >>> experiment = load_experiment("quickstart", "outer.iterations=50", "algorithm.inner_steps=2")
    >>> experiment.algorithm.name, experiment.algorithm.inner_steps, experiment.outer.iterations
    ('maml', 2, 50)

    Raises ConfigError with one line for each mistake.
    """
    return read_experiment(str(reference), overrides)


def with_overrides(experiment: Experiment, overrides: Sequence[str]) -> Experiment:
    """The experiment changed by the `overrides`, each `key.path=value`.

    If an override changes the `name` of a block, the block's other keys go back to their defaults. Raises ConfigError
    with one line for each mistake.
    """
    values = experiment.model_dump(mode="json")
    asked, given = overridden(values, overrides)
    for block in ROOMS:
        if (block, "name") in given and asked[block]["name"] != values[block]["name"]:
            values[block] = {}
    return _experiment(values, overrides, "experiment")


def from_mapping(values: object, where: str, approved: Sequence[str] = ()) -> Experiment:
    """The experiment in `values`, the output of `model_dump(mode="json")` that a file holds; errors call it `where`.

    Raises CheckpointError if it names a module with a dot that is neither in `approved` (the person at this machine has
    named it already) nor in METALEARN_TRUST, because a file must not choose which code is imported.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: found {shown_value(values)}, expected an experiment")
    require_trusted_modules([name for name in outside_modules(values) if name not in approved], where)
    return _experiment(values, (), where)


def to_yaml(experiment: Experiment) -> str:
    """The experiment as YAML with every key; `read_experiment` turns it back into an equal experiment."""
    return yaml_lines.as_yaml(experiment.model_dump(mode="json"))


def dataset_settings(name: str, overrides: Sequence[str] = ()) -> Choice:
    """The settings of dataset `name`, changed by the `overrides`, each `dataset.key=value`.

    Raises ConfigError as `read_experiment` does.
    """
    values, given = overridden({"dataset": {"name": name}}, overrides)
    for location in given:
        if location[0] != "dataset" or location[1:] in ((), ("name",)):
            raise ConfigError(f"--set {key(location)}: here only the dataset's keys can be set, as dataset.KEY")
    source = ValueSource("prepare", {}, given)
    chosen = chosen_by("dataset", ("dataset",), values["dataset"])
    if isinstance(chosen, Mistake):
        raise refusal([chosen], source)
    model: Any = create_model("Prepared", __base__=Settings, dataset=(chosen, ...))
    settings: Choice = validated(model, values, source).dataset  # type: ignore[attr-defined]
    return settings


def shipped() -> dict[str, Path]:
    """The configs that ship with the package, by name, such as `quickstart` or `omniglot/5way1shot`."""
    package = Path(__file__).parents[1]
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
            raise ConfigError(f"{escaped(reference)}: no such file; expected one, or {known}")
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
    # A missing block was already reported; null in its place keeps the validation from reporting it again.
    return validated(model, {**dict.fromkeys(ROOMS), **values}, ValueSource(where, lines, given), mistakes)


@functools.cache  # two experiments are equal only if their class is the same
def _model(*blocks: type) -> type[Experiment]:
    """The Experiment class whose dataset, backbone and algorithm have these types."""
    fields: Any = {name: (block, ...) for name, block in zip(ROOMS, blocks, strict=True)}
    return create_model("Experiment", __base__=Experiment, **fields)
