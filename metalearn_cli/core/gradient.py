"""The meta-gradient: reverse mode through the whole inner loop, or step by step with memory flat in their number.

Legend: T tasks, K inner steps.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from metalearn_cli.core.meta import Adapted, InnerLoop, Meta, Scores, adapt, stepped, summed_over_tasks
from metalearn_cli.core.network import Params
from metalearn_cli.core.tasks import Examples, Task

MetaGradient = Callable[[Meta, Task], tuple[Meta, Scores]]


def reverse_mode(query_scores: Callable[[Meta, Task], Scores]) -> MetaGradient:
    """The function (meta, tasks) -> (sum over tasks of d loss / d meta, scores), by one pass back through it all.

    It is the exact second-order gradient where `query_scores` is differentiable through its inner steps (Finn et
    al. 2017, equation 5). Memory grows with the number of inner steps.
    """

    def meta_gradient(meta: Meta, tasks: Task) -> tuple[Meta, Scores]:
        at = Meta(_leaves(meta.params), _leaves(meta.coefficients))
        with torch.enable_grad():
            result = query_scores(at, tasks)
        found = _gradients(result.loss.sum(), [*at.params.values(), *at.coefficients.values()])
        return _named(meta, found), _without_graph(result)

    return meta_gradient


def mixed_mode(loop: InnerLoop, steps: int, query_scores: Callable[[Adapted, Examples], Scores]) -> MetaGradient:
    """The same function as `reverse_mode` for an inner loop of `steps` steps, with memory that does not grow with K.

    Forward, only the fast parameters of each step are kept. Backward, each step is done again at the parameters it
    started from, and its Hessian-vector product with the cotangent carries that one step back: with rate a,
    v_k = v_(k+1) - a H(theta_k) v_(k+1) (compare MixFlow-MG, Kemaev et al. 2025).
    """

    def meta_gradient(meta: Meta, tasks: Task) -> tuple[Meta, Scores]:
        with torch.no_grad():
            states = adapt(loop, meta, tasks.support, steps)
        fast, slow = (_leaves(part) for part in loop.split(states[-1].params))
        with torch.enable_grad():
            result = query_scores(Adapted({**slow, **fast}, tasks.support.inputs), tasks.query)
        found = _gradients(result.loss.sum(), [*fast.values(), *slow.values()])
        cotangent, total = found[: len(fast)], found[len(fast) :]
        coefficients = _leaves(meta.coefficients)
        learned = [torch.zeros_like(value) for value in coefficients.values()]
        for step in reversed(range(steps)):
            fast, slow = (_leaves(part) for part in loop.split(states[step].params))
            with torch.enable_grad():
                after = stepped(loop, coefficients, fast, slow, tasks.support, step)
            at = [*fast.values(), *slow.values(), *coefficients.values()]
            found = _gradients(list(after.values()), at, cotangent)
            cotangent = found[: len(fast)]
            total = [sum_ + one for sum_, one in zip(total, found[len(fast) :], strict=False)]
            learned = [sum_ + one for sum_, one in zip(learned, found[len(fast) + len(slow) :], strict=True)]
        each = dict(zip((*fast, *slow), map(summed_over_tasks, (*cotangent, *total)), strict=True))
        return _named(meta, [*(each[name] for name in meta.params), *learned]), _without_graph(result)

    return meta_gradient


def _leaves(params: Params) -> Params:
    return {name: value.detach().requires_grad_() for name, value in params.items()}


def _gradients(
    outputs: Tensor | list[Tensor], inputs: list[Tensor], cotangents: list[Tensor] | None = None
) -> list[Tensor]:
    """The gradients, zero where an input has no influence."""
    return list(torch.autograd.grad(outputs, inputs, cotangents, allow_unused=True, materialize_grads=True))


def _named(meta: Meta, values: list[Tensor]) -> Meta:
    params = dict(zip(meta.params, values, strict=False))
    return Meta(params, dict(zip(meta.coefficients, values[len(params) :], strict=True)))


def _without_graph(result: Scores) -> Scores:
    return Scores(result.loss.detach(), result.score.detach())
