"""How a fast parameter moves in one inner step: a rule is a value, and rules compose."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from metalearn_cli.core.network import Params


class Rule(NamedTuple):
    """`init(fast)` gives the rule's learned coefficients, `update(coefficients, grads, step)` the change of `fast`."""

    init: Callable[[Params], Params]
    update: Callable[[Params, Params, int], Params]


def fixed_rate(rate: float) -> Rule:
    """The change is -rate * gradient (Finn et al. 2017, equation 1); nothing is learned."""
    return Rule(
        init=lambda _fast: {},
        update=lambda _coefficients, grads, _step: {name: -rate * grad for name, grad in grads.items()},
    )


def learned_rates(rate: float) -> Rule:
    """The change is -rates * gradient with a learned rate for every single parameter (Li et al. 2017, equation 4).

    All rates start at `rate`; they may turn negative.
    """
    return Rule(
        init=lambda fast: {name: torch.full_like(value, rate) for name, value in fast.items()},
        update=lambda rates, grads, _step: {name: -rates[name] * grad for name, grad in grads.items()},
    )


def rates_per_step(rate: float, steps: int) -> Rule:
    """The change is -rates[step] * gradient, with `steps` learned rates for every tensor of parameters.

    All rates start at `rate`; they may turn negative (Antoniou et al. 2019, https://arxiv.org/abs/1810.09502, "LSLR").
    """
    return Rule(
        init=lambda fast: {name: value.new_full((steps,), rate) for name, value in fast.items()},
        update=lambda rates, grads, step: {name: -rates[name][step] * grad for name, grad in grads.items()},
    )


def curvature(rate: float) -> Rule:
    """The change is -rate * gradient x_1 M_o x_2 M_i x_3 M_f with learned matrices for every tensor of parameters.

    One matrix for the outputs, one for the inputs and one for the places of a kernel, as far as the tensor has them;
    all start as identities (Park & Oliva 2019, https://arxiv.org/abs/1902.03356).
    """

    def init(fast: Params) -> Params:
        return {
            f"{name}.{axis}": torch.eye(side, dtype=value.dtype)
            for name, value in fast.items()
            for axis, side in zip(_AXES, (*value.shape[:2], value.shape[2:].numel()), strict=False)
            if axis in _AXES[: value.dim()]
        }

    def update(matrices: Params, grads: Params, _step: int) -> Params:
        return {
            name: -rate * _along_axes(grad, [matrices[key] for axis in _AXES if (key := f"{name}.{axis}") in matrices])
            for name, grad in grads.items()
        }

    return Rule(init, update)


_AXES = ("outputs", "inputs", "places")


def _along_axes(gradient: Tensor, matrices: list[Tensor]) -> Tensor:
    """[T, outputs, inputs, ...] multiplied along each axis after T by its matrix, the last one flattened."""
    values = gradient.flatten(3) if gradient.dim() > 3 else gradient
    for axis, matrix in enumerate(matrices, start=1):
        values = (values.movedim(axis, -1) @ matrix.mT).movedim(-1, axis)
    return values.reshape(gradient.shape)
