"""The meta-gradient, computed in one of two ways with the same result.

`reverse_mode` differentiates through the whole inner loop at once. `mixed_mode` goes back through one inner step at a
time, and its memory hardly grows with the number of steps.

Legend: T tasks, K inner steps.
"""

import math
from collections.abc import Callable, Collection, Sequence
from functools import partial

import torch
from torch import Tensor

from metalearn_cli.core.inner_loop import InnerLoop, Support, adapt, after, begun, predict, support_gradient
from metalearn_cli.core.meta import LAST, Adapted, Learner, Meta, MetaGradient, Scores, Traits, scores, with_settled
from metalearn_cli.core.shared_parameters import for_tasks
from metalearn_cli.core.tasks import Task, count
from metalearn_cli.layers.passing import Params

_SHORTEST_STRETCH = 8
"""The steps below which `mixed_mode` has one stretch only, so that it computes no step twice."""

QueryScores = Callable[[Meta, Task, int], Scores]
"""The function (meta, tasks, iteration) -> query scores [T] whose summed loss a meta-gradient differentiates."""


def gradient_learner(
    loop: InnerLoop, traits: Traits, coefficients: Params | None = None, params: Params | None = None
) -> Learner:
    """The Learner that adapts by `loop` and whose meta-gradient is that of the query loss after the inner steps.

    `coefficients`: learned numbers besides those of the loop's rule (only CAVIA's context weights and R2D2's
        ridge and scale).
    `params`: the initial parameters, if they are not the network's own (only zero heads, MAML++ and UNICORN-MAML).

    >>> from metalearn_cli.core.meta import Problem
    >>> from metalearn_cli.core.objectives import classification
    >>> from metalearn_cli.core.rules import fixed_rate
    >>> from metalearn_cli.testing.problems import picture_tasks, smooth_network
    >>> problem = Problem(smooth_network(), classification, ways=3)
    >>> learner = gradient_learner(InnerLoop(problem, fixed_rate(0.1)), Traits(inner_steps=2))  # second-order MAML
    """

    def init() -> Meta:
        # Clones, because the outer optimizer changes Meta in place and `init` must give the same values again.
        start = loop.problem.network.initial() if params is None else {name: v.clone() for name, v in params.items()}
        own = {name: value.clone() for name, value in (coefficients or {}).items()}
        return Meta(start, loop.coefficients(start) | own)

    # `learner` is made below; the function reads it when it is called.
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
    """The same learner, but its meta-gradient has no entry for the parameters `names`, so outer steps leave them fixed.

    Only networks of your own with requires_grad=False in some layer need this.
    """

    def meta_gradient(meta: Meta, tasks: Task, iteration: int = LAST) -> tuple[Meta, Scores]:
        gradient, result = learner.meta_gradient(meta, tasks, iteration)
        # Left out, and not zero: weight decay and momentum would move a parameter with a gradient of zero.
        moving = {name: value for name, value in gradient.params.items() if name not in names}
        return gradient._replace(params=moving), result

    return with_settled(learner._replace(meta_gradient=meta_gradient), lambda settled: with_fixed(settled, names))


def reverse_mode(query_scores: QueryScores) -> MetaGradient:
    """The meta-gradient function: (meta, tasks, iteration) -> (sum over tasks of d loss / d meta, query scores).

    One backward pass computes it. It is the exact second-order gradient (Finn et al. 2017, equation 5) if the inner
    steps inside `query_scores` keep their graph, and the first-order one if they do not. The graph of all K inner
    steps stays in memory until the backward pass, so memory grows with K.
    """

    def meta_gradient(meta: Meta, tasks: Task, iteration: int = LAST) -> tuple[Meta, Scores]:
        # Fresh leaves: the caller's tensors get no graph and no .grad, so threads can share one Meta.
        at = meta._replace(params=_leaves(meta.params), coefficients=_leaves(meta.coefficients))
        with torch.enable_grad():
            result = query_scores(at, tasks, iteration)
        found = _gradients(result.loss.sum(), [*at.params.values(), *at.coefficients.values()])
        return _named(meta, found), _without_graph(result)

    return meta_gradient


