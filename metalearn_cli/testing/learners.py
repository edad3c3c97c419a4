"""Facts that hold for every learner, one function each. `check_algorithm` and this package's tests call them."""

import torch

from metalearn_cli.core.meta import LAST, Learner, Meta, checkable, scores_per_step
from metalearn_cli.core.tasks import Examples, Task, count
from metalearn_cli.runtime.machine.execution import Plan, running
from metalearn_cli.testing.problems import flat, slope_by_differences
from metalearn_cli.testing.rounding import require_equal, rounding_of

PLANS = (Plan("vmap", 2, 1), Plan("vmap", 64, 1), Plan("threads", 2, 2))
_DISTANCES = (1e-3, 1e-4, 1e-5, 1e-6)
"""Of finite differences: shorter ones have less curvature in them, longer ones fewer roundings."""
_CLEAR = 1e-2
"""The largest error of a difference, relative to the slope, with which it can still tell a wrong gradient."""


def require_shapes(learner: Learner, meta: Meta, tasks: Task) -> None:
    """Assert: the meta-gradient has Meta's form, each task has one score, and each inner step gives finite outputs."""
    before = flat(meta).clone()
    gradient, result = learner.meta_gradient(meta, tasks)
    assert torch.equal(flat(meta), before), "meta_gradient changes the Meta that it is given"
    for part, ours, theirs in zip(Meta._fields, gradient, meta, strict=True):
        if part == "statistics" and not ours:  # they may be left out, and stay as they are
            continue
        found, expected = ({name: list(value.shape) for name, value in one.items()} for one in (ours, theirs))
        assert found == expected, f"the meta-gradient's {part} have shapes {found}, expected {expected} as in Meta"
    for kind, value in result._asdict().items():
        assert value.shape == (count(tasks),), f"{kind} has shape {list(value.shape)}, expected one number a task"
        assert value.isfinite().all(), f"{kind} is not finite: {value.tolist()}"
    steps = learner.traits.inner_steps
    states = learner.adapt(meta, tasks.support, steps)
    assert len(states) == steps + 1, f"adapt gives {len(states)} states, expected {steps + 1}: 0 to {steps} steps"
    again = learner.meta_gradient(meta, tasks)
    assert torch.equal(flat(again[0]), flat(gradient)), "a second meta_gradient of the same Meta and tasks is another"


def require_tasks_at_once_equal_one_at_a_time(
    learner: Learner, alone: Learner, meta: Meta, tasks: Task, plans: tuple[Plan, ...] = PLANS
) -> None:
    """Assert: the meta-gradient of many tasks equals the sum over single tasks, for which `alone` runs its network."""
    with running(Plan("loop", 1, 1)) as runner:
        expected = runner.total(alone.meta_gradient, meta, tasks)
    allowed = rounding_of(lambda at, some: learner.meta_gradient(at, some)[0], meta, tasks)
    for plan in plans:
        with running(plan) as runner:
            found = runner.total(learner.meta_gradient, meta, tasks)
        what = f"the meta-gradient of tasks at once ({plan.mode}, {plan.chunk}) and of one task at a time"
        require_equal(found[0], expected[0], allowed, what)
        away = float((found[1].loss - expected[1].loss).abs().max())
        assert away <= max(allowed, 1e-12), f"the losses of tasks at once ({plan.mode}) differ by {away:.2e}"


def require_training_is_measured(learner: Learner, meta: Meta, tasks: Task) -> None:
    """Assert: the loss in training equals the loss that evaluation computes after the same number of inner steps."""
    found = learner.meta_gradient(meta, tasks, LAST)[1].loss
    expected = scores_per_step(learner, learner.traits.inner_steps, meta, tasks).loss[:, -1]
    assert torch.allclose(found, expected, rtol=1e-11, atol=1e-13), (
        f"training's query losses are {found.tolist()}, those of evaluation {expected.tolist()}; expected the same"
    )


def require_derivative(learner: Learner, meta: Meta, tasks: Task) -> None:
    """Assert: the meta-gradient is the derivative of the query loss, by finite differences along a random direction.

    The error of a difference is estimated from two distances (curvature) and from the rounding of the loss. The
    distance with the smallest error is used, and that error is the tolerance.
    """
    learner = checkable(learner)
    gradient, result = learner.meta_gradient(meta, tasks)
    size = abs(float(result.loss.sum()))

    def loss(at: Meta) -> float:
        return float(learner.meta_gradient(at, tasks)[1].loss.sum())

    trusted = []
    for distance in _DISTANCES:
        # With curvature the slopes of two distances differ; 1000 roundings of the loss are divided by the distance.
        (slope, along), (wider, _) = (slope_by_differences(loss, meta, times * distance) for times in (1, 2))
        trusted.append((abs(slope - wider) + 1000 * torch.finfo(torch.float64).eps * size / distance, slope))
    doubt, slope = min(trusted)
    ours, each = float(flat(gradient) @ flat(along)), flat(gradient)
    # A slope may be 0 by chance; a typical element of the gradient is a scale then, too.
    scale = max(abs(slope), float(each.norm()) / len(each) ** 0.5)
    assert doubt <= max(_CLEAR * scale, 1e-8), (
        f"the query loss has kinks; its slope {slope:.3g} has an error of {doubt:.1g}"
    )
    assert abs(ours - slope) <= doubt, (
        f"the meta-gradient says a slope of {ours:.9g}, differences of the query loss {slope:.9g} with an error of "
        f"{doubt:.1g}; if the learner is first-order, its Traits need second_order=False"
    )


def require_no_query_changes_another(learner: Learner, meta: Meta, tasks: Task) -> None:
    """Assert: with support statistics an answer does not depend on the other queries."""
    state = learner.adapt(meta, tasks.support, learner.traits.inner_steps)[-1]
    together = learner.predict([state], tasks.query.inputs)[0]
    alone = learner.predict([state], tasks.query.inputs[:, :1])[0]
    away = float((together[:, :1] - alone).abs().max())
    assert away <= 1e-10 * max(1.0, float(together.abs().max())), (
        f"with support statistics a query is answered otherwise when others are asked with it, by {away:.2e}"
    )


def is_tied_to_its_classes(learner: Learner, meta: Meta, tasks: Task) -> bool:
    """Whether renumbering the classes of a task changes more than the order of the outputs."""
    ways = int(tasks.support.targets.max()) + 1
    order = torch.arange(ways).roll(1)  # class k becomes class order[k]
    permuted = Examples(tasks.support.inputs, order[tasks.support.targets])
    one, two = (
        learner.predict([learner.adapt(meta, support, learner.traits.inner_steps)[-1]], tasks.query.inputs)[0]
        for support in (tasks.support, permuted)
    )
    return not torch.allclose(two.softmax(-1)[..., order], one.softmax(-1), rtol=1e-8, atol=1e-10)
