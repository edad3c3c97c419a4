"""MAML++: MAML with five remedies for its training, each of which can be switched on and off.

Antoniou, Edwards & Storkey 2019, How to Train Your MAML (https://arxiv.org/abs/1810.09502), section 4. The fifth
remedy, an outer rate that falls along a cosine, is `outer.schedule: cosine`.
"""

from typing import Annotated, Literal

from pydantic import Field

from metalearn_cli.core.gradient import gradient_learner, reverse_mode
from metalearn_cli.core.inner_loop import InnerLoop, adapt
from metalearn_cli.core.meta import Learner, Meta, Problem, Scores, Traits, scores
from metalearn_cli.core.rules import fixed_rate, rates_per_step
from metalearn_cli.core.tasks import Task
from metalearn_cli.layers.norm import NORMS
from metalearn_cli.layers.passing import Params
from metalearn_cli.settings import Choice, Steps

_LEAST_SHARE = 0.03


class Config(Choice):
    """MAML with the remedies, each of which can be left out.

    `inner_lr`: the initial value of all rates, on the mean loss over the support set.
    `inner_steps` (steps): the number of inner steps in training.
    `second_order`: whether the meta-gradient goes through the inner gradients; false is the first-order form.
    `learned_rates`: whether every tensor of parameters has a learned rate for every inner step.
    `per_step_norm`: whether every norm (also group norms) has its own scale and shift for every inner step, learned in
        training and fixed within a task.
    `multi_step_iterations` (iterations): for so many iterations the query loss after every inner step counts, that of
        the last step more and more; 0 for never. The default is a choice of ours.
    `first_order_iterations` (iterations): for so many iterations the meta-gradient is first-order; 0 for never, as in
        the paper's code.
    """

    name: Literal["maml_plus_plus"] = "maml_plus_plus"
    inner_lr: float = Field(0.1, gt=0)
    inner_steps: Annotated[Steps, Field(ge=1)] = 5
    second_order: bool = True
    learned_rates: bool = True
    per_step_norm: bool = True
    multi_step_iterations: int = Field(5000, ge=0)
    first_order_iterations: int = Field(0, ge=0)


def build(config: Config, problem: Problem) -> Learner:
    """MAML with the chosen remedies.

    With learned rates or norms per step it learns values for `inner_steps` steps, so it cannot take more in a test.
    """
    steps, network = config.inner_steps, problem.network
    norms = network.parameters_of(NORMS) if config.per_step_norm else frozenset()
    rule = rates_per_step(config.inner_lr, steps) if config.learned_rates else fixed_rate(config.inner_lr)

    def of_step(params: Params, step: int) -> Params:
        """The parameters that the network gets in inner step `step`: of the norms' [T, K, ...] those of that step."""
        return {name: value[:, step] if name in norms else value for name, value in params.items()}

    loop = InnerLoop(problem, rule, config.second_order, lambda name: name not in norms, shown=of_step)

    def query_scores(meta: Meta, tasks: Task, iteration: int) -> Scores:
        exact, weights = phase(iteration)
        # The loss is the weighted sum of the query losses after each step; steps of weight 0 are not predicted at all.
        after = adapt(loop._replace(second_order=exact), meta, tasks.support, steps)[1:]
        counted = [(w, scores(learner, state, tasks.query)) for w, state in zip(weights, after, strict=True) if w]
        loss = sum((weight * one.loss for weight, one in counted[1:]), counted[0][0] * counted[0][1].loss)
        return Scores(loss, counted[-1][1].score)

    # The phase is all that the meta-gradient depends on besides its arguments, so equal phases mean the same function.
    def phase(iteration: int) -> tuple[bool, tuple[float, ...]]:
        exact = config.second_order and iteration >= config.first_order_iterations
        return exact, tuple(multi_step_weights(steps, iteration, config.multi_step_iterations))

    # Scales and shifts of norms get an axis of K steps; `of_step` selects from it.
    repeated = {n: v.repeat(steps, *[1] * v.dim()) if n in norms else v for n, v in network.initial().items()}
    bound = steps if config.learned_rates or norms else None
    learner = gradient_learner(loop, Traits(steps, config.second_order, problem.ways, bound), params=repeated)._replace(
        meta_gradient=reverse_mode(query_scores), phase=phase
    )
    return learner


def multi_step_weights(steps: int, iteration: int, iterations: int) -> list[float]:
    """The weights of the query losses after 1, 2, ..., `steps` inner steps in an iteration; their sum is 1.

    At iteration 0 all weights are 1 / steps. All but the last then fall linearly to 0.03 / steps, and from `iterations`
    on the last weight is 1 and all others are 0 (section 4, "MSL"; the bound 0.03 is from the paper's code).
    """
    if iteration >= iterations:
        return [0.0] * (steps - 1) + [1.0]
    each = max(1 - iteration / iterations, _LEAST_SHARE) / steps
    return [each] * (steps - 1) + [1 - (steps - 1) * each]
