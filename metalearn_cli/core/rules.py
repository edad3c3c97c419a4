"""How fast parameters move in one inner step: a rule is a value, and rules compose.

As in optax, a rule turns a gradient into a change, and `chain` hands what one rule made of it to the next.

Legend: T tasks, K inner steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from metalearn_cli.layers.passing import Params

Memory = dict[str, Params]
"""What a rule remembers of a task from step to step, by a name of its own."""


def _none(_fast: Params) -> Params:
    return {}


def _nothing(_fast: Params) -> Memory:
    return {}


class Rule(NamedTuple):
    """One link of an inner step.

    `init(fast)`: the learned coefficients at the start, for parameters without T; they become those of Meta.
    `begin(fast)`: what is remembered of T tasks before their first step.
    `update(coefficients, fast, grads, memory, step)`: the change of the fast parameters [T, ...] in inner step number
        `step`, and what is remembered from then on. `grads` is the gradient, or what the link before made of it.
    """

    update: Callable[[Params, Params, Params, Memory, int], tuple[Params, Memory]]
    init: Callable[[Params], Params] = _none
    begin: Callable[[Params], Memory] = _nothing


def chain(*rules: Rule) -> Rule:
    """The rules one after the other: each reads what the one before it made of the gradient.

    Learned coefficients and memories of different links must have different names, else ValueError.
    """

    def together(parts: list[dict[str, object]]) -> dict[str, object]:
        names = [name for part in parts for name in part]
        if len(names) > len({*names}):
            raise ValueError(f"two rules of a chain have a name in common: {', '.join(sorted(names))}")
        return {name: value for part in parts for name, value in part.items()}

    def update(coefficients: Params, fast: Params, grads: Params, memory: Memory, step: int) -> tuple[Params, Memory]:
        for rule in rules:
            grads, memory = rule.update(coefficients, fast, grads, memory, step)
        return grads, memory

    return Rule(
        update,
        init=lambda fast: together([rule.init(fast) for rule in rules]),  # type: ignore[arg-type, return-value, misc]
        begin=lambda fast: together([rule.begin(fast) for rule in rules]),  # type: ignore[arg-type, return-value, misc]
    )


unmoved = Rule(lambda _coefficients, _fast, grads, memory, _step: (grads, memory))
"""The gradient as it is: a chain of no links, for learners without inner steps."""


def of_gradient(change: Callable[[Params, str, Tensor, int], Tensor], init: Callable[[Params], Params] = _none) -> Rule:
    """The rule that changes each parameter by `change(coefficients, name, gradient, step)`, and remembers nothing.

    Example:
        >>> import torch
        >>> halved = of_gradient(lambda _coefficients, _name, gradient, _step: 0.5 * gradient)
        >>> change, _ = chain(halved, fixed_rate(0.1)).update({}, {}, {"w": torch.tensor([2.0])}, {}, 0)
        >>> change["w"]
        tensor([-0.1000])
    """

    def update(coefficients: Params, _fast: Params, grads: Params, memory: Memory, step: int) -> tuple[Params, Memory]:
        return {name: change(coefficients, name, grad, step) for name, grad in grads.items()}, memory

    return Rule(update, init)


def fixed_rate(rate: float) -> Rule:
    """The change is -rate * gradient (Finn et al. 2017, equation 1); nothing is learned."""
    return of_gradient(lambda _coefficients, _name, grad, _step: -rate * grad)


def learned_rates(rate: float) -> Rule:
    """The change is -rates * gradient with a learned rate for every single parameter (Li et al. 2017, equation 4).

    All rates start at `rate`; they may turn negative.
    """
    return of_gradient(
        lambda rates, name, grad, _step: -rates[name] * grad,
        lambda fast: {name: torch.full_like(value, rate) for name, value in fast.items()},
    )


def rates_per_step(rate: float, steps: int) -> Rule:
    """The change is -rates[step] * gradient, with `steps` learned rates for every tensor of parameters.

    All rates start at `rate`; they may turn negative (Antoniou et al. 2019, https://arxiv.org/abs/1810.09502, "LSLR").
    """
    return of_gradient(
        lambda rates, name, grad, step: -rates[name][step] * grad,
        lambda fast: {name: value.new_full((steps,), rate) for name, value in fast.items()},
    )


def curvature() -> Rule:
    """The gradient becomes gradient x_1 M_o x_2 M_i x_3 M_f, with learned matrices for every tensor of parameters.

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

    def bent(matrices: Params, name: str, grad: Tensor, _step: int) -> Tensor:
        return _along_axes(grad, [matrices[key] for axis in _AXES if (key := f"{name}.{axis}") in matrices])

    return of_gradient(bent, init)


def pulled_to_start(strength: float) -> Rule:
    """Adds strength * (parameters - where the task began) to the gradient: that of a proximal term (only iMAML)."""

    def update(_coefficients: Params, fast: Params, grads: Params, memory: Memory, _step: int) -> tuple[Params, Memory]:
        start = memory["start"]
        return {name: grad + strength * (fast[name] - start[name]) for name, grad in grads.items()}, memory

    return Rule(update, begin=lambda fast: {"start": {name: value.detach() for name, value in fast.items()}})


def decayed(decay: float) -> Rule:
    """Adds decay * parameters to the gradient: that of half their squared length (only the baselines)."""

    def update(_coefficients: Params, fast: Params, grads: Params, memory: Memory, _step: int) -> tuple[Params, Memory]:
        return {name: grad + decay * fast[name] for name, grad in grads.items()}, memory

    return Rule(update)


def averaged(momentum: float) -> Rule:
    """The gradient becomes momentum * what it became last time + (1 - momentum) * gradient (only the baselines).

    It is torch's SGD with a dampening that equals its momentum; the first step takes the gradient as it is.
    """

    def update(
        _coefficients: Params, _fast: Params, grads: Params, memory: Memory, _step: int
    ) -> tuple[Params, Memory]:
        before = memory.get("mean")
        if before is not None:
            grads = {name: momentum * before[name] + (1 - momentum) * grad for name, grad in grads.items()}
        return grads, memory | {"mean": grads}

    return Rule(update)


def adam(rate: float, decay: float = 0.999, epsilon: float = 1e-8) -> Rule:
    """The change is -rate * gradient / root of the mean of its squares: Adam with beta1 = 0 (only Reptile).

    Kingma & Ba 2015 (https://arxiv.org/abs/1412.6980), algorithm 1. Every task starts with empty second moments.
    """

    def update(_coefficients: Params, _fast: Params, grads: Params, memory: Memory, step: int) -> tuple[Params, Memory]:
        before = memory["squares"]
        squares = {name: decay * before[name] + (1 - decay) * grad.square() for name, grad in grads.items()}
        correction = 1 - decay ** (step + 1)  # for the zeros that the mean began with
        change = {name: -rate * grad / ((squares[name] / correction).sqrt() + epsilon) for name, grad in grads.items()}
        return change, memory | {"squares": squares}

    return Rule(update, begin=lambda fast: {"squares": {name: torch.zeros_like(value) for name, value in fast.items()}})


_AXES = ("outputs", "inputs", "places")


def _along_axes(gradient: Tensor, matrices: list[Tensor]) -> Tensor:
    """[T, outputs, inputs, ...] multiplied along each axis after T by its matrix, the last one flattened."""
    values = gradient.flatten(3) if gradient.dim() > 3 else gradient
    for axis, matrix in enumerate(matrices, start=1):
        values = (values.movedim(axis, -1) @ matrix.mT).movedim(-1, axis)
    return values.reshape(gradient.shape)
