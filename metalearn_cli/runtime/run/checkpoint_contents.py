"""Checks the tensors of a checkpoint against its header, before it builds anything of their size.

The network of the header's experiment is first built on torch's meta device, which has shapes and dtypes but no memory.
So a small forged file cannot make this process allocate a large network.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from metalearn_cli.core.meta import Learner
from metalearn_cli.core.tasks import Examples
from metalearn_cli.errors import CheckpointError, ConfigError
from metalearn_cli.experiment import Experiment
from metalearn_cli.experiment.yaml_lines import brief
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.machine.memory import WithoutDraws
from metalearn_cli.runtime.run.assembly import backbone_for, learner_for
from metalearn_cli.runtime.run.before_adaptation import TARGETS, BeforeAdaptation, as_trained
from metalearn_cli.runtime.run.checkpoint_headers import (
    AdaptedHeader,
    TrainingHeader,
    adapted_header,
    experiment_in,
    interface_of,
    not_written,
    training_header,
)
from metalearn_cli.runtime.run.outer_step import learned, leaves
from metalearn_cli.storage.runs.checkpoints import Checkpoint

Tensors = Mapping[str, Tensor]

_LARGEST_MAP = 1 << 26
"""The largest allowed output of a layer for one picture, in values: four times that of this package's widest layer at
512 x 512 pixels."""

_FEW = 1 << 21
"""A support set with fewer values (99 pictures of 84 x 84 in colour) takes less time to run than to outline."""
# The names of torch's optimizer state. exp_avg_sq, a mean of squared gradients, may overflow to infinity in float32.
_SLOTS = {"adam": ("step", "exp_avg", "exp_avg_sq"), "adamw": ("step", "exp_avg", "exp_avg_sq")}
_SCALAR, _NOT_NEGATIVE, _MAY_OVERFLOW = "step", ("step", "exp_avg_sq"), ("exp_avg_sq",)


class Trained(NamedTuple):
    """A training checkpoint's header, the experiment it was trained with, and the interface of its network."""

    header: TrainingHeader
    experiment: Experiment
    interface: Interface


class AdaptedTo(NamedTuple):
    """An adapted classifier's header, experiment, network interface, and support inputs [N, ...].

    `targets` [N] are their classes; None if the classifier was saved without what it needs to learn more.
    """

    header: AdaptedHeader
    experiment: Experiment
    interface: Interface
    support: Tensor
    targets: Tensor | None


def trained_in(checkpoint: Checkpoint, path: Path) -> Trained:
    """The header, experiment and interface of a training checkpoint, after a check that they fit together.

    Raises CheckpointError if they do not, or if it names Python code that METALEARN_TRUST does not approve.
    """
    header = training_header(checkpoint, path)
    experiment = experiment_in(checkpoint, path)
    interface = interface_of(header, experiment, path)
    require_meta(checkpoint, path, experiment, interface)
    return Trained(header, experiment, interface)


def require_meta(checkpoint: Checkpoint, path: Path, experiment: Experiment, interface: Interface) -> None:
    """Raise CheckpointError unless its tensors are the experiment's meta-parameters and its optimizer's own."""
    start = _outline(path, experiment, interface).init()
    momentum = ("momentum_buffer",) if experiment.outer.momentum else ()
    slots = {
        f"optimizer.{slot}.{name}": torch.empty((), device="meta") if slot == _SCALAR else value
        for slot in _SLOTS.get(experiment.outer.optimizer, momentum)
        for name, value in learned(start).items()
    }
    begun = any(name.startswith("optimizer.") for name in checkpoint.tensors)  # torch makes its state in the first step
    _require_like(checkpoint.tensors, leaves(start) | (slots if begun else {}), path)
    for name, value in checkpoint.tensors.items():
        slot = name.split(".")[1] if name.startswith("optimizer.") else ""
        if slot in _NOT_NEGATIVE and bool((value < 0).any()):
            raise CheckpointError(f"{path}: {name} holds negative numbers; metalearn did not write it")


def adapted_in(checkpoint: Checkpoint, path: Path) -> AdaptedTo:
    """The contents of an adapted classifier, after a check that they fit together.

    Raises CheckpointError as `trained_in` does.
    """
    header = adapted_header(checkpoint, path)
    experiment = experiment_in(checkpoint, path)
    interface = interface_of(header, experiment, path)
    if interface.preprocessing is None and interface.table is None:
        raise not_written(path, "interface.preprocessing: found none, but a classifier of pictures has one")
    support = checkpoint.tensors.get("support", torch.empty(0))
    least = interface.outputs if interface.table is None else 1
    if support.shape[1:] != interface.input_shape or len(support) < least:
        raise CheckpointError(f"{path}: holds no support set; metalearn did not write it")
    params = _adapted_like(checkpoint.tensors, path, experiment, interface)
    adapted = {f"adapted.{name}": value[0] for name, value in params.items()}
    kept = adapted | {"support": torch.empty(support.shape, device="meta")}
    targets = checkpoint.tensors.get(TARGETS)
    if targets is not None:
        before = _outline(path, experiment, as_trained(interface, experiment))
        own = BeforeAdaptation(before.init(), torch.empty(len(support), dtype=torch.int64))
        kept |= own.tensors()
        if targets.shape != own.targets.shape or not _are_of_classes(targets, interface):
            raise CheckpointError(f"{path}: its support set is of other classes; metalearn did not write it")
    _require_like(checkpoint.tensors, kept, path)
    return AdaptedTo(header, experiment, interface, support, targets)


