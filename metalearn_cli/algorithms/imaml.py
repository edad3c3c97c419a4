"""iMAML: solves an inner problem near the initialisation, and computes its gradient without the solver's steps.

Rajeswaran, Finn, Kakade & Levine 2019, Meta-Learning with Implicit Gradients (https://arxiv.org/abs/1909.04630).

Legend: T tasks, D parameters of the network.
"""

from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from metalearn_cli.core.conjugate_gradients import Solution, conjugate_gradients
from metalearn_cli.core.gradient import gradient_learner
from metalearn_cli.core.inner_loop import InnerLoop, adapt, after, begun, support_gradient
from metalearn_cli.core.meta import LAST, Implicit, Learner, Meta, Problem, Scores, Traits, scores
from metalearn_cli.core.rules import chain, fixed_rate, pulled_to_start
from metalearn_cli.core.shared_parameters import summed_over_tasks
from metalearn_cli.core.tasks import Task
from metalearn_cli.layers.passing import Params
from metalearn_cli.settings import Choice, Steps


class Config(Choice):
    """All parameters move within a task; the term strength / 2 * |parameters - initialisation|^2 holds them near it.

    Without damping, the meta-gradient is that of the exact solution of this inner problem, which the inner steps
    approach. Its memory does not grow with the number of steps. With damping it is the gradient of a more strongly held
    problem, for which fewer tasks meet negative curvature (docs/algorithms.md).

    `strength`: the strength (lambda) of the pull to the initialisation; 2, as in the paper.
    `inner_lr`: the rate of the inner steps on the mean loss over the support set plus the pull. With a rate of
        2 / strength or more the steps move away from the solution.
    `inner_steps` (steps): the number of gradient steps on the inner problem in training.
    `cg_steps` (steps): the number of conjugate gradient steps, each with one Hessian-vector product. 0 uses the query
        gradient as it is, which is first-order MAML.
    `cg_damping`: added to the factor 1 of the identity in the system of conjugate gradients, as in the authors' code; 0
        gives the paper's system.
    `strength_damping`: added to the strength in that system, as in the authors' code; 0 gives the paper's system.
    """

    name: Literal["imaml"] = "imaml"
    strength: float = Field(2.0, gt=0)
    inner_lr: float = Field(0.1, gt=0)
    inner_steps: Steps = 16
    cg_steps: Annotated[int, Field(ge=0, le=100)] = 5
    cg_damping: float = Field(1.0, ge=0)
    strength_damping: float = Field(10.0, ge=0)


_UNDAMPED = {"cg_damping": 0.0, "strength_damping": 0.0}
_SETTLED = {"strength": 1e4, "inner_lr": 1e-4, "inner_steps": 15, "cg_steps": 6, **_UNDAMPED}
"""A pull so strong that a few steps solve the inner problem to rounding, whatever the network."""
_LEAST = 0.1
"""The least curvature of a direction that conjugate gradients take, as a share of that of a flat support loss.

A pull that the support loss all but cancels holds nothing in place: next to zero curvature, one task would have a
meta-gradient a thousand times as long as its query gradient, and drown the others of its meta-batch.
"""


def build(config: Config, problem: Problem) -> Learner:
    """A Learner with the meta-gradient (I + H / strength)^-1 g (equation 7).

    H is the Hessian of the support loss and g the gradient of the query loss, both at the end of the inner steps.
    With damping the system is ((1 + cg_damping) I + H / (strength + strength_damping)) x = g.
    """
    limit = config.model_copy(update=_SETTLED)
    rule = chain(pulled_to_start(config.strength), fixed_rate(config.inner_lr))
    loop = InnerLoop(problem, rule, second_order=False)

    def solved(meta: Meta, tasks: Task) -> tuple[Params, Scores, Solution]:
        """The parameters at the end of the inner steps, the query scores there, and the solution x of the system."""
        end = after(loop, meta, tasks.support, config.inner_steps)
        at = {name: value.detach().requires_grad_() for name, value in end.params.items()}
        with torch.enable_grad():
            result = scores(learner, end._replace(params=at), tasks.query)
        query = _gradient([result.loss.sum()], at)
        if not config.cg_steps:
            return at, result, Solution(query, torch.zeros_like(result.loss, dtype=torch.bool))
        _, read = begun(loop, meta, tasks.support)
        support = list(support_gradient(loop._replace(second_order=True), at, {}, read, 0).values())
        return at, result, _solution(config, at, support, query)

    def meta_gradient(meta: Meta, tasks: Task, iteration: int = LAST) -> tuple[Meta, Scores]:  # noqa: ARG001
        at, result, found = solved(meta, tasks)
        # d solution / d initialisation is already in x, so the sum over tasks is the meta-gradient.
        summed = [summed_over_tasks(value) for value in _as_in(at, found.x)]
        return Meta(dict(zip(at, summed, strict=True)), {}), Scores(result.loss.detach(), result.score.detach())

    traits = Traits(config.inner_steps, config.cg_steps > 0, problem.ways)
    learner = gradient_learner(loop, traits)._replace(
        adapt=torch.no_grad()(partial(adapt, loop)), meta_gradient=meta_gradient
    )
    if not config.cg_steps:  # first-order MAML: it has no system to solve, so nothing of it is implicit
        return learner
    settled = None if config == limit else build(limit, problem)
    return learner._replace(implicit=Implicit(settled, lambda meta, tasks: solved(meta, tasks)[2].cut_short))


def _solution(config: Config, at: Params, support: list[Tensor], query: Tensor) -> Solution:
    """The solution of the system, from the support gradient at the parameters `at` and the query gradient [T, D]."""
    whole, pull = 1 + config.cg_damping, config.strength + config.strength_damping

    # H v for any v is the derivative of the support gradient, weighted by v. So the graph of one support gradient
    # serves all products; the graph of the inner steps was never kept.
    def product(vector: Tensor) -> Tensor:
        return whole * vector + _gradient(support, at, _as_in(at, vector)) / pull

    return conjugate_gradients(product, query, config.cg_steps, _LEAST * whole)


def _gradient(outputs: list[Tensor], at: Params, cotangents: list[Tensor] | None = None) -> Tensor:
    """The gradient for all parameters of each task as one row, [T, D]; the graph is kept for further calls."""
    inputs = list(at.values())
    found = torch.autograd.grad(
        outputs, inputs, cotangents, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([value.flatten(1) for value in found], 1)


def _as_in(at: Params, rows: Tensor) -> list[Tensor]:
    """Rows [T, D] split into tensors with the shapes of the parameters `at`, [T, ...]."""
    parts = torch.split(rows, [value[0].numel() for value in at.values()], 1)
    return [part.view(value.shape) for part, value in zip(parts, at.values(), strict=True)]
