"""What every learner of this package is made of: meta-parameters, an inner loop, and a score per inner step.

Legend: T tasks, N examples, K inner steps.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from metalearn_cli.core.network import Network, Params
from metalearn_cli.core.norm import statistics_of_first
from metalearn_cli.core.rules import Rule
from metalearn_cli.core.tasks import Examples, Task

Statistics = Literal["transductive", "support"]


class Meta(NamedTuple):
    """All that the outer optimizer owns: initial parameters by name, and learned coefficients by name."""

    params: Params
    coefficients: Params


class Adapted(NamedTuple):
    """A learner after some inner steps on one support set; plain tensors, so that it can be stored.

    `support` holds the support inputs [N, ...] that the norms may need again at prediction time.
    """

    params: Params
    support: Tensor


class Scores(NamedTuple):
    """Query loss and query score (accuracy, or mean squared error) as scalars, or as [K + 1] over inner steps."""

    loss: Tensor
    score: Tensor


class Objective(NamedTuple):
    """What a task asks for: `loss(outputs, targets)` is minimised, `score(outputs, targets)` is reported."""

    name: Literal["accuracy", "mse"]
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], Tensor]


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The share of rows of `outputs` [N, ways] whose largest entry is at `targets` [N]."""
    return (outputs.argmax(-1) == targets).to(outputs.dtype).mean()


classification = Objective("accuracy", F.cross_entropy, accuracy)
regression = Objective("mse", F.mse_loss, F.mse_loss)


class Learner(NamedTuple):
    """What an algorithm's `build` returns: pure functions that the runtime runs without knowing which they are.

    `init()` gives the meta-parameters at the start; `adapt(meta, support, steps)` the states after 0..steps inner
    steps; `predict(adapted, inputs)` outputs [N, outputs]; `meta_gradient(meta, task)` the gradient for Meta and
    the query scores after the last inner step. `second_order` and `inner_steps` say what `meta_gradient` does;
    `ways` is the number of classes it is tied to, or None.
    """

    init: Callable[[], Meta]
    adapt: Callable[[Meta, Examples, int], list[Adapted]]
    predict: Callable[[Adapted, Tensor], Tensor]
    meta_gradient: Callable[[Meta, Task], tuple[Meta, Scores]]
    objective: Objective
    inner_steps: int
    second_order: bool
    ways: int | None


class InnerLoop(NamedTuple):
    """How one task is learned: which network and objective, which parameters move (`fast`), and by which rule."""

    network: Network
    objective: Objective
    rule: Rule
    second_order: bool
    fast: Callable[[str], bool] = lambda _name: True


def adapt(loop: InnerLoop, meta: Meta, support: Examples, steps: int) -> list[Adapted]:
    """The parameters after 0, 1, ..., `steps` inner steps on `support` (Finn et al. 2017, algorithm 2, lines 5-6).

    With `loop.second_order` each step stays differentiable with respect to `meta`; without it the inner gradients
    count as constants (first-order MAML, section 5.2).
    """
    fast = {name: value for name, value in meta.params.items() if loop.fast(name)}
    slow = {name: value for name, value in meta.params.items() if not loop.fast(name)}

    def support_loss(moving: Params, still: Params) -> Tensor:
        return loop.objective.loss(loop.network({**still, **moving}, support.inputs), support.targets)

    states = [Adapted(meta.params, support.inputs)]
    for step in range(steps):
        # Detached, the inner pass leaves no graph behind: the gradients are constants either way.
        at = (fast, slow) if loop.second_order else (_detached(fast), _detached(slow))
        grads: Params = torch.func.grad(support_loss)(*at)
        change = loop.rule.update(meta.coefficients, grads, step)
        fast = {name: value + change[name] for name, value in fast.items()}
        states.append(Adapted({**slow, **fast}, support.inputs))
    return states


def predict(network: Network, statistics: Statistics, adapted: Adapted, inputs: Tensor) -> Tensor:
    """Outputs [N, outputs] of the adapted network for inputs [N, ...].

    "transductive": the norms take the statistics of `inputs`, as the MAML paper does, so one input changes
    another's output. "support": they take those of the support set, and every input is answered by itself.
    """
    if statistics == "transductive":
        return network(adapted.params, inputs)
    known = adapted.support.shape[0]
    with statistics_of_first(known):
        return network(adapted.params, torch.cat([adapted.support, inputs]))[known:]


def scores(learner: Learner, adapted: Adapted, query: Examples) -> Scores:
    """Loss and score of one adapted learner on a query set."""
    outputs = learner.predict(adapted, query.inputs)
    return Scores(learner.objective.loss(outputs, query.targets), learner.objective.score(outputs, query.targets))


def scores_per_step(learner: Learner, steps: int, meta: Meta, task: Task) -> Scores:
    """Query loss and score [steps + 1] before and after every inner step of one task."""
    after = [scores(learner, state, task.query) for state in learner.adapt(meta, task.support, steps)]
    return Scores(torch.stack([one.loss for one in after]), torch.stack([one.score for one in after]))


def _detached(params: Params) -> Params:
    return {name: value.detach() for name, value in params.items()}
