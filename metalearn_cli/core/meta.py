"""What every learner of this package is made of: meta-parameters, an inner loop, and a score per inner step.

Everything here is written for a batch of tasks, with a leading T on whatever differs from task to task.

Legend: T tasks, N examples, K inner steps.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from metalearn_cli.core.chance import examples_after
from metalearn_cli.core.network import Params
from metalearn_cli.core.norm import statistics_of_first
from metalearn_cli.core.rules import Rule
from metalearn_cli.core.tasks import Examples, Task

Statistics = Literal["transductive", "support"]


class Meta(NamedTuple):
    """All that the outer optimizer owns, shared by all tasks: initial parameters and learned coefficients, by name."""

    params: Params
    coefficients: Params


class Adapted(NamedTuple):
    """T learners after some inner steps, each on its support set; plain tensors, so that they can be stored.

    `params` are [T, ...] by name; `support` holds the support inputs [T, N, ...] that the norms may need again at
    prediction time.
    """

    params: Params
    support: Tensor


class Scores(NamedTuple):
    """Query loss and query score (accuracy, or mean squared error) of each task, [T], or [T, K + 1] by inner step."""

    loss: Tensor
    score: Tensor


class Objective(NamedTuple):
    """What a task asks for: `loss(outputs, targets)` [T] is minimised, `score(outputs, targets)` [T] is reported."""

    name: Literal["accuracy", "mse"]
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], Tensor]


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean over N of the cross-entropy of `outputs` [T, N, ways] with classes `targets` [T, N]."""
    each = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
    return each.view(targets.shape).mean(1)


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The share of the N rows of `outputs` [T, N, ways] whose largest entry is at `targets` [T, N].

    A row that is not finite says nothing, so it is wrong: its largest entry would be one that happens to come first.
    """
    right = (outputs.argmax(-1) == targets) & outputs.isfinite().all(-1)
    return right.to(outputs.dtype).mean(1)


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean of (outputs - targets)^2 over all but T."""
    return (outputs - targets).square().flatten(1).mean(1)


classification = Objective("accuracy", cross_entropy, accuracy)
regression = Objective("mse", squared_error, squared_error)


class Answering(Protocol):
    """What can be measured: a learner, or several that answer together."""

    @property
    def objective(self) -> Objective:
        """How answers are judged."""

    def answers(self, meta: Meta, support: Examples, inputs: Tensor, steps: Sequence[int]) -> list[Tensor]:
        """Outputs [T, N, outputs] for `inputs` after each of these numbers of inner steps on `support`."""


class Learner(NamedTuple):
    """What an algorithm's `build` returns: functions that the runtime runs without knowing which they are.

    `init()` gives the meta-parameters at the start; `adapt(meta, support, steps)` the states after 0..steps inner
    steps; `predict(adapted, inputs)` outputs [T, N, outputs]; `meta_gradient(meta, tasks)` the gradient for Meta,
    summed over the tasks, and the query scores after the last inner step. None of them changes what it is given, and
    no task sees another: T tasks at once equal one at a time. `second_order` (None: there are no inner gradients) and
    `inner_steps` say what `meta_gradient` does; `ways` is the number of classes it is tied to, or None.

    Where what is minimised changes while training goes on, `during(iteration)` is the meta-gradient of an iteration
    and `meta_gradient` what it comes to in the end. `most_steps` bounds the steps that `adapt` can take.
    Where not `uses_network`, an adapted learner's head reads flattened inputs, and all else in it is idle.
    Where the meta-gradient is that of a limit which the inner steps approach, `settled` is the same learner with
    settings that reach it.
    Where it tells `classes` of the training part apart, `meta_gradient` takes their numbers in that part for targets.
    Where it `reads_directions`, its head sees features of length one.
    Where there is a cheaper way to the outputs of several states of one support set than one state after the other,
    `predict_each(states, inputs)` goes it.
    """

    init: Callable[[], Meta]
    adapt: Callable[[Meta, Examples, int], list[Adapted]]
    predict: Callable[[Adapted, Tensor], Tensor]
    meta_gradient: Callable[[Meta, Task], tuple[Meta, Scores]]
    objective: Objective
    inner_steps: int
    second_order: bool | None
    ways: int | None
    during: Callable[[int], Callable[[Meta, Task], tuple[Meta, Scores]]] | None = None
    most_steps: int | None = None
    uses_network: bool = True
    settled: "Learner | None" = None
    classes: int | None = None
    reads_directions: bool = False
    predict_each: Callable[[Sequence[Adapted], Tensor], list[Tensor]] | None = None

    def meta_gradient_at(self, iteration: int) -> Callable[[Meta, Task], tuple[Meta, Scores]]:
        """The meta-gradient that iteration 0, 1, ... of training follows; one function as long as it is the same."""
        return self.meta_gradient if self.during is None else self.during(iteration)

    def answers(self, meta: Meta, support: Examples, inputs: Tensor, steps: Sequence[int]) -> list[Tensor]:
        """As Answering says."""
        every = self.adapt(meta, support, max(steps))
        states = [every[step] for step in steps]
        if self.predict_each is not None:
            return self.predict_each(states, inputs)
        return [self.predict(state, inputs) for state in states]


