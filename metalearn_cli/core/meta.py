"""The values that every learner consists of: meta-parameters, adapted states, losses and scores.

All functions take a batch of tasks; every tensor that differs from task to task has a leading T.

Legend: T tasks, N examples, K inner steps, C channels.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from metalearn_cli.core.objectives import Objective
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.layers.network import Network
from metalearn_cli.layers.passing import Params

Statistics = Literal["transductive", "support", "running"]
"""The statistics that norms use to predict queries: those of the queries, of the support set, or kept in training."""


class Meta(NamedTuple):
    """Everything that training changes; all tasks share it.

    `params`: the initial parameters, by name. `coefficients`: all other learned numbers, such as inner rates, by name.
    `statistics`: the running means and variances of the network's norms, "NAME.mean" and "NAME.variance" [C]. They are
    averaged, not learned, and empty without `task.running_statistics`. A learner with `Learner.fit` keeps here what it
    fits to the training classes in closed form.

    A gradient for Meta is a Meta too, with the derivative in the place of each value.
    """

    params: Params
    coefficients: Params
    statistics: Params = {}  # noqa: RUF012  (never changed)


def device_of(meta: Meta) -> torch.device:
    """The device that holds the meta-parameters."""
    return next(iter(meta.params.values())).device


class Adapted(NamedTuple):
    """T adapted learners, each after some inner steps on its support set; `predict` needs nothing else.

    `params`: the adapted parameters [T, ...], by name. `support`: the support inputs [T, N, ...], from which norms may
    take statistics again. `moments`: the running statistics of Meta. `keys` [T]: the tasks' keys for random layers, or
    None outside of training.
    """

    params: Params
    support: Tensor
    moments: Params = {}  # noqa: RUF012  (never changed)
    keys: Tensor | None = None


class Scores(NamedTuple):
    """The query loss and the query score of each task: [T], or [T, K + 1] with one column per inner step from 0 to K.

    The score is the accuracy from 0 to 1; for regression it is the mean squared error.
    """

    loss: Tensor
    score: Tensor


class Problem(NamedTuple):
    """The arguments of an algorithm's `build`: a network, an objective, and the norms' statistics for predictions.

    `ways` is the number of classes, which is the number of the head's outputs; None for regression.

    >>> from collections import OrderedDict
    >>> from metalearn_cli.core.objectives import classification
    >>> network = Network(nn.Sequential(OrderedDict(body=nn.Flatten(), head=nn.Linear(64, 3))))
    >>> Problem(network, classification, "support", ways=3).statistics
    'support'
    """

    network: Network
    objective: Objective
    statistics: Statistics = "transductive"
    ways: int | None = None


LAST = 10**9
"""A number beyond every run's last iteration: MAML++'s meta-gradient there is the one that its schedules end with."""


class MetaGradient(Protocol):
    """A function that returns the gradient for Meta, summed over the tasks, and the tasks' query scores [T].

    `iteration` matters only to MAML++, whose loss changes as training goes on.
    """

    def __call__(self, meta: Meta, tasks: Task, iteration: int = LAST) -> tuple[Meta, Scores]: ...


class Answering(Protocol):
    """Anything that `eval` can measure: a Learner or an Ensemble."""

    @property
    def objective(self) -> Objective:
        """The loss and the score of its answers."""

    def answers(self, meta: Meta, support: Examples, inputs: Tensor, steps: Sequence[int]) -> list[Tensor]:
        """The outputs [T, N, outputs] for `inputs`, one tensor for each number of inner steps in `steps`."""


class Predict(Protocol):
    """A function that returns the outputs [T, N, outputs] for inputs [T, N, ...], one tensor for each adapted state.

    All states must come from the same support set. If `collected` is given, the network's norms add the moments of
    their inputs to it (only training with running statistics).
    """

    def __call__(self, states: Sequence[Adapted], inputs: Tensor, collected: Params | None = None) -> list[Tensor]: ...


class ClosedFormFit(Protocol):
    """Meta whose statistics are fitted in closed form.

    `classes` are all pictures of the training classes, in batches of one task whose targets are class numbers;
    `episodes` are validation tasks. Each comes once.
    """

    def __call__(self, meta: Meta, classes: Iterable[Examples], episodes: Iterable[Task]) -> Meta: ...


class Traits(NamedTuple):
    """Facts about a learner that the runtime and the commands read.

    `inner_steps`: the number of inner steps in `meta_gradient`.
    `second_order`: whether the meta-gradient goes through the inner gradients; None if there are no inner gradients.
    `ways`: the only number of classes that it can learn; None for any number. `prepare` and `finetune` read it.
    `most_steps`: the largest number of inner steps that `adapt` can take; None for any number (set only by MAML++,
        which learns rates for each step).
    `classes`: the number of training classes that the learner classifies; the targets of its training tasks are then
        class numbers in the training part (set only by the baselines).
    `reads`: the inputs of an adapted learner's head. "directions" are features of length one (only baseline++).
        "pixels" are the flattened inputs, and the network is never used (only nearest).
    `compiled`: whether its network uses compiled kernels, so that the last bits are theirs and not torch's.
    `remarks`: lines that commands print before they run the learner, such as "these layers run task by task".
    `head`: makes the module that reads an adapted learner's parameters below "head." (by their own names); None for a
        linear layer.
    """

    inner_steps: int = 0
    second_order: bool | None = None
    ways: int | None = None
    most_steps: int | None = None
    classes: int | None = None
    reads: Literal["features", "directions", "pixels"] = "features"
    compiled: bool = False
    remarks: tuple[str, ...] = ()
    head: Callable[[Params], nn.Module] | None = None


class Learner(NamedTuple):
    """The result of an algorithm's `build`: the functions by which the runtime trains and measures it.

    The functions never change their arguments, and no task influences another: T tasks at once give the same as one
    task at a time.

    `init()`: the meta-parameters before training.
    `adapt(meta, support, steps)`: the states after 0, 1, ..., steps inner steps on a support set.
    `predict(states, inputs)`: the outputs [T, N, outputs] of each state.
    `meta_gradient(meta, tasks, iteration)`: the gradient for Meta, summed over the tasks, and the query scores.
    `phase(iteration)`: a value that changes when `meta_gradient` becomes another function, so that a GPU knows which
        recording to replay (only MAML++ has more than one phase).
    `implicit`: extra functions of a learner whose meta-gradient is not that of its inner steps (only iMAML).
    `fit(meta, classes, episodes)`: Meta after one look at every picture of the training classes, before the first
        meta-step; settings are chosen on validation tasks (only `prototypes` and `metaqda`).

    >>> from metalearn_cli.algorithms import maml
    >>> from metalearn_cli.core.objectives import classification
    >>> from metalearn_cli.testing.problems import double, picture_tasks, smooth_network
    >>> learner = maml.build(maml.Config(), Problem(smooth_network(), classification, ways=3))
    >>> gradient, query_scores = learner.meta_gradient(double(learner.init()), picture_tasks(5))  # of 5 tasks
    >>> gradient.params["head.bias"].shape, query_scores.loss.shape
    (torch.Size([3]), torch.Size([5]))
    """

    init: Callable[[], Meta]
    adapt: Callable[[Meta, Examples, int], list[Adapted]]
    predict: Predict
    meta_gradient: MetaGradient
    objective: Objective
    traits: Traits
    phase: Callable[[int], Hashable] = lambda _iteration: None
    implicit: "Implicit | None" = None
    fit: ClosedFormFit | None = None

    def answers(self, meta: Meta, support: Examples, inputs: Tensor, steps: Sequence[int]) -> list[Tensor]:
        """The outputs [T, N, outputs] for `inputs`, one tensor for each number of inner steps in `steps`.

        Layers that are random in training (drop-block) drop nothing here.
        """
        # Without keys random layers are off.
        every = self.adapt(meta, support._replace(keys=None), max(steps))  # states 0..max(steps), once for all
        return self.predict([every[step] for step in steps], inputs)


class Implicit(NamedTuple):
    """Extra functions of iMAML, whose meta-gradient is that of the exact inner solution, which its steps approach.

    `settled`: the same learner run to convergence, so that finite differences can check its implicit gradient; None
        if the learner itself converges.
    `cut_short(meta, tasks)`: true [T] for tasks in which negative curvature ended conjugate gradients early.
    """

    settled: Learner | None
    cut_short: Callable[[Meta, Task], Tensor]


def checkable(learner: Learner) -> Learner:
    """The learner whose meta-gradient finite differences can check: `learner` itself, or iMAML's `settled`."""
    return learner if learner.implicit is None or learner.implicit.settled is None else learner.implicit.settled


