"""The meta-gradient against finite differences, closed forms and identities; float64 throughout."""

from functools import partial

import pytest
import torch
from torch import nn

from metalearn_cli.algorithms import maml
from metalearn_cli.backbones import conv4
from metalearn_cli.core.gradient import mixed_mode, reverse_mode
from metalearn_cli.core.inner_loop import InnerLoop, adapt, predict
from metalearn_cli.core.meta import Learner, Meta, Problem, Scores
from metalearn_cli.core.objectives import classification, regression
from metalearn_cli.core.rules import of_gradient
from metalearn_cli.core.tasks import Task
from metalearn_cli.layers.network import Network
from metalearn_cli.testing import problems
from tests import reference


def learner_on_smooth_network(steps: int, second_order: bool, inner_lr: float = 0.5) -> Learner:
    config = maml.Config(inner_lr=inner_lr, inner_steps=steps, second_order=second_order)
    return maml.build(config, Problem(problems.smooth_network(), classification, "transductive", problems.WAYS))


def relative_error(learner: Learner, task: Task) -> float:
    meta = problems.double(learner.init())
    gradient = learner.meta_gradient(meta, task)[0]
    slope, along = problems.slope_by_differences(lambda m: float(learner.meta_gradient(m, task)[1].loss), meta)
    ours = float(problems.flat(gradient) @ problems.flat(along))
    return abs(ours - slope) / abs(slope)


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_second_order_gradient_equals_finite_differences(steps):
    task = problems.picture_tasks(1)
    assert relative_error(learner_on_smooth_network(steps, second_order=True), task) < 1e-7


@pytest.mark.parametrize("steps", [1, 3])
def test_first_order_gradient_does_not_equal_finite_differences(steps):
    task = problems.picture_tasks(1)
    assert relative_error(learner_on_smooth_network(steps, second_order=False), task) > 1e-2


def test_first_and_second_order_differ_but_agree_on_the_loss():
    task = problems.picture_tasks(1)
    first, second = learner_on_smooth_network(2, False), learner_on_smooth_network(2, True)
    meta = problems.double(first.init())
    gradient1, scores1 = first.meta_gradient(meta, task)
    gradient2, scores2 = second.meta_gradient(meta, task)
    torch.testing.assert_close(scores1, scores2, rtol=1e-12, atol=0)
    difference = (problems.flat(gradient1) - problems.flat(gradient2)).norm() / problems.flat(gradient2).norm()
    assert difference > 0.05


def test_first_order_gradient_is_the_query_gradient_at_the_adapted_parameters():
    task = problems.picture_tasks(1)
    learner = learner_on_smooth_network(3, second_order=False)
    meta = problems.double(learner.init())
    adapted = learner.adapt(meta, task.support, 3)[-1]
    at = {name: value.detach().clone().requires_grad_() for name, value in adapted.params.items()}
    loss = classification.loss(problems.smooth_network()(at, task.query.inputs), task.query.targets)
    expected = torch.autograd.grad(loss.sum(), list(at.values()))
    found = learner.meta_gradient(meta, task)[0].params
    for name, value in zip(at, expected, strict=True):
        torch.testing.assert_close(found[name], value[0], rtol=1e-10, atol=1e-14)


