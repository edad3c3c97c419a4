"""The meta-gradient: reverse mode through the whole inner loop, or step by step with memory flat in their number.

Legend: T tasks, K inner steps.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import Tensor

from metalearn_cli.core.chance import known_keys
from metalearn_cli.core.meta import (
    Adapted,
    InnerLoop,
    Learner,
    Meta,
    Objective,
    Scores,
    Statistics,
    adapt,
    predict,
    scores,
    stepped,
    summed_over_tasks,
)
from metalearn_cli.core.network import Network, Params
from metalearn_cli.core.rules import Rule
from metalearn_cli.core.tasks import Examples, Task

_SHORTEST_STRETCH = 8

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
    """The same function as `reverse_mode` for an inner loop of `steps` steps, with memory that hardly grows with K.

    Forward, only fast parameters are kept: those of the last stretch of steps, and those that each stretch before
    started from, which is done again when its turn comes (stretches of sqrt(K) steps, 8 or more). Backward, each
    step is done again at the parameters it started from, and its Hessian-vector product with the cotangent carries
    that one step back: with rate a, v_k = v_(k+1) - a H(theta_k) v_(k+1) (compare MixFlow-MG, Kemaev et al. 2025).
    """
    length = max(_SHORTEST_STRETCH, math.isqrt(steps))
    stretches = [range(start, min(start + length, steps)) for start in range(0, steps, length)]

    def meta_gradient(meta: Meta, tasks: Task) -> tuple[Meta, Scores]:
        with torch.no_grad():
            fast, slow = loop.split(adapt(loop, meta, tasks.support, 0)[0].params)

        def walk(fast: Params, stretch: range) -> list[Params]:
            passed = [fast]
            with torch.no_grad():
                for step in stretch:
                    passed.append(stepped(loop, meta.coefficients, passed[-1], slow, tasks.support, step))
            return passed

        starts, passed = [], [fast]
        for stretch in stretches:
            starts.append(passed[-1])
            passed = walk(passed[-1], stretch)
        last, fixed = _leaves(passed[-1]), _leaves(slow)
        with torch.enable_grad():
            result = query_scores(Adapted({**fixed, **last}, tasks.support.inputs), tasks.query)
        found = _gradients(result.loss.sum(), [*last.values(), *fixed.values()])
        cotangent, total = found[: len(last)], [*found[len(last) :], *map(torch.zeros_like, meta.coefficients.values())]
        for stretch in reversed(stretches):
            if stretch is not stretches[-1]:
                passed = walk(starts[stretch.start // length], stretch)
            for step in reversed(stretch):
                at = [_leaves(part) for part in (passed[step - stretch.start], slow, meta.coefficients)]
                with torch.enable_grad():
                    after = stepped(loop, at[2], at[0], at[1], tasks.support, step)
                found = _gradients(list(after.values()), [leaf for part in at for leaf in part.values()], cotangent)
                cotangent, more = found[: len(last)], found[len(last) :]
                total = [sum_ + one for sum_, one in zip(total, more, strict=True)]
        summed = map(summed_over_tasks, (*cotangent, *total[: len(slow)]))
        each = dict(zip((*last, *slow), summed, strict=True))
        return _named(meta, [*(each[name] for name in meta.params), *total[len(slow) :]]), _without_graph(result)

    return meta_gradient


def with_keys(learner: Learner) -> Learner:
    """The same learner, whose meta-gradients let random layers go by the keys of their tasks.

    Nothing else does: what `adapt` and `predict` give is never random.
    """

    @lru_cache(maxsize=2)
    def knowing(inner: MetaGradient) -> MetaGradient:
        def meta_gradient(meta: Meta, tasks: Task) -> tuple[Meta, Scores]:
            with known_keys(tasks.keys):
                return inner(meta, tasks)

        return meta_gradient

    during = learner.during
    return learner._replace(
        meta_gradient=knowing(learner.meta_gradient),
        during=None if during is None else lambda iteration: knowing(during(iteration)),
        settled=None if learner.settled is None else with_keys(learner.settled),
    )


def through_rule(
    rule: Rule,
    network: Network,
    objective: Objective,
    statistics: Statistics,
    inner_steps: int,
    second_order: bool,
    ways: int | None,
    fast: Callable[[str], bool] = lambda _name: True,
) -> Learner:
    """The Learner whose `fast` parameters move by a rule, whose coefficients are learned beside all parameters."""
    loop = InnerLoop(network, objective, rule, second_order, fast)

    def init() -> Meta:
        params = network.initial()
        return Meta(params, rule.init(loop.split(params)[0]))

    return through_adaptation(
        init, partial(adapt, loop), network, objective, statistics, inner_steps, second_order, ways
    )


def through_adaptation(
    init: Callable[[], Meta],
    adapt: Callable[[Meta, Examples, int], list[Adapted]],
    network: Network,
    objective: Objective,
    statistics: Statistics,
    inner_steps: int,
    second_order: bool | None,
    ways: int | None,
) -> Learner:
    """The Learner whose meta-gradient goes back in reverse mode through the query loss after inner steps of `adapt`."""

    def query_scores(meta: Meta, tasks: Task) -> Scores:
        return scores(learner, adapt(meta, tasks.support, inner_steps)[-1], tasks.query)

    learner = Learner(
        init=init,
        adapt=adapt,
        predict=partial(predict, network, statistics),
        meta_gradient=reverse_mode(query_scores),
        objective=objective,
        inner_steps=inner_steps,
        second_order=second_order,
        ways=ways,
    )
    return learner


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
