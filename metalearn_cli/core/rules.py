"""Rules: they turn the inner gradient into the change of the parameters in one inner step.

As in optax, a rule is a value, and `chain` puts rules one after the other: each reads the output of the one before.

Legend: T tasks, K inner steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from metalearn_cli.layers.passing import Params

Memory = dict[str, Params]
"""The state that a rule keeps between the inner steps of a task, such as momentum. Each rule has a key of its own."""


def _none(_fast: Params) -> Params:
    """An `init` for a rule that learns no coefficients."""
    return {}


def _nothing(_fast: Params) -> Memory:
    """A `begin` for a rule without memory."""
    return {}


class Rule(NamedTuple):
    """One link of an inner step: three functions.

    `init(fast)`: the initial values of the rule's learned coefficients, for fast parameters without T. They become
        coefficients of Meta.
    `begin(fast)`: the memory of T tasks before their first step.
    `update(coefficients, fast, grads, memory, step)`: returns (change, memory after the step). `fast` are the fast
        parameters [T, ...], `grads` the gradient [T, ...] or the output of the link before, `step` counts from 0. The
        output of the last link is added to the fast parameters, so its sign must be that of descent.

    >>> def update(_coefficients, _fast, grads, memory, _step):
    ...     return {name: -0.1 * grad.sign() for name, grad in grads.items()}, memory
    >>> Rule(update).update({}, {}, {"w": torch.tensor([3.0, -2.0])}, {}, 0)[0]["w"]
    tensor([-0.1000,  0.1000])
    """

    update: Callable[[Params, Params, Params, Memory, int], tuple[Params, Memory]]
    init: Callable[[Params], Params] = _none
    begin: Callable[[Params], Memory] = _nothing


def chain(*rules: Rule) -> Rule:
    """The rule that applies `rules` one after the other: each gets the output of the one before in place of a gradient.

    Raises ValueError, when the coefficients or the memory are made, if two rules use the same name in one of them.
    """

    def together(parts: list[dict[str, object]]) -> dict[str, object]:
        # A name that two rules share would silently overwrite the coefficients or the memory of one of them.
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
"""The rule that returns the gradient unchanged: a chain of no links, for learners without inner steps."""


def of_gradient(change: Callable[[Params, str, Tensor, int], Tensor], init: Callable[[Params], Params] = _none) -> Rule:
    """The rule whose output for each parameter is `change(coefficients, name, gradient, step)`; it has no memory.

    >>> halved = of_gradient(lambda _coefficients, _name, gradient, _step: 0.5 * gradient)
    >>> change, _ = chain(halved, fixed_rate(0.1)).update({}, {}, {"w": torch.tensor([2.0])}, {}, 0)
    >>> change["w"]
    tensor([-0.1000])
    """

    def update(coefficients: Params, _fast: Params, grads: Params, memory: Memory, step: int) -> tuple[Params, Memory]:
        return {name: change(coefficients, name, grad, step) for name, grad in grads.items()}, memory

    return Rule(update, init)


def fixed_rate(rate: float) -> Rule:
    """Gradient descent: change = -rate * gradient (Finn et al. 2017, equation 1). Nothing is learned."""
    return of_gradient(lambda _coefficients, _name, grad, _step: -rate * grad)


def learned_rates(rate: float) -> Rule:
    """Gradient descent with a learned rate for every scalar parameter (only Meta-SGD): change = -rates * gradient.

    All rates start at `rate` and may become negative (Li et al. 2017, https://arxiv.org/abs/1707.09835, equation 4).
    """
    return of_gradient(
        lambda rates, name, grad, _step: -rates[name] * grad,
        lambda fast: {name: torch.full_like(value, rate) for name, value in fast.items()},
    )


def rates_per_step(rate: float, steps: int) -> Rule:
    """Gradient descent with a learned rate for every tensor and step (only MAML++): change = -rates[step] * gradient.

    Each tensor of parameters has `steps` rates. All start at `rate` and may become negative (Antoniou et al. 2019,
    https://arxiv.org/abs/1810.09502, "LSLR").
    """
    return of_gradient(
        lambda rates, name, grad, step: -rates[name][step] * grad,
        lambda fast: {name: value.new_full((steps,), rate) for name, value in fast.items()},
    )


def curvature() -> Rule:
    """Multiplies each axis of the gradient by a learned matrix: gradient x_1 M_o x_2 M_i x_3 M_f (only Meta-Curvature).

    M_o mixes the output channels, M_i the input channels and M_f the places of a kernel. A tensor has only the matrices
    of the axes that it has: a bias has M_o alone. All matrices start as identities (Park & Oliva 2019,
    https://arxiv.org/abs/1902.03356).
    """

    def init(fast: Params) -> Params:
        # A convolution's weight [O, C, k, l] has sides O, C and k * l; a linear weight [O, C] has the first two.
        # No `torch.eye`: on the meta device it imports torch's compiler, which takes seconds.
        return {
            f"{name}.{axis}": torch.zeros(side, side, dtype=value.dtype).fill_diagonal_(1.0)
            for name, value in fast.items()
            for axis, side in zip(_AXES, (*value.shape[:2], value.shape[2:].numel()), strict=False)
            if axis in _AXES[: value.dim()]
        }

    def bent(matrices: Params, name: str, grad: Tensor, _step: int) -> Tensor:
        return _along_axes(grad, [matrices[key] for axis in _AXES if (key := f"{name}.{axis}") in matrices])

    return of_gradient(bent, init)


def pulled_to_start(strength: float) -> Rule:
    """Adds the gradient of the proximal term strength / 2 * |parameters - start|^2 (only iMAML).

    `start` are the parameters at which the task began. The output is gradient + strength * (parameters - start).
    """

    def update(_coefficients: Params, fast: Params, grads: Params, memory: Memory, _step: int) -> tuple[Params, Memory]:
        start = memory["start"]
        return {name: grad + strength * (fast[name] - start[name]) for name, grad in grads.items()}, memory

    # Detached: iMAML differentiates the solution implicitly, and never through its inner steps.
    return Rule(update, begin=lambda fast: {"start": {name: value.detach() for name, value in fast.items()}})


def decayed(decay: float) -> Rule:
    """Weight decay: the output is gradient + decay * parameters (only the baselines)."""

    def update(_coefficients: Params, fast: Params, grads: Params, memory: Memory, _step: int) -> tuple[Params, Memory]:
        return {name: grad + decay * fast[name] for name, grad in grads.items()}, memory

    return Rule(update)


def averaged(momentum: float) -> Rule:
    """Momentum: the output is momentum * (output of the last step) + (1 - momentum) * gradient (only the baselines).

    The first step returns the gradient itself. It equals torch's SGD with a dampening equal to its momentum.
    """

    def update(
        _coefficients: Params, _fast: Params, grads: Params, memory: Memory, _step: int
    ) -> tuple[Params, Memory]:
        before = memory.get("mean")  # missing in the first step: torch's SGD does not dampen it either
        if before is not None:
            grads = {name: momentum * before[name] + (1 - momentum) * grad for name, grad in grads.items()}
        return grads, memory | {"mean": grads}

    return Rule(update)


def adam(rate: float, decay: float = 0.999, epsilon: float = 1e-8) -> Rule:
    """Adam without momentum (beta1 = 0; only Reptile): change = -rate * gradient / (sqrt(v / (1 - decay^t)) + epsilon).

    v is the exponential mean of the squared gradients, and t = step + 1. Every task starts with v = 0 (Kingma & Ba
    2015, https://arxiv.org/abs/1412.6980, algorithm 1).
    """

    def update(_coefficients: Params, _fast: Params, grads: Params, memory: Memory, step: int) -> tuple[Params, Memory]:
        before = memory["squares"]
        squares = {name: decay * before[name] + (1 - decay) * grad.square() for name, grad in grads.items()}
        correction = 1 - decay ** (step + 1)  # v started at 0, so it is too small by this factor
        change = {name: -rate * grad / ((squares[name] / correction).sqrt() + epsilon) for name, grad in grads.items()}
        return change, memory | {"squares": squares}

    return Rule(update, begin=lambda fast: {"squares": {name: torch.zeros_like(value) for name, value in fast.items()}})


_AXES = ("outputs", "inputs", "places")


def _along_axes(gradient: Tensor, matrices: list[Tensor]) -> Tensor:
    """The gradient [T, outputs, inputs, ...] multiplied along each axis after T by that axis's matrix."""
    # A kernel's height and width count as one axis of places.
    values = gradient.flatten(3) if gradient.dim() > 3 else gradient
    for axis, matrix in enumerate(matrices, start=1):
        # A product over the last axis, so each axis is moved there and back.
        values = (values.movedim(axis, -1) @ matrix.mT).movedim(-1, axis)
    return values.reshape(gradient.shape)
