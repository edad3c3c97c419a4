"""The whole experiment, typed and frozen: YAML and `--set` in, `Experiment` out.

`name` in the blocks dataset, backbone and algorithm picks a file of the folder of that name, or a module outside of
this package (registry.py), and the block's other keys are that file's `Config`. Importing this module imports no torch;
`load` does, through the files it picks.
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
from metalearn_cli.experiment.mistakes import Mistake, Source, did_you_mean, found, key, refusal, validated
from metalearn_cli.experiment.overrides import overridden
from metalearn_cli.experiment.registry import ROOMS, chosen_by, outside_modules
from metalearn_cli.experiment.yaml_lines import Location, shown
from metalearn_cli.references import require_trusted_modules
from metalearn_cli.settings import Choice, Settings


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


def load_experiment(reference: str | Path, *overrides: str) -> Experiment:
    """The experiment in a YAML file, or in the shipped config of that name, after each `key.path=value`.

    >>> experiment = load_experiment("quickstart", "outer.iterations=50", "algorithm.inner_steps=2")
    >>> experiment.algorithm.name, experiment.algorithm.inner_steps, experiment.outer.iterations
    ('maml', 2, 50)

    Raises ConfigError with one line for each mistake.
    """
    return load(str(reference), overrides)


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


def from_mapping(values: object, where: str, approved: Sequence[str] = ()) -> Experiment:
    """The experiment that `model_dump(mode="json")` gave; `where` is what errors call its source, which is a file.

    Raises CheckpointError if it names modules with a dot that neither are `approved`, because the person at this
    machine has named them already, nor in METALEARN_TRUST: no file may choose what is imported.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: found {found(values)}, expected an experiment")
    require_trusted_modules([name for name in outside_modules(values) if name not in approved], where)
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
