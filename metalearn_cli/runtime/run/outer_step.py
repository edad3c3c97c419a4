"""The outer step: changes Meta by the meta-gradient."""

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from metalearn_cli.core.meta import Meta
from metalearn_cli.core.running_statistics import SHARE
from metalearn_cli.experiment.blocks import Outer


def leaves(meta: Meta) -> dict[str, Tensor]:
    """Every tensor of Meta under a stable name, "params.<name>", "coefficients.<name>", ..., sorted by these names.

    They are sorted so that sums over them have the same order, whether Meta is new or comes from a checkpoint.
    """
    named = zip(Meta._fields, meta, strict=True)
    return dict(sorted((f"{part}.{name}", value) for part, values in named for name, value in values.items()))


def learned(meta: Meta) -> dict[str, Tensor]:
    """The tensors of Meta that the outer optimizer moves: all but running statistics."""
    return leaves(meta._replace(statistics={}))


def optimizer_for(settings: Outer, meta: Meta) -> torch.optim.Optimizer:
    """The outer optimizer, which changes the tensors of `meta` in place."""
    tensors = list(learned(meta).values())
    if settings.optimizer == "sgd":
        kind = _without_compiler(torch.optim.SGD)
        return kind(tensors, settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay)
    kind = _without_compiler(torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam)
    return kind(tensors, settings.lr, weight_decay=settings.weight_decay)


@cache
def _without_compiler(kind: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """The same optimizer, but it does not import torch's compiler, which takes a second or more and is not used here.

    torch (2.13) imports it in a wrapper around each of these methods, to keep the compiler away from them.
    """
    methods = ("add_param_group", "load_state_dict", "state_dict", "step", "zero_grad")
    inner = {name: getattr(method := getattr(kind, name), "__wrapped__", method) for name in methods}
    inner["step"] = torch.no_grad()(inner["step"])  # the wrapper of `step` does this, too
    return type(kind.__name__, (kind,), inner)


def rate(settings: Outer, iteration: int) -> float:
    """The outer learning rate of an iteration, 0 to `settings.iterations` - 1. It needs no state, so resume keeps none.

    cosine: min_lr + (lr - min_lr) * (1 + cos(pi * iteration / iterations)) / 2 (Loshchilov & Hutter 2017, eq. 5).
    linear: min_lr + (lr - min_lr) * (1 - iteration / iterations) (Nichol et al. 2018, with min_lr = 0).
    """
    if settings.schedule == "cosine":
        share = (1 + math.cos(math.pi * iteration / settings.iterations)) / 2
        return settings.min_lr + (settings.lr - settings.min_lr) * share
    if settings.schedule == "linear":
        return settings.min_lr + (settings.lr - settings.min_lr) * (1 - iteration / settings.iterations)
    if settings.schedule == "step":
        return settings.lr * settings.step_factor ** (iteration // settings.step_every)
    return settings.lr


def clipped(settings: Outer, gradient: dict[str, Tensor]) -> dict[str, Tensor]:
    """The gradient with each element cut to +-clip_value, and then scaled down so that its norm is at most clip_norm.

    The norm is over all tensors. The MAML paper's code has a clip_value of 10 on miniImageNet.
    """
    if settings.clip_value is not None:
        bound = settings.clip_value
        gradient = {name: value.clamp(-bound, bound) for name, value in gradient.items()}
    if settings.clip_norm is not None:
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(value) for value in gradient.values()]))
        share = (settings.clip_norm / norm).clamp(max=1.0)
        gradient = {name: value * share for name, value in gradient.items()}
    return gradient


def move(settings: Outer, optimizer: torch.optim.Optimizer, meta: Meta, gradient: Meta, iteration: int) -> None:
    """Change `meta` in place by one outer step against the gradient (Finn et al. 2017, algorithm 2, line 10).

    Parameters without an entry in the gradient do not change, not even by weight decay or momentum.
    """
    grads, tensors = clipped(settings, learned(gradient)), learned(meta)
    still = {name: value.clone() for name, value in tensors.items() if name not in grads}
    # Zeros and not None: the optimizer's state must have the same tensors in every checkpoint.
    for name, value in tensors.items():
        value.grad = grads[name] if name in grads else torch.zeros_like(value)
    for group in optimizer.param_groups:
        group["lr"] = rate(settings, iteration)
    optimizer.step()
    for name, value in still.items():
        tensors[name].copy_(value)
    # The "gradient" of a running statistic is its distance to the batch's moment: a moving average, no optimizer.
    for name, away in gradient.statistics.items():
        meta.statistics[name].sub_(SHARE * away)