def with_settled(learner: Learner, change: Callable[[Learner], Learner]) -> Learner:
    """The learner with `change` applied to its `settled` learner; without one (all but iMAML) the learner itself.

    Wrappers such as `with_fixed` call it, so that the settled learner is wrapped like the learner.
    """
    if learner.implicit is None or learner.implicit.settled is None:
        return learner
    return learner._replace(implicit=learner.implicit._replace(settled=change(learner.implicit.settled)))


def scores(learner: Learner, adapted: Adapted, query: Examples) -> Scores:
    """The loss and the score [T] of adapted learners on their query sets."""
    outputs = learner.predict([adapted], query.inputs)[0]
    return Scores(learner.objective.loss(outputs, query.targets), learner.objective.score(outputs, query.targets))


def scores_per_step(learner: Answering, steps: int, meta: Meta, tasks: Task) -> Scores:
    """The query loss and score [T, steps + 1]: column k is after k inner steps, column 0 before the first."""
    objective, inputs, targets = learner.objective, tasks.query.inputs, tasks.query.targets
    # One adaptation of `steps` steps gives the answers after every step.
    with torch.no_grad():
        after = learner.answers(meta, tasks.support, inputs, range(steps + 1))
        losses, scores = ([judge(outputs, targets) for outputs in after] for judge in (objective.loss, objective.score))
        return Scores(torch.stack(losses, 1), torch.stack(scores, 1))
