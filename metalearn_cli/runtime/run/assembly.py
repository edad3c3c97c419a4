"""Builds the learner of a run from its experiment and data, and reads the sizes by which it is trained and measured."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from metalearn_cli.core.gradient import with_fixed
from metalearn_cli.core.meta import Learner, Problem, Statistics
from metalearn_cli.core.objectives import classification
from metalearn_cli.core.running_statistics import with_running_statistics
from metalearn_cli.errors import ConfigError, DeviceError
from metalearn_cli.experiment import Experiment
from metalearn_cli.experiment.registry import module_of
from metalearn_cli.layers.network import Network
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.data.sampling import TaskSpec
from metalearn_cli.runtime.machine.compiled import Compiling, kernels_for
from metalearn_cli.runtime.machine.execution import Plan, plan_for
from metalearn_cli.runtime.machine.memory import require_memory_for_network
from metalearn_cli.runtime.run.fixed_parameters import require_movement
from metalearn_cli.runtime.run.network_trial import Requirements, tried_network


def learner_for(
    experiment: Experiment, interface: Interface, statistics: Statistics, compiling: Compiling | None = None
) -> Learner:
    """The experiment's learner, with initial weights that depend on its seed alone.

    With `execution.mode` "loop" its network runs every task alone. A foreign network (only `custom`, or a backbone file
    of your own) is first tried on two tasks (runtime/run/network_trial.py). `compiling` is given where kernels may
    now be compiled if there are none (runtime/machine/compiled.py).

    Raises ConfigError if the network does not fit the inputs, is larger than this machine's memory, or cannot be
    trained as the experiment asks.
    """
    ways = interface.outputs if interface.objective is classification else None
    backbone, algorithm = module_of(experiment.backbone).build, module_of(experiment.algorithm).build
    shape = (interface.input_shape, interface.outputs)
    with _seeded(experiment.seed):
        require_memory_for_network(experiment.backbone.name, lambda: backbone(experiment.backbone, *shape))
        module: nn.Module = backbone(experiment.backbone, *shape)
        by_itself = experiment.execution.mode == "loop"
        kernels = None if by_itself else kernels_for(module, experiment.execution.kernels, compiling)
        network = Network(module, one_by_one=by_itself, kernels=kernels)
        drawn = torch.get_rng_state()  # the algorithm may draw numbers too, such as those of a head
        problem = Problem(network, interface.objective, statistics, ways)
        learner: Learner = algorithm(experiment.algorithm, problem)
        way, remarks = _tried(experiment, network, learner, interface)
        if way is not network:
            torch.set_rng_state(drawn)  # build() runs a second time here and must draw the same weights again
            network, learner = way, algorithm(experiment.algorithm, problem._replace(network=way))
    if experiment.task.running_statistics:
        learner = with_running_statistics(learner, network)
    elif statistics == "running":
        raise ConfigError("eval.statistics: running needs task.running_statistics=true in training")
    if network.fixed and learner.traits.reads != "pixels":
        learner = with_fixed(learner, network.fixed)
        if not _is_outline(network):
            require_movement(learner, interface)
    compiled = network.kernels is not None
    return learner._replace(traits=learner.traits._replace(compiled=compiled, remarks=tuple(remarks)))


def _tried(
    experiment: Experiment, network: Network, learner: Learner, interface: Interface
) -> tuple[Network, list[str]]:
    """The network in the form in which it will run, and remarks on this form for the user."""
    # A custom network may contain any Python, so it is tried even if all its layers are known.
    own = experiment.backbone.name != "custom" and not network.foreign_layers()
    if own or learner.traits.reads == "pixels" or _is_outline(network):
        return network, []
    chosen, order = experiment.algorithm.name, 2 if learner.traits.second_order else 1
    by_choice = "second_order" in type(experiment.algorithm).model_fields
    cure = "algorithm.second_order=false" if by_choice else f"another algorithm than {chosen}, such as reptile"
    call = getattr(experiment.backbone, "call", None)
    key = f"backbone.call: {call}" if call else f"backbone.name: {experiment.backbone.name}"
    return tried_network(
        network, Requirements(interface.input_shape, order, key, cure, experiment.task.running_statistics)
    )


def backbone_for(experiment: Experiment, interface: Interface) -> nn.Module:
    """The experiment's network as its file builds it, with the initial weights of the experiment's seed."""
    with _seeded(experiment.seed):
        network: nn.Module = module_of(experiment.backbone).build(
            experiment.backbone, interface.input_shape, interface.outputs
        )
    return network


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Inside the block, torch's default generator starts at `seed`; afterwards it has its old state again."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def training_spec(experiment: Experiment) -> TaskSpec:
    """The size of a training task."""
    return TaskSpec(experiment.task.ways, experiment.task.shots, experiment.task.queries)


def _is_outline(network: Network) -> bool:
    """Whether the parameters are on the meta device: they have shapes and no numbers."""
    return any(value.is_meta for value in network.initial().values())


def plan_of(
    experiment: Experiment, interface: Interface, device: torch.device, processes: int = 1, compiled: bool = False
) -> Plan:
    """The plan by which one of `processes` processes runs its training tasks, perhaps with `compiled` kernels."""
    values, tasks = training_spec(experiment).values(interface.input_shape), experiment.outer.meta_batch_size
    return plan_for(device, experiment.execution, values, tasks // processes, compiled)


def evaluation_spec(experiment: Experiment) -> TaskSpec:
    """The size of a validation or test task."""
    return TaskSpec(experiment.eval.ways or experiment.task.ways, experiment.task.shots, experiment.eval.queries)


def evaluation_steps(experiment: Experiment, learner: Learner) -> int:
    """The number of inner steps in validation, test and finetune.

    Raises ConfigError if the learner cannot take that many (only MAML++ has a limit).
    """
    steps, most = experiment.eval.inner_steps, learner.traits.most_steps
    if steps is not None and most is not None and steps > most:
        raise ConfigError(
            f"eval.inner_steps: found {steps}, expected at most {most}: {experiment.algorithm.name} learns rates or "
            f"norms for each single step, and it was made for {most} (algorithm.inner_steps)"
        )
    return learner.traits.inner_steps if steps is None else steps


def evaluation_statistics(experiment: Experiment) -> Statistics:
    """The statistics that norms use in validation and test: `eval.statistics`, or else `task.statistics`."""
    return experiment.eval.statistics or experiment.task.statistics


def device_named(name: str) -> torch.device:
    """The device called `name`; `auto` is CUDA if this machine has a GPU, else the CPU.

    Raises DeviceError if there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).add(1).item()  # a GPU that torch's build does not support fails only in a kernel
    except (RuntimeError, AssertionError, NotImplementedError):
        raise DeviceError(f"--device {name}: no such device here; use --device cpu or --device auto") from None
    return device
