"""iMAML: the gradient of an inner problem's exact solution, whichever way the solution was found; all in float64."""

import pytest
import torch
from torch import nn

from metalearn_cli.algorithms import imaml, maml
from metalearn_cli.core.conjugate_gradients import Solution, conjugate_gradients
from metalearn_cli.core.meta import Learner, Meta, Problem, checkable
from metalearn_cli.core.objectives import classification, regression
from metalearn_cli.core.tasks import Task
from metalearn_cli.layers.network import Network
from metalearn_cli.testing import problems

UNDAMPED = {"cg_damping": 0.0, "strength_damping": 0.0}
SOLVED = {"strength": 10.0, "inner_lr": 0.05, "inner_steps": 80, "cg_steps": 40, **UNDAMPED}


def built(statistics: str = "transductive", **settings) -> Learner:
    config = imaml.Config(**settings)
    return imaml.build(config, Problem(problems.smooth_network(), classification, statistics, problems.WAYS))


def relative_error(learner: Learner, task: Task) -> float:
    meta = problems.double(learner.init())
    gradient = learner.meta_gradient(meta, task)[0]
    slope, along = problems.slope_by_differences(lambda m: float(learner.meta_gradient(m, task)[1].loss.sum()), meta)
    return abs(float(problems.flat(gradient) @ problems.flat(along)) - slope) / abs(slope)