def mixed_mode(loop: InnerLoop, steps: int, query_scores: Callable[[Adapted, Task], Scores]) -> MetaGradient:
    """The same meta-gradient as `reverse_mode` to rounding, with memory that hardly grows with the K inner steps.

    The forward pass runs without a graph and cuts the steps into stretches of sqrt(K) steps (8 at least). It keeps the
    fast parameters at the start of each stretch, and all of them within the last. The backward pass takes the stretches
    from last to first: it repeats the stretch, then goes back through one step at a time. With the inner rate a, the
    Hessian H of the support loss and the query gradient v_K = dL_Q/dtheta_K, one step back is
    v_k = v_(k+1) - a H(theta_k) v_(k+1), one Hessian-vector product (compare MixFlow-MG, Kemaev et al. 2025).

    It requires a rule without memory, steps on the whole support set, and `loop.shown` unchanged (only MAML uses it).
    """
    stretches = _stretches(steps)

    def meta_gradient(meta: Meta, tasks: Task, iteration: int = LAST) -> tuple[Meta, Scores]:  # noqa: ARG001
        with torch.no_grad():
            params, support = begun(loop, meta, tasks.support)
        fast, slow = loop.split(params)
        step_from = partial(_step_from, loop, support)
        # Forward: `starts` keeps the parameters at the start of each stretch, `passed` those within the last stretch.
        starts, passed = [], [fast]
        for stretch in stretches:
            starts.append(passed[-1])
            passed = _walked(step_from, meta.coefficients, passed[-1], slow, stretch)
        with torch.enable_grad():
            last, fixed = _leaves(passed[-1]), _leaves(slow)
            end = Adapted({**fixed, **last}, tasks.support.inputs, meta.statistics, tasks.support.keys)
            result = query_scores(end, tasks)
        found = _gradients(result.loss.sum(), [*last.values(), *fixed.values()])
        # `total` sums, over all steps, the gradients for the slow parameters and then for the learned coefficients.
        cotangent, total = found[: len(last)], [*found[len(last) :], *map(torch.zeros_like, meta.coefficients.values())]
        for start, stretch in zip(reversed(starts), reversed(stretches), strict=True):
            if stretch is not stretches[-1]:
                passed = _walked(step_from, meta.coefficients, start, slow, stretch)
            for step in reversed(stretch):
                before = passed[step - stretch.start], slow, meta.coefficients
                found = _carried_back(lambda *at, step=step: step_from(at[2], at[0], at[1], step), before, cotangent)
                cotangent = found[: len(last)]
                total = [sum_ + one for sum_, one in zip(total, found[len(last) :], strict=True)]
        # Now `cotangent` is v_0, the gradient for each task's initial fast parameters, [T, ...].
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
    # An empty memory: a rule that remembers would need the steps before, which are not kept.
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
    """The gradient for the meta-parameters, given `each`: the gradient for every task's initial parameters [T, ...].

    It goes back through `loop.begin` and sums over the tasks.
    """
    at = _leaves(meta.params)
    with torch.enable_grad():
        start = loop.begin(meta, for_tasks(at, count(tasks)), tasks.support)
    # A zero head is a constant: it has no way back to Meta.
    known = {name: value for name, value in start.items() if value.requires_grad}
    return _gradients(list(known.values()), list(at.values()), [each[name] for name in known])


def _leaves(params: Params) -> Params:
    """The same values as new leaves of a graph."""
    return {name: value.detach().requires_grad_() for name, value in params.items()}


def _gradients(
    outputs: Tensor | list[Tensor], inputs: list[Tensor], cotangents: list[Tensor] | None = None
) -> list[Tensor]:
    """The gradients of `outputs` for `inputs`, weighted by `cotangents`; zero for an input without influence."""
    # allow_unused and materialize_grads: without them torch raises an error for a parameter without influence.
    return list(torch.autograd.grad(outputs, inputs, cotangents, allow_unused=True, materialize_grads=True))


def _named(meta: Meta, values: list[Tensor]) -> Meta:
    """The values under the names in `meta`: first one for each parameter, then one for each coefficient."""
    params = dict(zip(meta.params, values, strict=False))
    return Meta(params, dict(zip(meta.coefficients, values[len(params) :], strict=True)))


def _without_graph(result: Scores) -> Scores:
    return Scores(result.loss.detach(), result.score.detach())
