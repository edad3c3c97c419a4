"""The inner loop: learns tasks from their support sets. It is the only one; all algorithms use it.

Legend: T tasks, N examples, F features.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metalearn_cli.core.meta import Adapted, Meta, Problem
from metalearn_cli.core.rules import Rule, unmoved
from metalearn_cli.core.shared_parameters import for_tasks
from metalearn_cli.core.tasks import Examples
from metalearn_cli.layers.passing import KeptInputs, Params, Pass


def everything(_name: str) -> bool:
    """A `moves` for InnerLoop: all parameters move."""
    return True


def nothing(_name: str) -> bool:
    """A `moves` for InnerLoop: no parameter moves, so the adapted parameters are those that `begin` returned."""
    return False


def always(_name: str, _step: int) -> bool:
    """A `pulls` for InnerLoop: any parameter may have a gradient in any step."""
    return True


def as_learned(_meta: Meta, params: Params, _examples: Examples) -> Params:
    """A `begin` for InnerLoop: every task starts at the meta-learned parameters."""
    return params


def all_at_once(examples: Examples, _step: int) -> list[Examples]:
    """A `batches` for InnerLoop: an inner step takes the whole support set."""
    return [examples]


def unchanged(params: Params, _step: int) -> Params:
    """A `shown` for InnerLoop: the network gets the parameters that move, as they are."""
    return params


class InnerLoop(NamedTuple):
    """The way in which a task is learned: the start of its parameters, those that move, and the rule of their change.

    `moves(name)`: whether the parameter is fast, that is, moves within a task.
    `begin(meta, params, examples)`: the parameters [T, ...] before the first step. `params` are the meta-learned ones
        for T tasks, `examples` those that the inner loss reads.
    `shown(params, step)`: the parameters that the network gets during and after inner step `step`. By default they are
        `params` (others only for MAML++'s norms, CAVIA's context and baseline++'s directions).
    `batches(examples, step)`: the batches that one inner step goes through. By default there is one, the support set
        (more only for the baselines, whose step is a pass over the support set in batches).
    `head_reads(features)`: the head's inputs, made from features [T, N, F]. If it is given, the head alone moves: the
        features are computed once, and inner steps and predictions run only the head (only ANIL and the baselines).
    `pulls(name, step)`: whether the gradient of the support loss for the parameter can differ from zero in inner step
        `step`. A parameter for which it cannot is left out of the backward pass (only the body in the first step, under
        a head of equal rows). With several `batches` it speaks for all of a step.

    >>> from metalearn_cli.core.objectives import classification
    >>> from metalearn_cli.testing.problems import smooth_network
    >>> problem = Problem(smooth_network(), classification, ways=3)
    >>> loop = InnerLoop(problem, moves=lambda name: name.endswith("bias"))
    >>> sorted(loop.split(problem.network.initial())[0])  # the parameters that move within a task
    ['body.1.bias', 'body.3.bias', 'body.4.bias', 'head.bias']
    """

    problem: Problem
    rule: Rule = unmoved
    second_order: bool = True
    moves: Callable[[str], bool] = everything
    begin: Callable[[Meta, Params, Examples], Params] = as_learned
    shown: Callable[[Params, int], Params] = unchanged
    batches: Callable[[Examples, int], list[Examples]] = all_at_once
    head_reads: Callable[[Tensor], Tensor] | None = None
    pulls: Callable[[str, int], bool] = always

    def split(self, params: Params) -> tuple[Params, Params]:
        """(fast, slow): the parameters that move within a task, and all others.

        A parameter that the network itself holds fixed (requires_grad=False) is slow, whatever `moves` says.
        """
        fixed = self.problem.network.fixed
        fast = {name: value for name, value in params.items() if self.moves(name) and name not in fixed}
        return fast, {name: value for name, value in params.items() if name not in fast}

    def coefficients(self, params: Params) -> Params:
        """The initial values of the rule's learned coefficients, given the meta-parameters (without T)."""
        return self.rule.init(self.split(params)[0])


class Support(NamedTuple):
    """A support set in the form that the inner loop reads.

    `examples`: the inputs; if only the head moves, their features instead. `how`: the settings of the pass of the
    support set through the network.
    """

    examples: Examples
    how: Pass


def adapt(loop: InnerLoop, meta: Meta, support: Examples, steps: int) -> list[Adapted]:
    """The adapted learners after 0, 1, ..., `steps` inner steps on `support`: a list of `steps + 1` states.

    It keeps all states, so in training it needs more memory than `after`.
    """
    return list(walk(loop, meta, support, steps))


def after(loop: InnerLoop, meta: Meta, support: Examples, steps: int) -> Adapted:
    """The adapted learners after `steps` inner steps on `support`; earlier states are not kept."""
    # A deque of length one exhausts the iterator and holds only its last state.
    return deque(walk(loop, meta, support, steps), maxlen=1).pop()


def walk(loop: InnerLoop, meta: Meta, support: Examples, steps: int) -> Iterator[Adapted]:
    """Yield the adapted learners before every inner step and after the last one.

    Each step is params <- params + rule(gradient of the support loss) (Finn et al. 2017, algorithm 2, lines 5-6). If
    `meta` requires gradients, the states are differentiable for it: through the inner gradients if
    `loop.second_order`, else with the inner gradients as constants (first-order MAML, section 5.2). If `meta` requires
    none, no graph is kept.
    """
    params, read = begun(loop, meta, support)
    fast, slow = loop.split(params)
    memory = loop.rule.begin(fast)

    # `state` reads `fast` as it is at the time of the call, so each yield shows the newest parameters.
    def state(step: int) -> Adapted:
        return Adapted(loop.shown({**slow, **fast}, step), support.inputs, meta.statistics, support.keys)

    yield state(0)
    for step in range(steps):
        # If nothing moves (ProtoNet, R2D2, nearest), every step yields the same state.
        for part in loop.batches(read.examples, step) if fast else ():
            gradient = support_gradient(loop, fast, slow, read._replace(examples=part), step)
            change, memory = loop.rule.update(meta.coefficients, fast, gradient, memory, step)
            fast = {name: value + change[name] for name, value in fast.items()}
        yield state(step)


def begun(loop: InnerLoop, meta: Meta, support: Examples) -> tuple[Params, Support]:
    """The parameters [T, ...] of T tasks before the first inner step, and their support sets in the loop's form."""
    network, small = loop.problem.network, loop.problem.network.runs_alone(support.inputs)
    params = for_tasks(meta.params, len(support.targets), dense=small)
    moments = meta.statistics if loop.problem.statistics == "running" else None
    how, examples = Pass(moments=moments, keys=support.keys, small=small, kept=KeptInputs()), support
    if loop.head_reads is not None:
        # The body does not move, so one pass through it serves all inner steps, and second order goes through it once.
        features = network.features(params, support.inputs, how)
        examples = support._replace(inputs=loop.head_reads(features))
    return loop.begin(meta, params, examples), Support(examples, how)


def support_gradient(loop: InnerLoop, fast: Params, slow: Params, support: Support, step: int) -> Params:
    """The gradient of each task's support loss for its fast parameters [T, ...].

    It is differentiable itself in second order, and a constant in first order.
    """
    # `through`: keep the graph of the gradient. Without a need for it (evaluation, first order) memory stays small.
    through = loop.second_order and any(value.requires_grad for value in (*fast.values(), *slow.values()))
    # Proto-MAML's head is a function of the body. The inner gradient must not flow through it: it is the partial
    # derivative for each parameter with all others fixed. A view is a new node of the graph, so autograd.grad stops
    # at it, while the meta-gradient still goes through the view to what made the value.
    pulled = [name for name in fast if loop.pulls(name, step)]
    at = {name: _leaf(fast[name]) if not through else _view(fast[name]) for name in pulled}
    rest = slow | {name: value for name, value in fast.items() if name not in at}
    still = rest if through else {name: value.detach() for name, value in rest.items()}
    examples, how = support
    inputs = examples.inputs if through else examples.inputs.detach()
    network, objective = loop.problem.network, loop.problem.objective
    with torch.enable_grad():
        params = loop.shown({**still, **at}, step)
        outputs = network(params, inputs, how) if loop.head_reads is None else network.classify(params, inputs)
        losses = objective.loss(outputs, examples.targets)
        # The losses may be summed over tasks, as no task's loss depends on another's parameters.
        # A parameter that the network does not use gets a gradient of zero.
        grads = torch.autograd.grad(
            losses.sum(), list(at.values()), create_graph=through, allow_unused=True, materialize_grads=True
        )
    gradient = dict(zip(at, grads, strict=True))
    return {name: gradient[name] if name in at else torch.zeros_like(value) for name, value in fast.items()}


def predict(
    loop: InnerLoop, states: Sequence[Adapted], inputs: Tensor, collected: Params | None = None
) -> list[Tensor]:
    """The outputs [T, N, outputs] for inputs [T, N, ...] of each state; all states have the same support set.

    The norms normalise by the statistics that the problem names. "transductive": those of all `inputs`, as in the MAML
    paper, so one input changes another's output. "support": those of the support set, so every input is answered by
    itself. "running": the means that training kept. If `collected` is given, the norms add the moments that they see
    to it (only training with running statistics).
    """
    network = loop.problem.network
    if loop.head_reads is None:
        return _after_support(loop.problem, network, states, inputs, collected)
    # Only the head moves, so the body is the same in all states and runs once.
    read = loop.head_reads(query_features(loop.problem, states[0], inputs, collected))
    return [network.classify(state.params, read) for state in states]


def query_features(problem: Problem, state: Adapted, inputs: Tensor, collected: Params | None = None) -> Tensor:
    """The body's features [T, N, F] of inputs that come after a support set, with the statistics of the problem."""
    return _after_support(problem, problem.network.features, [state], inputs, collected)[0]


def _after_support(
    problem: Problem,
    run: Callable[[Params, Tensor, Pass], Tensor],
    states: Sequence[Adapted],
    inputs: Tensor,
    collected: Params | None,
) -> list[Tensor]:
    """The outputs of `run` for `inputs` in each state, with the norms' statistics as the problem says."""
    (_, support, moments, keys), by = states[0], problem.statistics
    known = support.shape[1]
    how = Pass(collected=collected, keys=keys, small=problem.network.runs_alone(support), kept=KeptInputs())
    if by == "support":
        # Support and queries go through together; the norms take the statistics of the first `known` examples only.
        how, both = how._replace(reference=known), torch.cat([support, inputs], 1)
        return [run(state.params, both, how)[:, known:] for state in states]
    # `before`: in training, drop-block numbers the queries after the support examples (layers/passing.py).
    how = how._replace(moments=moments if by == "running" else None, before=known)
    return [run(state.params, inputs, how) for state in states]


def _view(value: Tensor) -> Tensor:
    """The same values as a new node of the graph, still connected to what computed them."""
    return value.view_as(value) if value.requires_grad else _leaf(value)


def _leaf(value: Tensor) -> Tensor:
    """The same values as a new leaf of the graph, cut off from what computed them."""
    return value.detach().requires_grad_()