class InnerLoop(NamedTuple):
    """How one task is learned: which network and objective, which parameters move (`fast`), and by which rule."""

    network: Callable[[Params, Tensor], Tensor]
    objective: Objective
    rule: Rule
    second_order: bool
    fast: Callable[[str], bool] = lambda _name: True

    def split(self, params: Params) -> tuple[Params, Params]:
        """The parameters that move, and those that stay."""
        fast = {name: value for name, value in params.items() if self.fast(name)}
        return fast, {name: value for name, value in params.items() if name not in fast}


def adapt(loop: InnerLoop, meta: Meta, support: Examples, steps: int) -> list[Adapted]:
    """The parameters after 0, 1, ..., `steps` inner steps on `support` (Finn et al. 2017, algorithm 2, lines 5-6).

    Where `meta` is to be differentiated, every step stays differentiable with `loop.second_order`; without it the
    inner gradients count as constants (first-order MAML, section 5.2). Where it is not, no graph is left behind.
    """
    states = [unadapted(meta, support)]
    fast, slow = loop.split(states[0].params)
    for step in range(steps):
        fast = stepped(loop, meta.coefficients, fast, slow, support, step)
        states.append(Adapted({**slow, **fast}, support.inputs))
    return states


def unadapted(meta: Meta, support: Examples) -> Adapted:
    """The initial parameters for each of the T tasks of `support`, before any inner step."""
    tasks = len(support.targets)
    each: Params = {name: _Shared.apply(value, tasks) for name, value in meta.params.items()}  # type: ignore[no-untyped-call]
    return Adapted(each, support.inputs)


def stepped(loop: InnerLoop, coefficients: Params, fast: Params, slow: Params, support: Examples, step: int) -> Params:
    """The fast parameters [T, ...] after inner step number `step`."""
    change = loop.rule.update(coefficients, support_gradient(loop, fast, slow, support), step)
    return {name: value + change[name] for name, value in fast.items()}


def support_gradient(loop: InnerLoop, fast: Params, slow: Params, support: Examples) -> Params:
    """The gradient of each task's support loss for its fast parameters [T, ...]; a constant in first order."""
    through = loop.second_order and any(value.requires_grad for value in fast.values())
    at = fast if through else _constants(fast)
    still = slow if through else {name: value.detach() for name, value in slow.items()}
    inputs = support.inputs if through else support.inputs.detach()
    with torch.enable_grad():
        losses = loop.objective.loss(loop.network({**still, **at}, inputs), support.targets)
        grads = torch.autograd.grad(losses.sum(), list(at.values()), create_graph=through)
    return dict(zip(at, grads, strict=True))


def predict(
    network: Callable[[Params, Tensor], Tensor], statistics: Statistics, adapted: Adapted, inputs: Tensor
) -> Tensor:
    """Outputs [T, N, outputs] of the adapted networks for inputs [T, N, ...].

    "transductive": the norms take the statistics of `inputs`, as the MAML paper does, so one input changes
    another's output. "support": they take those of the support set, and every input is answered by itself.
    """
    known = adapted.support.shape[1]
    if statistics == "transductive":
        with examples_after(known):
            return network(adapted.params, inputs)
    with statistics_of_first(known):
        return network(adapted.params, torch.cat([adapted.support, inputs], 1))[:, known:]


def scores(learner: Learner, adapted: Adapted, query: Examples) -> Scores:
    """Loss and score [T] of adapted learners, each on its query set."""
    outputs = learner.predict(adapted, query.inputs)
    return Scores(learner.objective.loss(outputs, query.targets), learner.objective.score(outputs, query.targets))


def scores_per_step(learner: Answering, steps: int, meta: Meta, tasks: Task) -> Scores:
    """Query loss and score [T, steps + 1] before and after every inner step."""
    objective, inputs, targets = learner.objective, tasks.query.inputs, tasks.query.targets
    with torch.no_grad():
        after = learner.answers(meta, tasks.support, inputs, range(steps + 1))
        losses, scores = ([judge(outputs, targets) for outputs in after] for judge in (objective.loss, objective.score))
        return Scores(torch.stack(losses, 1), torch.stack(scores, 1))


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
    """The sum of [T, ...] over T."""
    order = sorted(range(1, value.dim()), key=value.stride, reverse=True)
    back = sorted(range(len(order)), key=order.__getitem__)
    return value.permute(0, *order).sum(0).permute(back)


def _constants(params: Params) -> Params:
    """The same values, to be differentiated at, without their history."""
    return {name: value.detach().requires_grad_() for name, value in params.items()}
