"""Finds settings that have no effect in an experiment; `train` prints a line for each.

Settings that contradict each other are errors, and are refused elsewhere. A setting without effect may be intended, for
example if the experiment is about to get another algorithm, so it is only mentioned.
"""

from collections.abc import Callable, Iterator

import torch
from torch import nn

from metalearn_cli.core.meta import Learner
from metalearn_cli.datasets import Mixture
from metalearn_cli.experiment import Experiment
from metalearn_cli.layers.norm import NORMS, TaskNorm
from metalearn_cli.runtime.data.opening import dataset_of
from metalearn_cli.runtime.machine.compiled import kernels_help
from metalearn_cli.runtime.machine.execution import Plan
from metalearn_cli.runtime.machine.matrix_products import rounds
from metalearn_cli.runtime.run.assembly import backbone_for, evaluation_steps
from metalearn_cli.runtime.run.session import Session

_INNER = {"inner_lr", "inner_optimizer", "weight_decay", "batch_size"}
_IN_TRAINING = {"second_order", "gradient"}


def idle_settings(session: Session) -> list[str]:
    """A line for each setting of a run, "block.key: has no effect, why"."""
    experiment, learner, plan, device = session.experiment, session.learner, session.plan, session.device
    network = backbone_for(experiment, session.data.interface)
    return [
        *_of_dataset(experiment),
        *_of_tasks(experiment, learner, network),
        *_of_network(experiment, learner),
        *_of_inner_steps(experiment, learner),
        *_of_algorithm(experiment, learner, network),
        *_of_outer(experiment, learner),
        *_of_execution(experiment, plan, device),
        *_of_kernels(experiment, learner, network, device),
    ]


def tell(session: Session, say: Callable[[str], None]) -> None:
    """Give every line of `idle_settings` to `say`."""
    for line in idle_settings(session):
        say(line)


def _uses_network(learner: Learner) -> bool:
    return learner.traits.reads != "pixels"


def _said(key: str, because: str) -> str:
    return f"{key}: has no effect, {because}"


def _of_dataset(experiment: Experiment) -> Iterator[str]:
    dataset = experiment.dataset
    if getattr(dataset, "rotate_eval", False) and getattr(dataset, "rotations", "none") == "none":
        yield _said("dataset.rotate_eval", "dataset.rotations is none")
    if isinstance(mixture := dataset_of(dataset), Mixture):
        for place, member in enumerate(mixture.of):
            if getattr(member, "normalisation", "dataset") != "dataset":
                yield _said(f"dataset.of.{place}.normalisation", "the mixture's own dataset.normalisation is taken")
        if len(mixture.of) == 1 and getattr(dataset, "weights", []):
            yield _said("dataset.weights", "the mixture is of one dataset")


def _of_tasks(experiment: Experiment, learner: Learner, network: nn.Module) -> Iterator[str]:
    task, asked = experiment.task, experiment.eval.statistics
    if experiment.eval.ways is not None and learner.objective.name == "mse":
        yield _said("eval.ways", f"{experiment.dataset.name} has no classes")
    if _uses_network(learner) and any(isinstance(module, TaskNorm) for module in network.modules()):
        return
    name = experiment.backbone.name if _uses_network(learner) else experiment.algorithm.name
    because = f"{name} has no batch norms" if _uses_network(learner) else f"{name} does not use the network"
    if task.statistics != "transductive":
        yield _said("task.statistics", because)
    if task.running_statistics:
        yield _said("task.running_statistics", because)
    if asked is not None:
        yield _said("eval.statistics", because)


def _of_network(experiment: Experiment, learner: Learner) -> Iterator[str]:
    backbone = experiment.backbone
    if not _uses_network(learner):
        name = experiment.algorithm.name
        yield _said("backbone", f"{name} reads the pixels themselves")
    elif getattr(backbone, "drop_rate", None) == 0 and _is_set(experiment, "backbone", "block_size"):
        yield _said("backbone.block_size", "backbone.drop_rate is 0")