def positive_systems(tasks: int, unknowns: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(tasks, unknowns, unknowns, generator=generator, dtype=torch.float64)
    right = torch.randn(tasks, unknowns, generator=generator, dtype=torch.float64)
    return root @ root.mT + torch.eye(unknowns, dtype=torch.float64), right


def solved(matrices: torch.Tensor, right: torch.Tensor, steps: int, least: float = 0.0) -> Solution:
    return conjugate_gradients(lambda v: (matrices @ v.unsqueeze(-1)).squeeze(-1), right, steps, least)


def test_as_many_conjugate_gradients_as_unknowns_solve_a_system():
    matrices, right = positive_systems(3, 6)
    found = solved(matrices, right, 6).x
    torch.testing.assert_close(found, torch.linalg.solve(matrices, right), rtol=1e-9, atol=1e-12)


def test_more_conjugate_gradients_than_it_takes_spoil_nothing():
    matrices, right = positive_systems(3, 6)
    right[1] = 0
    found = solved(matrices, right, 60).x
    torch.testing.assert_close(found, torch.linalg.solve(matrices, right), rtol=1e-11, atol=1e-13)


def test_a_direction_of_negative_curvature_ends_the_task_that_has_it_and_no_other():
    matrices, right = positive_systems(2, 4)
    matrices[0] = torch.diag(torch.tensor([-1.0, -1, -1, -1], dtype=torch.float64))
    found, cut_short = solved(matrices, right, 4)
    assert cut_short.tolist() == [True, False]
    assert not found[0].any()
    torch.testing.assert_close(found[1], torch.linalg.solve(matrices[1], right[1]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_product_that_is_not_finite_is_not_hidden_and_spoils_no_other_task(steps):
    matrices, right = positive_systems(2, 4)
    matrices[0] = torch.nan
    found, cut_short = solved(matrices, right, steps)
    assert found[0].isnan().all()
    torch.testing.assert_close(found[1:], solved(matrices[1:], right[1:], steps).x, rtol=1e-12, atol=1e-14)
    assert not cut_short.any()


def test_no_step_is_longer_than_the_least_curvature_allows():
    # 4,000 systems whose curvatures cross zero, so that some directions have next to none.
    matrices, right = positive_systems(4000, 5)
    matrices -= torch.linspace(0, 8, 4000).double()[:, None, None] * torch.eye(5).double()
    for steps in range(5):
        before, after = solved(matrices, right, steps, 0.5), solved(matrices, right, steps + 1, 0.5)
        residual = right - (matrices @ before.x.unsqueeze(-1)).squeeze(-1)
        assert ((after.x - before.x).norm(dim=1) <= 2 * residual.norm(dim=1) * (1 + 1e-9)).all()
        assert torch.equal(before.x[before.cut_short], after.x[before.cut_short])
        assert 0 < after.cut_short.sum() < 4000


def test_linear_regression_has_the_closed_form_of_the_paper():
    strength, task = 0.5, problems.value_tasks(1, inputs=3)
    config = imaml.Config(strength=strength, inner_lr=0.2, inner_steps=400, cg_steps=3, **UNDAMPED)
    learner = imaml.build(config, Problem(Network(nn.Linear(3, 1, bias=False)), regression, "transductive", None))
    meta = problems.double(learner.init())

    def pieces(part):  # the mean squared error is w A w / 2 - b w + c
        x, y = part.inputs[0], part.targets[0].squeeze(-1)
        return 2 * x.T @ x / len(x), 2 * x.T @ y / len(x)

    (a_support, b_support), (a_query, b_query) = pieces(task.support), pieces(task.query)
    pulled = a_support + strength * torch.eye(3, dtype=torch.float64)
    solution = torch.linalg.solve(pulled, b_support + strength * meta.params["weight"].squeeze(0))
    expected = strength * torch.linalg.solve(pulled, a_query @ solution - b_query)
    found = learner.meta_gradient(meta, task)[0].params["weight"].squeeze(0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    adapted = learner.adapt(meta, task.support, 400)[-1].params["weight"].flatten()
    torch.testing.assert_close(adapted, solution, rtol=1e-12, atol=1e-14)


def test_the_inner_problem_is_solved_where_its_gradient_vanishes():
    task, learner = problems.picture_tasks(1), built(**SOLVED)
    meta, network = problems.double(learner.init()), problems.smooth_network()
    solution = learner.adapt(meta, task.support, 80)[-1].params
    at = {name: value.clone().requires_grad_() for name, value in solution.items()}
    far = sum((value - meta.params[name]).square().sum() for name, value in at.items())
    loss = classification.loss(network(at, task.support.inputs), task.support.targets).sum()
    slope = torch.autograd.grad(loss + SOLVED["strength"] / 2 * far, list(at.values()))
    assert max(float(value.abs().max()) for value in slope) < 1e-12


@pytest.mark.parametrize("statistics", ["transductive", "support"])
def test_the_meta_gradient_of_a_solved_inner_problem_equals_finite_differences(statistics):
    assert relative_error(built(statistics, **SOLVED), problems.picture_tasks(2)) < 1e-6


@pytest.mark.parametrize("unsolved", [{"inner_steps": 2}, {"cg_steps": 1}, {"cg_steps": 0}])
def test_of_an_unsolved_one_it_does_not(unsolved):
    assert relative_error(built(**SOLVED | unsolved), problems.picture_tasks(2)) > 1e-4


def test_the_settings_that_a_run_is_proved_with_solve_it():
    settled = checkable(built())
    assert checkable(settled) is settled
    assert relative_error(settled, problems.picture_tasks(2)) < 1e-6


def test_without_conjugate_gradients_and_without_a_pull_it_is_first_order_maml():
    tasks = problems.picture_tasks(2)
    learner = built(strength=1e-300, inner_lr=0.3, inner_steps=3, cg_steps=0)
    config = maml.Config(inner_lr=0.3, inner_steps=3, second_order=False)
    plain = maml.build(config, Problem(problems.smooth_network(), classification, "transductive", problems.WAYS))
    meta = problems.double(learner.init())
    torch.testing.assert_close(
        learner.meta_gradient(meta, tasks), plain.meta_gradient(meta, tasks), rtol=1e-12, atol=1e-15
    )
    assert learner.traits.second_order is False


def test_a_pull_beyond_measure_gives_the_gradient_of_joint_training():
    tasks = problems.picture_tasks(2)
    learner = built(strength=1e12, inner_lr=1e-12, inner_steps=2, **UNDAMPED)
    joint = maml.build(
        maml.Config(inner_steps=0), Problem(problems.smooth_network(), classification, "transductive", problems.WAYS)
    )
    meta = problems.double(learner.init())
    found, expected = (problems.flat(one.meta_gradient(meta, tasks)[0]) for one in (learner, joint))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_adapted_parameters_carry_no_graph_also_where_the_initialisation_does():
    task, learner = problems.picture_tasks(1), built()
    meta = problems.double(learner.init())
    at = Meta({name: value.requires_grad_() for name, value in meta.params.items()}, {})
    assert not any(v.requires_grad for state in learner.adapt(at, task.support, 2) for v in state.params.values())


class Kept:
    """A tensor that a graph keeps for its way back; counts the bytes of all of them that are alive."""

    alive, most = 0, 0

    def __init__(self, tensor):
        self.tensor = tensor
        Kept.alive += tensor.nbytes
        Kept.most = max(Kept.most, Kept.alive)

    def __del__(self):
        Kept.alive -= self.tensor.nbytes


def most_kept(learner: Learner) -> int:
    """How many bytes the graphs of a meta-gradient keep at most."""
    meta, task = problems.double(learner.init()), problems.picture_tasks(1)
    Kept.alive, Kept.most = 0, 0
    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        learner.meta_gradient(meta, task)
    return Kept.most


def test_the_graph_that_is_kept_does_not_grow_with_the_inner_steps():
    assert most_kept(built(inner_steps=40)) == most_kept(built(inner_steps=2)) > 0
    unrolled = [
        maml.build(
            maml.Config(inner_steps=steps), Problem(problems.smooth_network(), classification, "transductive", 3)
        )
        for steps in (2, 40)
    ]
    assert most_kept(unrolled[1]) > 10 * most_kept(unrolled[0])


def hessian_at(learner: Learner, meta: Meta, task: Task, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The Hessian of the support loss and the gradient of the query loss where the inner steps end, for one task."""
    network, end = problems.smooth_network(), learner.adapt(meta, task.support, steps)[-1].params
    sizes, names = [value.numel() for value in end.values()], list(end)

    def loss(row, half):
        parts = zip(names, row.split(sizes), strict=True)
        return classification.loss(
            network({n: v.view(end[n].shape) for n, v in parts}, half.inputs), half.targets
        ).sum()

    row = torch.cat([value.flatten() for value in end.values()])
    hessian = torch.autograd.functional.hessian(lambda at: loss(at, task.support), row)
    (query,) = torch.autograd.grad(loss(at := row.clone().requires_grad_(), task.query), at)
    return hessian, query


def test_damping_is_that_of_the_authors_code():
    task, learner = problems.picture_tasks(1), built(inner_lr=0.05, inner_steps=4, cg_steps=100)
    meta = problems.double(learner.init())
    hessian, query = hessian_at(learner, meta, task, 4)
    expected = torch.linalg.solve(2 * torch.eye(len(query)).double() + hessian / 12, query)
    found = problems.flat(learner.meta_gradient(meta, task)[0])
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(("settings", "cut"), [({"strength": 0.05, **UNDAMPED}, True), ({"strength": 0.05}, False)])
def test_the_tasks_that_negative_curvature_cuts_short_are_told(settings, cut):
    task, learner = problems.picture_tasks(1), built(inner_lr=0.3, inner_steps=1, cg_steps=100, **settings)
    meta = problems.double(learner.init())
    lowest = torch.linalg.eigvalsh(hessian_at(learner, meta, task, 1)[0])[0]
    assert 1 + lowest / 0.05 < 0 < 2 + lowest / 10.05
    assert learner.implicit.cut_short(meta, task).tolist() == [cut]


def test_a_pull_that_the_support_loss_all_but_cancels_makes_no_task_drown_the_others():
    settings = {"inner_lr": 0.3, "inner_steps": 1, "cg_steps": 100, **UNDAMPED}
    task = problems.picture_tasks(1)
    meta = problems.double(built(**settings).init())
    hessian, query = hessian_at(built(**settings), meta, task, 1)  # the first inner step starts where nothing pulls
    strength = -float(torch.linalg.eigvalsh(hessian)[0]) * (1 + 1e-5)
    learner = built(strength=strength, **settings)
    exact = torch.linalg.solve(torch.eye(len(query)).double() + hessian / strength, query)
    found = problems.flat(learner.meta_gradient(meta, task)[0])
    assert exact.norm() > 100 * query.norm()
    assert found.norm() < 10 * query.norm()
    assert learner.implicit.cut_short(meta, task).tolist() == [True]
