"""The inner loop: how a task is learned from its support set. There is one, and all algorithms use it.

Legend: T tasks, N examples, F features.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from metalearn_cli.core.meta import Adapted, Meta, Problem
from metalearn_cli.core.rules import Rule, unmoved
from metalearn_cli.core.tasks import Examples
from metalearn_cli.layers.passing import Params, Pass


def everything(_name: str) -> bool:
    """All parameters move."""
    return True


def nothing(_name: str) -> bool:
    """No parameter moves: what `begin` gives is the answer."""
    return False


def as_learned(_meta: Meta, params: Params, _examples: Examples) -> Params:
    """A task begins at the meta-learned parameters."""
    return params


def all_at_once(examples: Examples, _step: int) -> list[Examples]:
    """An inner step takes all examples together."""
    return [examples]


def unchanged(params: Params, _step: int) -> Params:
    """The network gets the parameters as they are."""
    return params


class InnerLoop(NamedTuple):
    """How a task is learned: where it begins, which parameters move, and by which rule.

    `moves(name)`: whether a parameter is fast, that is, moves within a task.
    `begin(meta, params, examples)`: the parameters [T, ...] before the first step, from the meta-learned ones and the
        examples that the inner loss reads.
    `shown(params, step)`: the parameters that the network gets during inner step `step` and after it, where they are
        not the ones that move (only MAML++'s norms, CAVIA's context and baseline++'s directions).
    `batches(examples, step)`: the parts of the examples that an inner step takes one after the other (only the
        baselines, whose step is a pass over the support set).
    `head_reads`: None, or, where the head alone moves, what it reads of features [T, N, F]: they are computed once,
        and inner steps and predictions run the head only (only ANIL and the baselines).
    """

    problem: Problem
    rule: Rule = unmoved
    second_order: bool = True
    moves: Callable[[str], bool] = everything
    begin: Callable[[Meta, Params, Examples], Params] = as_learned
    shown: Callable[[Params, int], Params] = unchanged
    batches: Callable[[Examples, int], list[Examples]] = all_at_once
    head_reads: Callable[[Tensor], Tensor] | None = None

    def split(self, params: Params) -> tuple[Params, Params]:
        """The parameters that move, and those that stay: these, and what the network holds fixed."""
        fixed = self.problem.network.fixed
        fast = {name: value for name, value in params.items() if self.moves(name) and name not in fixed}
        return fast, {name: value for name, value in params.items() if name not in fast}

    def coefficients(self, params: Params) -> Params:
        """The rule's learned coefficients at the start, for meta-parameters without T."""
        return self.rule.init(self.split(params)[0])


class Support(NamedTuple):
    """A support set as the inner loop works on it.

    `examples` are what the inner loss reads: inputs, or features where the head alone moves. `how` is the pass of the
    support set through the network.
    """

    examples: Examples
    how: Pass


def adapt(loop: InnerLoop, meta: Meta, support: Examples, steps: int) -> list[Adapted]:
    """The learners after 0, 1, ..., `steps` inner steps on `support`."""
    return list(walk(loop, meta, support, steps))


def after(loop: InnerLoop, meta: Meta, support: Examples, steps: int) -> Adapted:
    """The learners after `steps` inner steps on `support`; those before are not kept."""
    return deque(walk(loop, meta, support, steps), maxlen=1).pop()


def walk(loop: InnerLoop, meta: Meta, support: Examples, steps: int) -> Iterator[Adapted]:
    """The learners before every inner step and after the last (Finn et al. 2017, algorithm 2, lines 5-6).

    Where `meta` is to be differentiated, every step stays differentiable with `loop.second_order`; without it the
    inner gradients count as constants (first-order MAML, section 5.2). Where it is not, no graph is left behind.
    """
    params, read = begun(loop, meta, support)
    fast, slow = loop.split(params)
    memory = loop.rule.begin(fast)

    def state(step: int) -> Adapted:
        return Adapted(loop.shown({**slow, **fast}, step), support.inputs, meta.statistics, support.keys)

    yield state(0)
    for step in range(steps):
        # Where nothing moves, whoever asks for the state after some steps gets the one and only.
        for part in loop.batches(read.examples, step) if fast else ():
            gradient = support_gradient(loop, fast, slow, read._replace(examples=part), step)
            change, memory = loop.rule.update(meta.coefficients, fast, gradient, memory, step)
            fast = {name: value + change[name] for name, value in fast.items()}
        yield state(step)


def begun(loop: InnerLoop, meta: Meta, support: Examples) -> tuple[Params, Support]:
    """The parameters [T, ...] of T tasks before the first inner step, and their support sets as the loop reads them."""
    network, params = loop.problem.network, for_tasks(meta.params, len(support.targets))
    moments = meta.statistics if loop.problem.statistics == "running" else None
    how, examples = Pass(moments=moments, keys=support.keys), support
    if loop.head_reads is not None:
        features = network.features(params, support.inputs, how)
        examples = support._replace(inputs=loop.head_reads(features))
    return loop.begin(meta, params, examples), Support(examples, how)


def support_gradient(loop: InnerLoop, fast: Params, slow: Params, support: Support, step: int) -> Params:
    """The gradient of each task's support loss for its fast parameters [T, ...]; a constant in first order."""
    through = loop.second_order and any(value.requires_grad for value in (*fast.values(), *slow.values()))
    # Views are taken of the fast values because one of them may be a function of others, as Proto-MAML's head is of
    # the body. The inner gradient must not see that: it is for each of them with the others fixed.
    at = {name: _leaf(value) if not through else _view(value) for name, value in fast.items()}
    still = slow if through else {name: value.detach() for name, value in slow.items()}
    examples, how = support
    inputs = examples.inputs if through else examples.inputs.detach()
    network, objective = loop.problem.network, loop.problem.objective
    with torch.enable_grad():
        params = loop.shown({**still, **at}, step)
        outputs = network(params, inputs, how) if loop.head_reads is None else network.classify(params, inputs)
        losses = objective.loss(outputs, examples.targets)
        # A parameter that the network does not use has a gradient of zero.
        grads = torch.autograd.grad(
            losses.sum(), list(at.values()), create_graph=through, allow_unused=True, materialize_grads=True
        )
    return dict(zip(at, grads, strict=True))


def predict(
    loop: InnerLoop, states: Sequence[Adapted], inputs: Tensor, collected: Params | None = None
) -> list[Tensor]:
    """Outputs [T, N, outputs] of adapted learners for inputs [T, N, ...], for each of the states of one support set.

    The problem's statistics say what the norms see. "transductive": all of `inputs`, as in the MAML paper, so one
    input changes another's output. "support": the support set, so every input is answered by itself. "running": what
    training saw. With `collected` they add there what they see.
    """
    network = loop.problem.network
    if loop.head_reads is None:
        return [_after_support(loop.problem, network, state, inputs, collected) for state in states]
    # The body is the same in all states.
    read = loop.head_reads(_after_support(loop.problem, network.features, states[0], inputs, collected))
    return [network.classify(state.params, read) for state in states]


def _after_support(
    problem: Problem,
    run: Callable[[Params, Tensor, Pass], Tensor],
    state: Adapted,
    inputs: Tensor,
    collected: Params | None,
) -> Tensor:
    """What `run` makes of inputs that come after a support set, with the statistics that the problem asks for."""
    known = state.support.shape[1]
    if problem.statistics == "support":
        how = Pass(reference=known, collected=collected, keys=state.keys)
        return run(state.params, torch.cat([state.support, inputs], 1), how)[:, known:]
    moments = state.moments if problem.statistics == "running" else None
    return run(state.params, inputs, Pass(moments=moments, collected=collected, keys=state.keys, before=known))


def for_tasks(params: Params, tasks: int) -> Params:
    """The same parameters for each of T tasks, [T, ...]."""
    if not torch.is_grad_enabled():
        return {name: value.detach().expand(tasks, *value.shape) for name, value in params.items()}
    return {name: _Shared.apply(value, tasks) for name, value in params.items()}  # type: ignore[no-untyped-call]


class _Shared(Function):
    """A parameter that T tasks share, [T, ...] without a copy; its gradient is the sum over them.

    The sum runs in the order of memory: torch's own crawls where a layout is not the usual one, such as a
    convolution's.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, tasks: int) -> Tensor:  # noqa: ARG004
        return value.expand(tasks, *value.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return summed_over_tasks(gradient), None


def summed_over_tasks(value: Tensor) -> Tensor:
    """The sum of [T, ...] over T, added in the order in which the values lie in memory."""
    order = sorted(range(1, value.dim()), key=value.stride, reverse=True)
    back = sorted(range(len(order)), key=order.__getitem__)
    return value.permute(0, *order).sum(0).permute(back)


def _view(value: Tensor) -> Tensor:
    """The same values, to be differentiated at, with their history behind them."""
    return value.view_as(value) if value.requires_grad else _leaf(value)


def _leaf(value: Tensor) -> Tensor:
    """The same values, to be differentiated at, without their history."""
    return value.detach().requires_grad_()
