"""From an experiment to the two things a run works with: its data and its learner."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from metalearn_cli.core.meta import Learner, Objective, Statistics, classification, regression
from metalearn_cli.core.network import Network
from metalearn_cli.datasets import Dataset, Part, Preprocessing, TaskSource
from metalearn_cli.errors import ConfigError, DeviceError
from metalearn_cli.experiment import Experiment, module_of
from metalearn_cli.runtime.sampling import (
    Sampler,
    TaskSpec,
    check,
    function_sampler,
    picture_sampler,
    pool_of,
)
from metalearn_cli.settings import Choice
from metalearn_cli.storage.preparation import Progress, open_or_explain


class Interface(NamedTuple):
    """What a network sees and gives: input shape (C, H, W) or (F,), number of outputs, and how they are judged.

    `preprocessing` is None where inputs are not pictures.
    """

    input_shape: tuple[int, ...]
    outputs: int
    objective: Objective
    preprocessing: Preprocessing | None


class Data(NamedTuple):
    """An experiment's dataset, ready to draw from: `sampler(part, spec, seed)`; `sha256` names its contents."""

    interface: Interface
    sha256: str
    sampler: Callable[[Part, TaskSpec, int], Sampler]


def dataset_of(settings: Choice) -> Dataset:
    """The description that the dataset's own file gives for its settings."""
    dataset: Dataset = module_of(settings).build(settings)
    return dataset


def open_data(experiment: Experiment, data_dir: Path, progress: Progress) -> Data:
    """The experiment's dataset, opened; a generated one is made on first use.

    Raises DataError with the `metalearn prepare` command to type if it is missing, ConfigError if the experiment
    asks for tasks that it cannot give.
    """
    name = experiment.dataset.name
    dataset = dataset_of(experiment.dataset)
    if isinstance(dataset, TaskSource):
        if experiment.task.ways != 1:
            raise ConfigError(f"task.ways: found {experiment.task.ways}, but {name} has no classes; set it to 1")
        interface = Interface(dataset.input_shape, dataset.outputs, regression, None)
        return Data(interface, name, lambda part, spec, seed: function_sampler(dataset, part, spec, seed))

    if experiment.task.ways < 2:
        raise ConfigError(f"task.ways: found {experiment.task.ways}, expected 2 or more classes to tell apart")
    prepared = open_or_explain(name, dataset, data_dir, progress)

    def sampler(part: Part, spec: TaskSpec, seed: int) -> Sampler:
        pool = pool_of(prepared, dataset.sampling, part)
        check(pool, spec, name)
        return picture_sampler(pool, spec, seed)

    preprocessing = prepared.manifest.preprocessing
    shape = (preprocessing.channels, preprocessing.height, preprocessing.width)
    interface = Interface(shape, experiment.task.ways, classification, preprocessing)
    return Data(interface, prepared.manifest.sha256, sampler)


def learner_for(experiment: Experiment, interface: Interface, statistics: Statistics) -> Learner:
    """The experiment's learner, with initial weights that depend on its seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        build = module_of(experiment.backbone).build
        module = build(experiment.backbone, interface.input_shape, interface.outputs)
    ways = interface.outputs if interface.objective is classification else None
    build = module_of(experiment.algorithm).build
    learner: Learner = build(experiment.algorithm, Network(module), interface.objective, statistics, ways)
    return learner


def training_spec(experiment: Experiment) -> TaskSpec:
    """The size of a training task."""
    return TaskSpec(experiment.task.ways, experiment.task.shots, experiment.task.queries)


def evaluation_spec(experiment: Experiment) -> TaskSpec:
    """The size of a validation or test task."""
    return TaskSpec(experiment.task.ways, experiment.task.shots, experiment.eval.queries)


def evaluation_steps(experiment: Experiment, learner: Learner) -> int:
    """How many inner steps validation, test and finetune take."""
    steps = experiment.eval.inner_steps
    return learner.inner_steps if steps is None else steps


def evaluation_statistics(experiment: Experiment) -> Statistics:
    """What the norms see in validation and test."""
    return experiment.eval.statistics or experiment.task.statistics


def device_named(name: str) -> torch.device:
    """The device: `auto` is CUDA where there is one.

    Raises DeviceError if there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).add(1).item()
    except (RuntimeError, AssertionError, NotImplementedError):
        raise DeviceError(f"--device {name}: no such device here; use --device cpu or --device auto") from None
    return device
