"""iMAML: an inner problem solved near the initialisation, and its gradient without a way back through the solver.

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
from metalearn_cli.core.inner_loop import InnerLoop, adapt, after, begun, summed_over_tasks, support_gradient
from metalearn_cli.core.meta import LAST, Implicit, Learner, Meta, Problem, Scores, Traits, scores
from metalearn_cli.core.rules import chain, fixed_rate, pulled_to_start
from metalearn_cli.core.tasks import Task
from metalearn_cli.layers.passing import Params
from metalearn_cli.settings import Choice, Steps


class Config(Choice):
    """All parameters move within a task, held near the initialisation by strength / 2 times their squared distance.

    Without damping the meta-gradient is that of the exact solution of this inner problem, which the inner steps
    approach; its memory does not grow with them. With it, it is another one, for which fewer tasks meet negative
    curvature (docs/algorithms.md).

    `strength`: of the pull to the initialisation (lambda); 2, as in the paper.
    `inner_lr`: the rate of the inner steps on the mean loss over the support set and the pull; with a rate of
        2 / strength or more they move away from the solution.
    `inner_steps` (steps): of gradient descent on the inner problem in training.
    `cg_steps` (steps): of conjugate gradients, each with one Hessian-vector product; 0 leaves the gradient of the query
        loss as it is, which is first-order MAML's.
    `cg_damping`: is added to the identity of the system that they solve, as in the authors' code; 0 for the paper's.
    `strength_damping`: is added to the strength in that system, as in the authors' code; 0 for the paper's.
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


def build(config: Config, problem: Problem) -> Learner:
    """The gradient (I + H / strength)^-1 g (equation 7), with the Hessian H of the support loss and the gradient g of
    the query loss, both where the inner steps end.
    """
    limit = config.model_copy(update=_SETTLED)
    rule = chain(pulled_to_start(config.strength), fixed_rate(config.inner_lr))
    loop = InnerLoop(problem, rule, second_order=False)

    def solved(meta: Meta, tasks: Task) -> tuple[Params, Scores, Solution]:
        """The parameters where the inner steps end, the scores there, and what conjugate gradients make of these."""
        end = after(loop, meta, tasks.support, config.inner_steps)
        at = {name: value.detach().requires_grad_() for name, value in end.params.items()}
        with torch.enable_grad():
            result = scores(learner, end._replace(params=at), tasks.query)
        query = _gradient([result.loss.sum()], at)
        if not config.cg_steps:
            return at, result, Solution(query, torch.zeros_like(result.loss, dtype=torch.bool))
        # The graph of one support gradient serves every product; that of the inner steps was never kept.
        _, read = begun(loop, meta, tasks.support)
        support = list(support_gradient(loop._replace(second_order=True), at, {}, read, 0).values())
        whole, pull = 1 + config.cg_damping, config.strength + config.strength_damping

        def product(vector: Tensor) -> Tensor:
            return whole * vector + _gradient(support, at, _as_in(at, vector)) / pull

        return at, result, conjugate_gradients(product, query, config.cg_steps)

    def meta_gradient(meta: Meta, tasks: Task, iteration: int = LAST) -> tuple[Meta, Scores]:  # noqa: ARG001
        at, result, found = solved(meta, tasks)
        summed = [summed_over_tasks(value) for value in _as_in(at, found.x)]
        return Meta(dict(zip(at, summed, strict=True)), {}), Scores(result.loss.detach(), result.score.detach())

    traits = Traits(config.inner_steps, config.cg_steps > 0, problem.ways)
    learner = gradient_learner(loop, traits)._replace(
        adapt=torch.no_grad()(partial(adapt, loop)), meta_gradient=meta_gradient
    )
    if not config.cg_steps:  # first-order MAML: no limit, no system
        return learner
    settled = None if config == limit else build(limit, problem)
    return learner._replace(implicit=Implicit(settled, lambda meta, tasks: solved(meta, tasks)[2].cut_short))


def _gradient(outputs: list[Tensor], at: Params, cotangents: list[Tensor] | None = None) -> Tensor:
    """The gradient for all parameters of each task in one row, [T, D]; its graph can be used again."""
    inputs = list(at.values())
    found = torch.autograd.grad(outputs, inputs, cotangents, True, allow_unused=True, materialize_grads=True)
    return torch.cat([value.flatten(1) for value in found], 1)


def _as_in(at: Params, rows: Tensor) -> list[Tensor]:
    """Rows [T, D] as parameters [T, ...]."""
    parts = torch.split(rows, [value[0].numel() for value in at.values()], 1)
    return [part.view(value.shape) for part, value in zip(parts, at.values(), strict=True)]
