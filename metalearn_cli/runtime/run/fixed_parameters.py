"""Refuses networks whose fixed parameters (requires_grad=False) leave an algorithm nothing to learn."""

import torch
from torch import Tensor

from metalearn_cli.core.meta import Learner
from metalearn_cli.core.tasks import with_each
from metalearn_cli.errors import ConfigError
from metalearn_cli.runtime.data.interface import Interface
from metalearn_cli.runtime.data.tiny_tasks import tiny_tasks


def require_movement(learner: Learner, interface: Interface) -> None:
    """Raise ConfigError if fixed parameters leave the inner loop or the outer loop nothing to move."""
    meta, tasks = learner.init(), with_each(tiny_tasks(interface), _as_single)
    try:
        gradient, _ = learner.meta_gradient(meta, tasks)
        states = learner.adapt(meta, tasks.support, min(learner.traits.inner_steps, 1))
    except RuntimeError as error:
        if "does not require grad" not in str(error):
            raise
        moved = False
    else:
        before, after = states[0].params, states[-1].params
        moved = any(bool(value.any()) for part in gradient for value in part.values())
        moved &= not learner.traits.inner_steps or any(not torch.equal(before[name], after[name]) for name in before)
    if not moved:
        raise ConfigError(
            "backbone: what this algorithm would move is fixed (requires_grad=False); nothing would be learned"
        )


def _as_single(values: Tensor) -> Tensor:
    """Inputs in float32; class numbers stay int64."""
    return values.float() if values.is_floating_point() else values
