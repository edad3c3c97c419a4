"""From an experiment and its data to the learner of a run, and how it is trained and measured."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from metalearn_cli.core.gradient import with_keys
from metalearn_cli.core.meta import Learner, classification
from metalearn_cli.core.network import Network
from metalearn_cli.core.running import Seen, with_running_statistics
from metalearn_cli.errors import ConfigError, DeviceError
from metalearn_cli.experiment import Experiment
from metalearn_cli.registry import module_of
from metalearn_cli.runtime.memory import require_memory_for_network
from metalearn_cli.runtime.opening import Interface
from metalearn_cli.runtime.sampling import (
    TaskSpec,
)


def learner_for(experiment: Experiment, interface: Interface, statistics: Seen) -> Learner:
    """The experiment's learner, with initial weights that depend on its seed alone.

    Raises ConfigError if the network does not fit the inputs, or is larger than this machine's memory.
    """
    ways = interface.outputs if interface.objective is classification else None
    backbone, algorithm = module_of(experiment.backbone).build, module_of(experiment.algorithm).build
    shape = (interface.input_shape, interface.outputs)
    with _seeded(experiment.seed):
        require_memory_for_network(experiment.backbone.name, lambda: backbone(experiment.backbone, *shape))
        network = Network(backbone(experiment.backbone, *shape))
        own = "transductive" if statistics == "running" else statistics
        learner: Learner = algorithm(experiment.algorithm, network, interface.objective, own, ways)
    if experiment.task.running_statistics:
        return with_keys(with_running_statistics(learner, network, statistics == "running"))
    if statistics == "running":
        raise ConfigError("eval.statistics: running needs task.running_statistics=true in training")
    return with_keys(learner)


def backbone_for(experiment: Experiment, interface: Interface) -> nn.Module:
    """The experiment's network as its file builds it, with the weights that its seed starts from."""
    with _seeded(experiment.seed):
        network: nn.Module = module_of(experiment.backbone).build(
            experiment.backbone, interface.input_shape, interface.outputs
        )
    return network


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Inside the block torch's own generator starts at a seed; outside it knows nothing of it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def training_spec(experiment: Experiment) -> TaskSpec:
    """The size of a training task."""
    return TaskSpec(experiment.task.ways, experiment.task.shots, experiment.task.queries)


def evaluation_spec(experiment: Experiment) -> TaskSpec:
    """The size of a validation or test task."""
    return TaskSpec(experiment.eval.ways or experiment.task.ways, experiment.task.shots, experiment.eval.queries)


def evaluation_steps(experiment: Experiment, learner: Learner) -> int:
    """How many inner steps validation, test and finetune take.

    Raises ConfigError if the learner cannot take as many.
    """
    steps, most = experiment.eval.inner_steps, learner.most_steps
    if steps is not None and most is not None and steps > most:
        raise ConfigError(
            f"eval.inner_steps: found {steps}, expected at most {most}: {experiment.algorithm.name} learns rates or "
            f"norms for each single step, and it was made for {most} (algorithm.inner_steps)"
        )
    return learner.inner_steps if steps is None else steps


def evaluation_statistics(experiment: Experiment) -> Seen:
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
