"""The meta-gradient: reverse mode through the whole inner loop, or step by step with memory flat in their number.

Legend: T tasks, K inner steps.
"""

import math
from collections.abc import Callable, Collection, Sequence
from functools import partial

import torch
from torch import Tensor

from metalearn_cli.core.inner_loop import InnerLoop, Support, adapt, after, begun, for_tasks, predict, support_gradient
from metalearn_cli.core.meta import LAST, Adapted, Learner, Meta, MetaGradient, Scores, Traits, scores, with_settled
from metalearn_cli.core.tasks import Task, count
from metalearn_cli.layers.passing import Params

_SHORTEST_STRETCH = 8

QueryScores = Callable[[Meta, Task, int], Scores]
"""The query scores of tasks in an iteration, differentiable for Meta: what a meta-gradient is the gradient of."""


def gradient_learner(
    loop: InnerLoop, traits: Traits, coefficients: Params | None = None, params: Params | None = None
) -> Learner:
    """The Learner whose meta-gradient goes back in reverse mode through the query loss after its inner steps.

    `coefficients` are those that it learns besides its rule's, `params` the parameters at the start where they are not
    the network's own.
    """

    def init() -> Meta:
        start = loop.problem.network.initial() if params is None else {name: v.clone() for name, v in params.items()}
        own = {name: value.clone() for name, value in (coefficients or {}).items()}
        return Meta(start, loop.coefficients(start) | own)

    def query_scores(meta: Meta, tasks: Task, _iteration: int) -> Scores:
        return scores(learner, after(loop, meta, tasks.support, traits.inner_steps), tasks.query)

    learner = Learner(
        init=init,
        adapt=partial(adapt, loop),
        predict=partial(predict, loop),
        meta_gradient=reverse_mode(query_scores),
        objective=loop.problem.objective,
        traits=traits,
    )
    return learner


def with_fixed(learner: Learner, names: Collection[str]) -> Learner:
    """The same learner, whose meta-gradient leaves out the parameters `names`: an outer step lets those be."""

    def meta_gradient(meta: Meta, tasks: Task, iteration: int = LAST) -> tuple[Meta, Scores]:
        gradient, result = learner.meta_gradient(meta, tasks, iteration)
        moving = {name: value for name, value in gradient.params.items() if name not in names}
        return gradient._replace(params=moving), result

    return with_settled(learner._replace(meta_gradient=meta_gradient), lambda settled: with_fixed(settled, names))


def reverse_mode(query_scores: QueryScores) -> MetaGradient:
    """The function (meta, tasks, iteration) -> (sum over tasks of d loss / d meta, scores), by one pass back.

    It is the exact second-order gradient where `query_scores` is differentiable through its inner steps (Finn et
    al. 2017, equation 5). Memory grows with the number of inner steps.
    """

    def meta_gradient(meta: Meta, tasks: Task, iteration: int = LAST) -> tuple[Meta, Scores]:
        at = meta._replace(params=_leaves(meta.params), coefficients=_leaves(meta.coefficients))
        with torch.enable_grad():
            result = query_scores(at, tasks, iteration)
        found = _gradients(result.loss.sum(), [*at.params.values(), *at.coefficients.values()])
        return _named(meta, found), _without_graph(result)

    return meta_gradient


def mixed_mode(loop: InnerLoop, steps: int, query_scores: Callable[[Adapted, Task], Scores]) -> MetaGradient:
    """The same function as `reverse_mode` for an inner loop of `steps` steps, with memory that hardly grows with K.

    Forward, only fast parameters are kept: those of the last stretch of steps, and those that each stretch before
    started from, which is done again when its turn comes (stretches of sqrt(K) steps, 8 or more). Backward, each
    step is done again at the parameters it started from, and its Hessian-vector product with the cotangent carries
    that one step back: with rate a, v_k = v_(k+1) - a H(theta_k) v_(k+1) (compare MixFlow-MG, Kemaev et al. 2025).
    The loop's rule must remember nothing from step to step, a step must take all examples at once, and the network must
    get the parameters as they are.
    """
    stretches = _stretches(steps)

    def meta_gradient(meta: Meta, tasks: Task, iteration: int = LAST) -> tuple[Meta, Scores]:  # noqa: ARG001
        with torch.no_grad():
            params, support = begun(loop, meta, tasks.support)
        fast, slow = loop.split(params)
        step_from = partial(_step_from, loop, support)
        starts, passed = [], [fast]
        for stretch in stretches:
            starts.append(passed[-1])
            passed = _walked(step_from, meta.coefficients, passed[-1], slow, stretch)
        with torch.enable_grad():
            last, fixed = _leaves(passed[-1]), _leaves(slow)
            end = Adapted({**fixed, **last}, tasks.support.inputs, meta.statistics, tasks.support.keys)
            result = query_scores(end, tasks)
        found = _gradients(result.loss.sum(), [*last.values(), *fixed.values()])
        cotangent, total = found[: len(last)], [*found[len(last) :], *map(torch.zeros_like, meta.coefficients.values())]
        for start, stretch in zip(reversed(starts), reversed(stretches), strict=True):
            if stretch is not stretches[-1]:
                passed = _walked(step_from, meta.coefficients, start, slow, stretch)
            for step in reversed(stretch):
                before = passed[step - stretch.start], slow, meta.coefficients
                found = _carried_back(lambda *at, step=step: step_from(at[2], at[0], at[1], step), before, cotangent)
                cotangent = found[: len(last)]
                total = [sum_ + one for sum_, one in zip(total, found[len(last) :], strict=True)]
        each = dict(zip((*last, *slow), (*cotangent, *total[: len(slow)]), strict=True))
        found = [*_back_to_meta(loop, meta, tasks, each), *total[len(slow) :]]
        return _named(meta, found), _without_graph(result)

    return meta_gradient


def _stretches(steps: int) -> list[range]:
    length = max(_SHORTEST_STRETCH, math.isqrt(steps))
    return [range(start, min(start + length, steps)) for start in range(0, steps, length)]


def _step_from(
    loop: InnerLoop, support: Support, coefficients: Params, fast: Params, slow: Params, step: int
) -> Params:
    gradient = support_gradient(loop, fast, slow, support, step)
    change, _ = loop.rule.update(coefficients, fast, gradient, {}, step)
    return {name: value + change[name] for name, value in fast.items()}


def _carried_back(step: Callable[..., Params], before: Sequence[Params], cotangent: list[Tensor]) -> list[Tensor]:
    """The derivatives of a step's result, times the cotangent, for all that it was made of."""
    at = [_leaves(part) for part in before]
    with torch.enable_grad():
        after = step(*at)
    return _gradients(list(after.values()), [leaf for part in at for leaf in part.values()], cotangent)


def _walked(
    step_from: Callable[[Params, Params, Params, int], Params], coefficients: Params, fast: Params, slow: Params,
    stretch: range,
) -> list[Params]:  # fmt: skip
    """The fast parameters before the first step of a stretch, and after each; no graph is kept."""
    passed = [fast]
    with torch.no_grad():
        for step in stretch:
            passed.append(step_from(coefficients, passed[-1], slow, step))
    return passed


def _back_to_meta(loop: InnerLoop, meta: Meta, tasks: Task, each: Params) -> list[Tensor]:
    """The gradient for the meta-parameters, from that for the parameters [T, ...] with which each task begins."""
    at = _leaves(meta.params)
    with torch.enable_grad():
        start = loop.begin(meta, for_tasks(at, count(tasks)), tasks.support)
    known = {name: value for name, value in start.items() if value.requires_grad}
    return _gradients(list(known.values()), list(at.values()), [each[name] for name in known])


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
