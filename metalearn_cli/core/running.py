"""Running statistics: what the norms of a network saw in training, kept in Meta beside what is learned.

Ioffe & Szegedy 2015 (https://arxiv.org/abs/1502.03167), algorithm 2, with an exponential mean.

Legend: T tasks, C channels.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from metalearn_cli.core.meta import Adapted, Learner, Meta, Scores
from metalearn_cli.core.network import Network, Params
from metalearn_cli.core.norm import Moments, TaskNorm, known_statistics, watched_statistics
from metalearn_cli.core.tasks import Examples, Task, count
from metalearn_cli.errors import ConfigError

RUNNING, SHARE = "running.", 0.1
"""How the names of running statistics start, and the share of them that an outer step replaces."""

Seen = Literal["transductive", "support", "running"]
MetaGradient = Callable[[Meta, Task], tuple[Meta, Scores]]


def with_running_statistics(learner: Learner, network: Network, reads: bool) -> Learner:
    """The same learner, whose Meta also holds each norm's running mean and variance; with `reads` the norms read them.

    A meta-gradient has their distance to what the norms see in the query sets of adapted learners: an outer step goes
    `SHARE` of the way, whatever the optimizer. Where they are read, no prediction depends on another.

    Raises ConfigError if the network has no norm of batches.
    """
    norms = network.modules_of(TaskNorm)
    if not norms:
        raise ConfigError("task.running_statistics: the backbone has no norms of batches to keep statistics of")
    for name, norm in norms.items():
        norm.label = name
    steps = 0 if learner.second_order is None else learner.inner_steps

    def init() -> Meta:
        params, coefficients = learner.init()
        for name, norm in norms.items():
            coefficients = coefficients | _named(name, (torch.zeros_like(norm.bias), torch.ones_like(norm.bias)))
        return Meta(params, {name: value.detach() for name, value in coefficients.items()})

    def reading(values: Params) -> AbstractContextManager[None]:
        return known_statistics({name: _of(values, name) for name in norms}) if reads else nullcontext()

    def adapt(meta: Meta, support: Examples, steps: int) -> list[Adapted]:
        with reading(meta.coefficients):
            states = learner.adapt(_learned(meta), support, steps)
        kept = {name: value for name, value in meta.coefficients.items() if name.startswith(RUNNING)}
        each = {name: value.expand(len(support.targets), *value.shape) for name, value in kept.items()}
        return [Adapted(state.params | each, state.support) for state in states]

    def predict(adapted: Adapted, inputs: Tensor) -> Tensor:
        shared = {name: value[0] for name, value in adapted.params.items() if name.startswith(RUNNING)}
        with reading(shared):
            return learner.predict(Adapted(without_running(adapted.params), adapted.support), inputs)

    @lru_cache(maxsize=2)
    def watching(inner: MetaGradient) -> MetaGradient:
        def meta_gradient(meta: Meta, tasks: Task) -> tuple[Meta, Scores]:
            gradient, result = inner(_learned(meta), tasks)
            with torch.no_grad():
                adapted = learner.adapt(_learned(meta), tasks.support, steps)[-1]
                with watched_statistics() as seen:
                    learner.predict(adapted, tasks.query.inputs)
            coefficients = gradient.coefficients
            for name in norms:
                if name in seen:
                    now = (count(tasks) * value for value in _of(meta.coefficients, name))
                    away = (mine - total for mine, total in zip(now, seen[name], strict=True))
                    coefficients = coefficients | _named(name, tuple(away))
            return Meta(gradient.params, coefficients), result

        return meta_gradient

    during = learner.during
    return learner._replace(
        init=init,
        adapt=adapt,
        predict=predict,
        predict_each=None,
        meta_gradient=watching(learner.meta_gradient),
        during=None if during is None else lambda iteration: watching(during(iteration)),
        settled=None if learner.settled is None else with_running_statistics(learner.settled, network, reads),
    )


def without_running(params: Params) -> Params:
    """The parameters, or coefficients, that are learned."""
    return {name: value for name, value in params.items() if not name.startswith(RUNNING)}


def _learned(meta: Meta) -> Meta:
    return Meta(meta.params, without_running(meta.coefficients))


def _named(name: str, moments: tuple[Tensor, ...]) -> Params:
    return dict(zip((f"{RUNNING}{name}.mean", f"{RUNNING}{name}.variance"), moments, strict=True))


def _of(values: Params, name: str) -> Moments:
    return values[f"{RUNNING}{name}.mean"], values[f"{RUNNING}{name}.variance"]
