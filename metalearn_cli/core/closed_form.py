"""Learners that solve a task in closed form; their prior is fitted to the training classes, also in closed form.

Legend: T tasks, N examples, W ways, F features.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from metalearn_cli.core.calibration import best_temperature, negative_log_likelihood
from metalearn_cli.core.gradient import reverse_mode
from metalearn_cli.core.heads import is_head, support_features
from metalearn_cli.core.inner_loop import InnerLoop, adapt, nothing, query_features
from metalearn_cli.core.meta import Adapted, Learner, Meta, Problem, Scores, Traits, scores
from metalearn_cli.core.shared_parameters import for_tasks
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.layers.passing import Params

Answer = Callable[[Params, Tensor], Tensor]
"""Outputs [T, N, W] for an adapted learner's parameters [T, ...] and features [T, N, F]."""


class ClosedForm(NamedTuple):
    """The solution of a task: `begin(meta, support)` returns the head's parameters [T, ...], `answer` its outputs.

    `support` has features [T, N, F] in the place of inputs. `coefficients` and `statistics` are the initial values of
    those parts of Meta.
    """

    begin: Callable[[Meta, Examples], Params]
    answer: Answer
    coefficients: Params
    statistics: Params


def closed_form_learner(problem: Problem, form: ClosedForm, traits: Traits) -> Learner:
    """The Learner whose tasks take no inner steps; its meta-gradient is exact, for the body and the coefficients.

    Its statistics are fitted (`Learner.fit`), not learned: a meta-gradient leaves them out, so that they stay.
    """

    def begin(meta: Meta, params: Params, support: Examples) -> Params:
        # Without the network's own head: it has rows for the classes of training, and nothing reads it.
        body = {name: value for name, value in params.items() if not is_head(name)}
        return body | form.begin(meta, support_features(problem, meta, params, support))

    loop = InnerLoop(problem, moves=nothing, begin=begin)

    def init() -> Meta:
        parts = ({name: value.clone() for name, value in part.items()} for part in (form.coefficients, form.statistics))
        return Meta(problem.network.initial(), *parts)

    def predict(states: Sequence[Adapted], inputs: Tensor, collected: Params | None = None) -> list[Tensor]:
        # No step moves the body, so one pass through it serves all states.
        features = query_features(problem, states[0], inputs, collected)
        return [form.answer(state.params, features) for state in states]

    # `learner` is made below; the function reads it when it is called.
    def query_scores(meta: Meta, tasks: Task, _iteration: int) -> Scores:
        return scores(learner, adapt(loop, meta, tasks.support, 0)[0], tasks.query)

    learner = Learner(
        init=init,
        adapt=partial(adapt, loop),
        predict=predict,
        meta_gradient=reverse_mode(query_scores),
        objective=problem.objective,
        traits=traits,
    )
    return learner


def features_in(problem: Problem, meta: Meta, classes: Iterable[Examples]) -> Iterator[tuple[Tensor, Tensor]]:
    """The body's features [N, F] and the class numbers [N] of pictures that come as batches of one task."""
    for batch in classes:
        with torch.no_grad():
            known = support_features(problem, meta, for_tasks(meta.params, 1), batch)
        yield known.inputs[0], known.targets[0]


def tasks_in(problem: Problem, meta: Meta, episodes: Iterable[Task]) -> Iterator[Task]:
    """The tasks with the body's features [T, N, F] in the place of inputs.

    A support set and its queries go through the body apart.
    """
    for tasks in episodes:
        with torch.no_grad():
            params = for_tasks(meta.params, len(tasks.support.targets))
            yield Task(*(support_features(problem, meta, params, half) for half in tasks))


class Trial(NamedTuple):
    """The result of settings on validation tasks: the negative log likelihood at the best scale, and this scale."""

    loss: float
    scale: float


def trial_of(answers: Iterable[tuple[Tensor, Tensor]]) -> Trial:
    """The Trial of outputs [T, N, W] with targets [T, N], which come in parts.

    One scale, the best one, multiplies all outputs. So settings are compared by the order and the relative distances of
    their outputs, and not by their size.
    """
    parts = [(outputs.flatten(0, -2), targets.flatten()) for outputs, targets in answers]
    outputs, targets = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    # Division by a temperature T is multiplication by the scale 1 / T.
    temperature = best_temperature(outputs, targets)
    return Trial(float(negative_log_likelihood(outputs / temperature, targets)), 1 / temperature)
