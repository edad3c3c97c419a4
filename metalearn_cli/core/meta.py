"""What every learner of this package is made of: meta-parameters, adapted states, and how answers are judged.

Everything here is written for a batch of tasks, with a leading T on whatever differs from task to task.

Legend: T tasks, N examples, K inner steps, C channels.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.layers.network import Network
from metalearn_cli.layers.passing import Params

Statistics = Literal["transductive", "support", "running"]
"""Whose statistics the norms take when queries are predicted: the queries' own, the support set's, or training's."""


class Meta(NamedTuple):
    """All that training changes, shared by all tasks: initial parameters and learned coefficients, by name.

    `statistics` are the running means and variances of the network's norms, "NAME.mean" and "NAME.variance" [C]; none
    without `task.running_statistics`. They are counted, not learned.
    """

    params: Params
    coefficients: Params
    statistics: Params = {}  # noqa: RUF012  (never changed)


class Adapted(NamedTuple):
    """T learners after some inner steps, each on its support set: all that a prediction needs, as plain tensors.

    `params` are [T, ...] by name, `support` the support inputs [T, N, ...], whose statistics the norms may need again.
    `moments` are the running statistics of Meta; `keys` [T] those of training tasks.
    """

    params: Params
    support: Tensor
    moments: Params = {}  # noqa: RUF012  (never changed)
    keys: Tensor | None = None


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


class Problem(NamedTuple):
    """What an algorithm's `build` is given to learn with.

    `ways` is the number of classes that the network's head has outputs for; None where numbers are predicted.
    """

    network: Network
    objective: Objective
    statistics: Statistics = "transductive"
    ways: int | None = None


LAST = 10**9
"""An iteration that no run goes beyond: a meta-gradient in it is what training comes to in the end."""


class MetaGradient(Protocol):
    """The gradient for Meta, summed over the tasks, and their query scores after the last inner step."""

    def __call__(self, meta: Meta, tasks: Task, iteration: int = LAST) -> tuple[Meta, Scores]: ...


class Answering(Protocol):
    """What can be measured: a learner, or several that answer together."""

    @property
    def objective(self) -> Objective:
        """How answers are judged."""

    def answers(self, meta: Meta, support: Examples, inputs: Tensor, steps: Sequence[int]) -> list[Tensor]:
        """Outputs [T, N, outputs] for `inputs` after each of these numbers of inner steps on `support`."""


class Predict(Protocol):
    """Outputs [T, N, outputs] of each of several states of the same support set, for inputs [T, N, ...].

    With `collected` the network's norms add to it the moments of what they see (only training with running
    statistics).
    """

    def __call__(self, states: Sequence[Adapted], inputs: Tensor, collected: Params | None = None) -> list[Tensor]: ...


class Traits(NamedTuple):
    """Facts about a learner that those who run it must know.

    `inner_steps`: how many steps `meta_gradient` takes.
    `second_order`: whether the meta-gradient goes through the inner gradients; None where there are none.
    `ways`: the number of classes that it is tied to; None for any number (`prepare` and `finetune` ask).
    `most_steps`: the most inner steps that `adapt` can take (only MAML++, which learns rates for each step).
    `classes`: how many training classes it tells apart; the targets of its training tasks are then their numbers in
        the training part (only the baselines).
    `reads`: what an adapted learner's head reads. "directions" are features of length one (only baseline++), "pixels"
        the flattened inputs, with the network unused (only nearest).
    `remarks`: lines for a person who runs it, such as how a network of their own goes.
    """

    inner_steps: int = 0
    second_order: bool | None = None
    ways: int | None = None
    most_steps: int | None = None
    classes: int | None = None
    reads: Literal["features", "directions", "pixels"] = "features"
    remarks: tuple[str, ...] = ()


class Learner(NamedTuple):
    """What an algorithm's `build` returns: functions that the runtime runs without knowing which they are.

    None of them changes what it is given, and no task sees another: T tasks at once equal one at a time.

    `init()`: the meta-parameters at the start.
    `adapt(meta, support, steps)`: the states after 0, 1, ..., steps inner steps on a support set.
    `predict(states, inputs)`: outputs [T, N, outputs] of each state.
    `meta_gradient(meta, tasks, iteration)`: the gradient for Meta, summed over the tasks, and the query scores.
    `phase(iteration)`: equal for iterations in which `meta_gradient` is the same function, so that a GPU can replay it
        (only MAML++ has more than one phase).
    `implicit`: what can be asked of a gradient that is not that of the inner steps themselves (only iMAML).
    """

    init: Callable[[], Meta]
    adapt: Callable[[Meta, Examples, int], list[Adapted]]
    predict: Predict
    meta_gradient: MetaGradient
    objective: Objective
    traits: Traits
    phase: Callable[[int], Hashable] = lambda _iteration: None
    implicit: "Implicit | None" = None

    def answers(self, meta: Meta, support: Examples, inputs: Tensor, steps: Sequence[int]) -> list[Tensor]:
        """Outputs [T, N, outputs] for `inputs` after each of these numbers of inner steps; nothing is random."""
        every = self.adapt(meta, support._replace(keys=None), max(steps))
        return self.predict([every[step] for step in steps], inputs)


class Implicit(NamedTuple):
    """The meta-gradient of a limit that the inner steps approach (only iMAML).

    `settled`: the same learner with settings that reach the limit, so that finite differences can check it; None where
        its own do.
    `cut_short(meta, tasks)`: for which tasks [T] negative curvature ended conjugate gradients early.
    """

    settled: Learner | None
    cut_short: Callable[[Meta, Task], Tensor]


def checkable(learner: Learner) -> Learner:
    """The learner itself, or the one of the same kind whose meta-gradient finite differences can check."""
    return learner if learner.implicit is None or learner.implicit.settled is None else learner.implicit.settled


def with_settled(learner: Learner, change: Callable[[Learner], Learner]) -> Learner:
    """The learner with its settled one changed as it was itself, where it has one (only iMAML)."""
    if learner.implicit is None or learner.implicit.settled is None:
        return learner
    return learner._replace(implicit=learner.implicit._replace(settled=change(learner.implicit.settled)))


def scores(learner: Learner, adapted: Adapted, query: Examples) -> Scores:
    """Loss and score [T] of adapted learners, each on its query set."""
    outputs = learner.predict([adapted], query.inputs)[0]
    return Scores(learner.objective.loss(outputs, query.targets), learner.objective.score(outputs, query.targets))


def scores_per_step(learner: Answering, steps: int, meta: Meta, tasks: Task) -> Scores:
    """Query loss and score [T, steps + 1] before and after every inner step."""
    objective, inputs, targets = learner.objective, tasks.query.inputs, tasks.query.targets
    with torch.no_grad():
        after = learner.answers(meta, tasks.support, inputs, range(steps + 1))
        losses, scores = ([judge(outputs, targets) for outputs in after] for judge in (objective.loss, objective.score))
        return Scores(torch.stack(losses, 1), torch.stack(scores, 1))