def test_no_inner_steps_give_the_gradient_of_joint_training():
    task = problems.picture_tasks(1)
    learner = learner_on_smooth_network(0, second_order=True)
    meta = problems.double(learner.init())
    at = {name: value.clone().unsqueeze(0).requires_grad_() for name, value in meta.params.items()}
    loss = classification.loss(problems.smooth_network()(at, task.query.inputs), task.query.targets)
    expected = torch.autograd.grad(loss.sum(), list(at.values()))
    found = learner.meta_gradient(meta, task)[0].params
    for name, value in zip(at, expected, strict=True):
        torch.testing.assert_close(found[name], value[0], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("steps", [1, 4])
def test_linear_regression_has_the_closed_form_of_the_paper(steps):
    rate, task = 0.1, problems.value_tasks(1, inputs=3)
    linear = nn.Linear(3, 1, bias=False)
    config = maml.Config(inner_lr=rate, inner_steps=steps)
    learner = maml.build(config, Problem(Network(linear), regression, "transductive", None))
    meta = problems.double(learner.init())
    weights = meta.params["weight"].squeeze(0)

    def pieces(part):  # the mean squared error is w A w / 2 - b w + c
        x, y = part.inputs[0], part.targets[0].squeeze(-1)
        return 2 * x.T @ x / len(x), 2 * x.T @ y / len(x)

    (a_support, b_support), (a_query, b_query) = pieces(task.support), pieces(task.query)
    shrink = torch.eye(3, dtype=torch.float64) - rate * a_support
    for _ in range(steps):
        weights = weights - rate * (a_support @ weights - b_support)
    expected = torch.linalg.matrix_power(shrink, steps) @ (a_query @ weights - b_query)
    found = learner.meta_gradient(meta, task)[0].params["weight"].squeeze(0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_first_order_equals_second_order_where_the_support_loss_is_linear():
    objective = regression._replace(loss=lambda outputs, targets: (outputs * targets).flatten(1).mean(1))
    task = problems.value_tasks(1, inputs=3)
    gradients = []
    for second_order in (False, True):
        config = maml.Config(inner_lr=0.3, inner_steps=2, second_order=second_order)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = Network(nn.Linear(3, 1))
        learner = maml.build(config, Problem(network, objective, "transductive", None))
        gradients.append(problems.flat(learner.meta_gradient(problems.double(learner.init()), task)[0]))
    torch.testing.assert_close(*gradients, rtol=1e-13, atol=1e-15)


def test_neither_adapting_nor_differentiating_changes_the_meta_parameters():
    task = problems.picture_tasks(1)
    learner = learner_on_smooth_network(2, second_order=True)
    meta = problems.double(learner.init())
    before = Meta(*({name: value.clone() for name, value in part.items()} for part in meta))
    learner.meta_gradient(meta, task)
    learner.predict([learner.adapt(meta, task.support, 4)[-1]], task.query.inputs)[0]
    assert all(torch.equal(meta.params[name], value) for name, value in before.params.items())


@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
def test_tasks_at_once_equal_maml_written_a_second_time(steps, pool, second_order):
    shape, tasks = (1, 16, 16), problems.picture_tasks(3, shape=(1, 16, 16))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = conv4.build(conv4.Config(channels=6, pool=pool), shape, problems.WAYS)
    config = maml.Config(inner_lr=0.3, inner_steps=steps, second_order=second_order)
    learner = maml.build(config, Problem(Network(module), classification, "transductive", problems.WAYS))
    meta = problems.double(learner.init())
    found = learner.meta_gradient(meta, tasks)[0].params
    each = [
        reference.meta_gradient(
            partial(reference.conv4, pool=pool), meta.params, support, query, 0.3, steps, second_order
        )
        for support, query in zip(zip(*tasks.support[:2], strict=True), zip(*tasks.query[:2], strict=True), strict=True)
    ]
    for name, value in found.items():
        expected = torch.stack([one[name] for one in each]).sum(0)
        torch.testing.assert_close(
            value, expected, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("steps", [0, 1, 4, 16, 17, 35])
def test_mixed_mode_equals_reverse_mode(steps, second_order):
    tasks, gradients = problems.picture_tasks(3), []
    for mode in ("reverse", "mixed"):
        config = maml.Config(inner_lr=0.1, inner_steps=steps, second_order=second_order, gradient=mode)
        learner = maml.build(config, Problem(problems.smooth_network(), classification, "support", problems.WAYS))
        gradients.append(learner.meta_gradient(problems.double(learner.init()), tasks))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("second_order", [True, False])
def test_mixed_mode_equals_reverse_mode_with_learned_rates_and_parameters_that_stay(second_order):
    network, tasks = problems.smooth_network(), problems.picture_tasks(2)
    rule = of_gradient(
        lambda rates, name, grad, step: -rates[name] / (step + 1) * grad,
        lambda fast: {name: torch.full_like(value, 0.3) for name, value in fast.items()},
    )
    problem = Problem(network, classification)
    loop = InnerLoop(problem, rule, second_order, moves=lambda name: "body.0" not in name)

    def after(adapted, tasks):
        outputs = predict(loop, [adapted], tasks.query.inputs)[0]
        found = (judge(outputs, tasks.query.targets) for judge in (classification.loss, classification.score))
        return Scores(*found)

    def through(meta, tasks, _iteration=0):
        return after(adapt(loop, meta, tasks.support, 3)[-1], tasks)

    params = network.initial()
    meta = problems.double(Meta(params, rule.init(loop.split(params)[0])))
    expected, found = (function(meta, tasks) for function in (reverse_mode(through), mixed_mode(loop, 3, after)))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)
    slope, along = problems.slope_by_differences(lambda m: float(through(m, tasks).loss.sum()), meta)
    ours = float(problems.flat(found[0]) @ problems.flat(along))
    assert (abs(ours - slope) / abs(slope) < 1e-6) == second_order