def _of_inner_steps(experiment: Experiment, learner: Learner) -> Iterator[str]:
    algorithm, measured = experiment.algorithm, evaluation_steps(experiment, learner)
    fields, asked = type(algorithm).model_fields, experiment.eval.inner_steps
    if "inner_steps" not in fields:
        if asked is not None:
            yield _said("eval.inner_steps", f"{algorithm.name} takes no inner steps")
        return
    in_training = 0 if learner.traits.classes is not None else learner.traits.inner_steps
    if learner.traits.classes is not None and asked is not None and _is_set(experiment, "algorithm", "inner_steps"):
        yield _said("algorithm.inner_steps", f"training takes none, and eval.inner_steps is {asked}")
    if not in_training and learner.traits.classes is None:
        for key in sorted(_IN_TRAINING & fields.keys()):
            yield _said(f"algorithm.{key}", "algorithm.inner_steps is 0")
    if not in_training and not measured:
        for key in sorted(_INNER & fields.keys()):
            yield _said(f"algorithm.{key}", "there are no inner steps in training or evaluation")


def _of_algorithm(experiment: Experiment, learner: Learner, network: nn.Module) -> Iterator[str]:
    algorithm, iterations = experiment.algorithm, experiment.outer.iterations
    values = algorithm.model_dump()
    if values.get("per_step_norm") and not any(isinstance(module, NORMS) for module in network.modules()):
        yield _said("algorithm.per_step_norm", f"{experiment.backbone.name} has no norms")
    if values.get("multi_step_iterations") and learner.traits.inner_steps == 1:
        yield _said("algorithm.multi_step_iterations", "with one inner step only one loss exists")
    if (first := values.get("first_order_iterations")) and not values["second_order"]:
        yield _said("algorithm.first_order_iterations", "algorithm.second_order is false")
    elif first and first >= iterations:
        yield _said("algorithm.second_order", f"all {iterations:,} iterations are first-order (first_order_iterations)")
    if learner.fit is not None and "scale" in values and _is_set(experiment, "algorithm", "scale"):
        yield _said("algorithm.scale", "validation tasks choose it before the first iteration")
    if values.get("cg_steps") == 0:
        for key in ("cg_damping", "strength_damping"):
            yield _said(f"algorithm.{key}", "algorithm.cg_steps is 0")


def _of_outer(experiment: Experiment, learner: Learner) -> Iterator[str]:
    outer = experiment.outer
    if not _uses_network(learner):
        yield _said("outer", f"{experiment.algorithm.name} learns nothing; outer.iterations=1 is enough")
        return
    if outer.optimizer == "adamw" and not outer.weight_decay:
        yield "outer.optimizer: adamw is adam, outer.weight_decay is 0"
    if outer.schedule == "step" and outer.step_every >= outer.iterations:
        yield _said("outer.schedule", f"its first step would be after outer.iterations={outer.iterations:,}")
    elif outer.schedule == "step" and outer.step_factor == 1:
        yield _said("outer.schedule", "outer.step_factor is 1")
    if outer.schedule in ("cosine", "linear") and outer.min_lr == outer.lr:
        yield _said("outer.schedule", "outer.min_lr is outer.lr")


def _of_execution(experiment: Experiment, plan: Plan, device: torch.device) -> Iterator[str]:
    execution, on_cpu = experiment.execution, device.type == "cpu"
    if execution.mode == "threads" and plan.mode != "threads":
        yield "execution.mode: threads are for CPUs; on a GPU it is vmap"
    if execution.chunk is not None and plan.mode == "loop":
        yield _said("execution.chunk", "execution.mode=loop runs one task at a time")
    if execution.threads is not None and plan.mode != "threads":
        yield _said("execution.threads", f"tasks run in mode {plan.mode} here")
    if on_cpu and not execution.cuda_graph:
        yield _said("execution.cuda_graph", "there is no GPU in use")
    if execution.precision != "float32" and not rounds(execution.precision, device):
        yield _said(
            "execution.precision", f"this {device.type.upper()} does not round products to {execution.precision}"
        )


def _of_kernels(
    experiment: Experiment, learner: Learner, network: nn.Module, device: torch.device
) -> Iterator[str]:  # fmt: skip
    if experiment.execution.kernels == "auto":
        return
    if device.type != "cpu":
        yield _said("execution.kernels", "they are for CPUs")
    elif experiment.execution.mode == "loop":
        yield _said("execution.kernels", "execution.mode=loop runs torch's own modules")
    elif not _uses_network(learner):
        yield _said("execution.kernels", f"{experiment.algorithm.name} uses no network")
    elif not kernels_help(network):
        yield _said("execution.kernels", f"{experiment.backbone.name} has no batch norm after a convolution")


def _is_set(experiment: Experiment, block: str, key: str) -> bool:
    """Whether a key differs from its default."""
    settings = getattr(experiment, block)
    return bool(getattr(settings, key) != type(settings).model_fields[key].default)