def _are_of_classes(targets: Tensor, interface: Interface) -> bool:
    """Whether every class has an example; in a table of kind "labelled", a task's rows may lack some classes."""
    found, every = set(targets.tolist()), set(range(interface.outputs))
    return found == every or (interface.table is not None and bool(interface.table.classes) and found <= every)


def _adapted_like(found: Tensors, path: Path, experiment: Experiment, interface: Interface) -> Tensors:
    """The parameters [1, ...] of the learner after adaptation to as many pictures as `found` has."""
    support, learner = found["support"], _outline(path, experiment, interface)
    if getattr(experiment.backbone, "call", None) is None and support.numel() > _FEW:
        with _shapes_alone():
            return _adapted(learner, torch.empty(1, *support.shape), interface)
    # A foreign network may read the numbers of its inputs, and the meta device has none, so it runs for real; so does
    # any with a small support set, as on the meta device torch imports its compiler, which takes longer. Their
    # parameters are counted first, so that the file cannot ask for a much larger network.
    own = {f"adapted.{name}": value for name, value in learner.init().params.items() if not name.startswith("head.")}
    # Not all have the shapes of the file: some algorithms learn a value for each inner step and adapt one of them.
    if _values(own) > 2 * _values(found) + _FEW:
        _require_like({name: value for name, value in found.items() if name in own}, own, path)
    return _adapted(learner_for(experiment, interface, "support"), support.unsqueeze(0), interface)


def _values(tensors: Tensors) -> int:
    return sum(value.numel() for value in tensors.values())


def _adapted(learner: Learner, inputs: Tensor, interface: Interface) -> Tensors:
    with torch.no_grad():
        return learner.adapt(learner.init(), like_a_support_set(inputs, interface), 0)[0].params


def like_a_support_set(inputs: Tensor, interface: Interface) -> Examples:
    """Inputs [1, N, ...] as a support set with arbitrary targets: zeros for a regression, else 0, 1, ... in turn."""
    if not interface.tells_classes_apart:
        return Examples(inputs, inputs.new_zeros(1, inputs.shape[1], interface.outputs))
    ways = interface.outputs
    return Examples(inputs, (torch.arange(inputs.shape[1], device=inputs.device) % ways).unsqueeze(0), ways)


def _outline(path: Path, experiment: Experiment, interface: Interface) -> Learner:
    """The learner with all tensors on the meta device: they have shapes and dtypes, and take no memory."""
    try:
        with _shapes_alone():
            if _may_enlarge(experiment.backbone.name):
                _require_small_maps(path, backbone_for(experiment, interface), interface)
            return learner_for(experiment, interface, "support")
    except ConfigError as error:
        raise not_written(path, error) from None


def _may_enlarge(backbone: str) -> bool:
    """Whether a layer may give far more values than inputs and parameters suggest (`layers`, or a foreign network)."""
    return backbone == "layers" or "." in backbone


def _require_small_maps(path: Path, network: nn.Module, interface: Interface) -> None:
    """Raise CheckpointError if a layer makes a huge output; a layer without parameters, such as upsample, can."""

    def compared(layer: nn.Module, _inputs: object, outputs: Tensor) -> None:
        if (values := outputs[0].numel()) > _LARGEST_MAP:
            found = f"backbone: a {type(layer).__name__} of it gives {values:,} values for a picture"
            raise not_written(path, f"{found}, expected at most {_LARGEST_MAP:,}")

    for layer in network.modules():
        layer.register_forward_hook(compared)
    network(torch.empty(2, *interface.input_shape))


@contextmanager
def _shapes_alone() -> Iterator[None]:
    with torch.device("meta"), WithoutDraws():
        yield


def _require_like(found: Tensors, wanted: Tensors, path: Path) -> None:
    """Raise CheckpointError unless `found` has the names, shapes and dtypes of `wanted`, and only finite numbers."""
    for name in sorted(found.keys() | wanted.keys()):
        there, right = (_described(part.get(name)) for part in (found, wanted))
        if there != right:
            raise CheckpointError(
                f"{path}: does not fit the experiment in its header: {brief(name)} is {there} in the file, {right} in "
                "the learner; metalearn did not write it"
            )
    for name, value in found.items():
        overflows = name.startswith(tuple(f"optimizer.{slot}." for slot in _MAY_OVERFLOW))
        if bool((value.isnan() if overflows else ~value.isfinite()).any()):
            raise CheckpointError(f"{path}: {name} holds NaN or infinity; take a checkpoint from before it diverged")


def _described(value: Tensor | None) -> str:
    kind = "" if value is None or value.dtype is torch.float32 else f" of {str(value.dtype).removeprefix('torch.')}"
    return "absent" if value is None else f"{list(value.shape)}{kind}"
