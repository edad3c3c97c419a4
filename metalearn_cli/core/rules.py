"""How a fast parameter moves in one inner step: a rule is a value, and rules compose."""

from collections.abc import Callable
from typing import NamedTuple

import torch

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
