"""What each algorithm is: identities with others, closed forms and finite differences, all in float64."""

from collections import OrderedDict
from functools import partial

import pytest
import torch
from torch import nn

from metalearn_cli.algorithms import (
    anil,
    baseline,
    baseline_plus_plus,
    boil,
    cavia,
    maml,
    maml_plus_plus,
    meta_curvature,
    meta_sgd,
    metaqda,
    nearest,
    proto_maml,
    protonet,
    prototypes,
    r2d2,
    reptile,
    unicorn_maml,
)
from metalearn_cli.core import heads
from metalearn_cli.core.gradient import reverse_mode
from metalearn_cli.core.inner_loop import InnerLoop, adapt, predict
from metalearn_cli.core.meta import Learner, Meta, Problem, Scores
from metalearn_cli.core.objectives import classification, regression
from metalearn_cli.core.rules import chain, curvature, fixed_rate, of_gradient
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.convolution import TaskConv2d
from metalearn_cli.layers.network import Network
from metalearn_cli.layers.norm import TaskGroupNorm
from metalearn_cli.testing import problems

EXACT = {
    "anil": (anil, {"inner_steps": 3}),
    "anil from a zero head": (anil, {"inner_steps": 3, "zero_head": True}),
    "maml from a zero head": (maml, {"inner_steps": 2, "zero_head": True}),
    "maml from a zero head, mixed": (maml, {"inner_steps": 2, "zero_head": True, "gradient": "mixed"}),
    "boil": (boil, {"inner_steps": 2}),
    "meta_sgd": (meta_sgd, {"inner_steps": 2, "inner_lr": 0.3}),
    "meta_curvature": (meta_curvature, {"inner_steps": 2, "inner_lr": 0.3}),
    "maml_plus_plus": (maml_plus_plus, {"inner_steps": 3, "inner_lr": 0.3}),
    "cavia": (cavia, {"inner_steps": 3, "context": 5}),
    "protonet": (protonet, {}),
    "prototypes": (prototypes, {}),
    "metaqda": (metaqda, {}),
    "prototypes by distance": (prototypes, {"distance": "squared"}),
    "proto_maml": (proto_maml, {"inner_steps": 3}),
    "unicorn_maml": (unicorn_maml, {"inner_steps": 3, "inner_lr": 0.5}),
    "r2d2": (r2d2, {}),
    "baseline": (baseline, {"classes": 4}),
    "baseline_plus_plus": (baseline_plus_plus, {"classes": 4}),
}
FIRST_ORDER = {name: one for name, one in EXACT.items() if "second_order" in one[0].Config.model_fields}
FAMILY = [
    *(maml, anil, boil, meta_sgd, meta_curvature, maml_plus_plus, cavia),
    *(reptile, nearest, protonet, prototypes, metaqda, proto_maml, unicorn_maml, r2d2, baseline, baseline_plus_plus),
]
ANY_ORDER = [nearest, protonet, prototypes, metaqda, proto_maml, unicorn_maml, r2d2, baseline, baseline_plus_plus]
EQUAL_ROWS = [(maml, {"zero_head": True}), (anil, {"zero_head": True}), (unicorn_maml, {})]
ANY_WAYS = [(module, {}) for module in ANY_ORDER] + EQUAL_ROWS[:2]


def built(module, **settings) -> Learner:
    statistics = settings.pop("statistics", "transductive")
    config = module.Config(**settings)
    return module.build(config, Problem(problems.smooth_network(), classification, statistics, problems.WAYS))


def relative_error(learner: Learner, task: Task) -> float:
    meta = problems.double(learner.init())
    gradient = learner.meta_gradient(meta, task)[0]
    slope, along = problems.slope_by_differences(lambda m: float(learner.meta_gradient(m, task)[1].loss.sum()), meta)
    return abs(float(problems.flat(gradient) @ problems.flat(along)) - slope) / abs(slope)


def masked_maml(fast, rate, steps, second_order=True):
    """MAML with a rate of its own for every parameter: `rate` where `fast`, zero elsewhere."""
    rule = of_gradient(lambda _none, name, grad, _step: -(rate if fast(name) else 0.0) * grad)
    loop = InnerLoop(Problem(problems.smooth_network(), classification), rule, second_order)

    def through(meta, tasks, _iteration):
        adapted = adapt(loop, meta, tasks.support, steps)[-1]
        outputs = predict(loop, [adapted], tasks.query.inputs)[0]
        loss = classification.loss(outputs, tasks.query.targets)
        return Scores(loss, classification.score(outputs, tasks.query.targets))

    return partial(adapt, loop), reverse_mode(through)


@pytest.mark.parametrize("statistics", ["transductive", "support"])
@pytest.mark.parametrize("name", EXACT)
def test_the_meta_gradient_equals_finite_differences(name, statistics):
    module, settings = EXACT[name]
    assert relative_error(built(module, statistics=statistics, **settings), problems.picture_tasks(2)) < 1e-6


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_in_first_order_it_does_not(name):
    module, settings = FIRST_ORDER[name]
    assert relative_error(built(module, second_order=False, **settings), problems.picture_tasks(2)) > 1e-3


@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize(
    ("module", "fast"),
    [(anil, lambda name: name.startswith("head.")), (boil, lambda name: not name.startswith("head."))],
)
def test_moving_a_part_equals_maml_with_zero_rates_elsewhere(module, fast, second_order):
    tasks = problems.picture_tasks(3)
    learner = built(module, inner_lr=0.4, inner_steps=3, second_order=second_order)
    meta = problems.double(learner.init())
    adapting, meta_gradient = masked_maml(fast, 0.4, 3, second_order)
    expected, found = meta_gradient(meta, tasks), learner.meta_gradient(meta, tasks)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)
    for ours, theirs in zip(learner.adapt(meta, tasks.support, 3), adapting(meta, tasks.support, 3), strict=True):
        torch.testing.assert_close(ours.params, theirs.params, rtol=1e-12, atol=1e-14)


def test_what_does_not_move_is_the_meta_learned_value_itself():
    tasks = problems.picture_tasks(2)
    for module, still in ((anil, "body."), (boil, "head.")):
        learner = built(module, inner_steps=2)
        meta = problems.double(learner.init())
        for state in learner.adapt(meta, tasks.support, 2):
            for name in [name for name in state.params if name.startswith(still)]:
                assert torch.equal(state.params[name], meta.params[name].expand_as(state.params[name]))


@pytest.mark.parametrize("kept", [6, 5], ids=["balanced", "unbalanced"])
@pytest.mark.parametrize(
    ("module", "settings"),
    [
        (maml, {}),
        (maml, {"second_order": False}),
        (maml, {"gradient": "mixed"}),
        (anil, {}),
        (anil, {"second_order": False}),
    ],
)
def test_from_a_zero_head_it_is_the_plain_learner_at_a_head_of_zeros_which_stays(module, settings, kept):
    tasks = problems.picture_tasks(3)
    support = Examples(tasks.support.inputs[:, :kept], tasks.support.targets[:, :kept], problems.WAYS)
    tasks = tasks._replace(support=support)
    learner, plain = built(module, inner_steps=2, zero_head=True, **settings), built(module, inner_steps=2, **settings)
    meta = problems.double(plain.init())
    zero = Meta({n: torch.zeros_like(v) if n.startswith("head.") else v for n, v in meta.params.items()}, {})
    assert all(not value.any() for name, value in learner.init().params.items() if name.startswith("head."))
    for ours, theirs in zip(learner.adapt(meta, support, 2), plain.adapt(zero, support, 2), strict=True):
        torch.testing.assert_close(ours.params, theirs.params, rtol=1e-12, atol=1e-15)
    found, expected = (one.meta_gradient(at, tasks) for one, at in ((learner, meta), (plain, zero)))
    torch.testing.assert_close(found[1], expected[1], rtol=1e-12, atol=1e-15)
    for name, value in found[0].params.items():
        whole = torch.zeros_like(value) if name.startswith("head.") else expected[0].params[name]
        torch.testing.assert_close(value, whole, rtol=1e-11, atol=1e-14)


def test_mamls_first_step_from_a_zero_head_is_that_of_anil():
    tasks = problems.picture_tasks(2)
    first, second = (built(module, inner_steps=1, zero_head=True) for module in (maml, anil))
    meta = problems.double(first.init())
    one, two = (learner.meta_gradient(meta, tasks)[0].params for learner in (first, second))
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-15)
    start, step_1, step_2 = (state.params for state in first.adapt(meta, tasks.support, 2))
    for name in [name for name in start if "body." in name and name.endswith("weight")]:
        assert torch.equal(start[name], step_1[name])
        assert not torch.equal(start[name], step_2[name])


def test_anils_first_order_gradient_for_the_body_lacks_its_second_order_part():
    tasks = problems.picture_tasks(2)
    first, second = (built(anil, inner_steps=3, second_order=order) for order in (False, True))
    meta = problems.double(first.init())
    one, two = (learner.meta_gradient(meta, tasks)[0].params for learner in (first, second))
    bodies = [torch.cat([v.flatten() for n, v in found.items() if n.startswith("body.")]) for found in (one, two)]
    assert (bodies[0] - bodies[1]).norm() / bodies[1].norm() > 1e-2


def test_meta_sgd_with_equal_rates_has_mamls_gradient():
    tasks = problems.picture_tasks(3)
    learner, plain = built(meta_sgd, inner_lr=0.3, inner_steps=2), built(maml, inner_lr=0.3, inner_steps=2)
    params = problems.double(learner.init()).params
    meta = Meta(params, {name: torch.full_like(value, 0.3) for name, value in params.items()})
    found = learner.meta_gradient(meta, tasks)
    expected = plain.meta_gradient(Meta(meta.params, {}), tasks)
    torch.testing.assert_close(found[0].params, expected[0].params, rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(found[1], expected[1])


@pytest.mark.parametrize("second_order", [True, False])
def test_the_gradient_of_a_rate_is_minus_query_times_support_gradient(second_order):
    task = problems.picture_tasks(1)
    learner = built(meta_sgd, inner_lr=0.3, inner_steps=1, second_order=second_order)
    meta = problems.double(learner.init())
    network = problems.smooth_network()

    def gradient(params, examples: Examples):
        at = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
        loss = classification.loss(network(at, examples.inputs), examples.targets).sum()
        return dict(zip(at, torch.autograd.grad(loss, list(at.values())), strict=True))

    start, end = learner.adapt(meta, task.support, 1)
    support, query = gradient(start.params, task.support), gradient(end.params, task.query)
    found = learner.meta_gradient(meta, task)[0].coefficients
    assert found.keys() == meta.params.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, -(query[name] * support[name])[0], rtol=1e-10, atol=1e-14)


def test_meta_sgd_doubles_what_is_learned():
    meta = built(meta_sgd).init()
    assert {n: v.shape for n, v in meta.params.items()} == {n: v.shape for n, v in meta.coefficients.items()}


def test_reptile_with_one_plain_step_moves_along_the_support_gradient():
    tasks = problems.picture_tasks(2)
    learner = built(reptile, inner_lr=0.2, inner_steps=1, inner_optimizer="sgd")
    meta = problems.double(learner.init())
    way = learner.meta_gradient(meta, tasks)[0].params
    at = {name: value.clone().requires_grad_() for name, value in meta.params.items()}
    each = {name: value.expand(2, *value.shape) for name, value in at.items()}
    loss = classification.loss(problems.smooth_network()(each, tasks.support.inputs), tasks.support.targets).sum()
    for name, grad in zip(at, torch.autograd.grad(loss, list(at.values())), strict=True):
        torch.testing.assert_close(way[name], 0.2 * grad, rtol=1e-10, atol=1e-14)


def test_two_steps_of_reptile_on_a_quadratic_have_a_closed_form():
    task, rate = problems.value_tasks(1, inputs=3), 0.1
    config = reptile.Config(inner_lr=rate, inner_steps=2, inner_optimizer="sgd")
    learner = reptile.build(config, Problem(Network(nn.Linear(3, 1, bias=False)), regression, "transductive", None))
    meta = problems.double(learner.init())
    x, y = task.support.inputs[0], task.support.targets[0].squeeze(-1)
    hessian, offset = 2 * x.T @ x / len(x), 2 * x.T @ y / len(x)
    gradient = hessian @ meta.params["weight"].squeeze(0) - offset
    expected = rate * (gradient + (torch.eye(3, dtype=torch.float64) - rate * hessian) @ gradient)
    found = learner.meta_gradient(meta, task)[0].params["weight"].squeeze(0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_all_the_way_along_reptiles_gradient_of_one_task_are_its_adapted_weights(optimizer):
    task = problems.picture_tasks(1)
    learner = built(reptile, inner_lr=0.01, inner_steps=4, inner_optimizer=optimizer)
    meta = problems.double(learner.init())
    way = learner.meta_gradient(meta, task)[0].params
    adapted = learner.adapt(meta, task.support, 4)[-1].params
    for name, value in meta.params.items():
        torch.testing.assert_close(value - way[name], adapted[name][0], rtol=1e-12, atol=1e-14)


def test_reptiles_adam_is_torchs_without_momentum():
    task = problems.picture_tasks(1)
    learner = built(reptile, inner_lr=0.01, inner_steps=5)
    meta = problems.double(learner.init())
    at = {name: value.clone().unsqueeze(0).requires_grad_() for name, value in meta.params.items()}
    optimizer, network = torch.optim.Adam(at.values(), lr=0.01, betas=(0.0, 0.999)), problems.smooth_network()
    for _ in range(5):
        optimizer.zero_grad()
        classification.loss(network(at, task.support.inputs), task.support.targets).sum().backward()
        optimizer.step()
    adapted = learner.adapt(meta, task.support, 5)[-1].params
    for name, value in at.items():
        torch.testing.assert_close(adapted[name], value.detach(), rtol=1e-9, atol=1e-10)


def test_reptile_never_reads_the_query_set_to_learn():
    tasks, learner = problems.picture_tasks(2), built(reptile)
    meta = problems.double(learner.init())
    other = tasks._replace(query=Examples(torch.randn_like(tasks.query.inputs), tasks.query.targets))
    one, two = (learner.meta_gradient(meta, each)[0] for each in (tasks, other))
    assert torch.equal(problems.flat(one), problems.flat(two))


def features_of(learner, examples):
    network, meta = problems.smooth_network(), problems.double(learner.init())
    each = {name: value.expand(len(examples.inputs), *value.shape) for name, value in meta.params.items()}
    return network.features(each, examples.inputs)


def test_prototypes_predict_by_the_squared_distance():
    tasks, learner = problems.picture_tasks(3), built(protonet)
    meta = problems.double(learner.init())
    support, query = features_of(learner, tasks.support), features_of(learner, tasks.query)
    centres = torch.stack([support[:, tasks.support.targets[0] == k].mean(1) for k in range(problems.WAYS)], 1)
    expected = (-(query.unsqueeze(2) - centres.unsqueeze(1)).square().sum(-1)).softmax(-1)
    found = learner.predict([learner.adapt(meta, tasks.support, 0)[0]], tasks.query.inputs)[0].softmax(-1)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)


def test_a_constant_added_to_all_features_changes_no_prediction():
    features = torch.randn(2, 6, 5, dtype=torch.float64)
    targets = torch.arange(3).repeat_interleave(2).expand(2, -1)
    queries = torch.randn(2, 4, 5, dtype=torch.float64)

    def predictions(shift):
        head = heads.nearest_prototype(heads.prototypes(Examples(features + shift, targets)))
        return ((queries + shift) @ head["head.weight"].mT + head["head.bias"].unsqueeze(1)).softmax(-1)

    torch.testing.assert_close(predictions(0.0), predictions(3.0), rtol=1e-10, atol=1e-12)


def test_with_one_shot_the_prototypes_are_the_support_features():
    features = torch.randn(2, 3, 5, dtype=torch.float64)
    targets = torch.tensor([[2, 0, 1], [0, 1, 2]])
    found = heads.prototypes(Examples(features, targets))
    assert torch.equal(found[0], features[0, [1, 2, 0]])
    assert torch.equal(found[1], features[1])


@pytest.mark.parametrize(("module", "settings"), ANY_WAYS)
def test_who_is_not_tied_to_its_ways_tells_any_number_of_classes_apart(module, settings):
    learner = built(module, **settings)
    assert learner.traits.ways is None
    meta = problems.double(learner.init())
    for ways in (2, 5, 9):
        tasks = problems.picture_tasks(2, ways=ways)
        outputs = learner.predict([learner.adapt(meta, tasks.support, 2)[-1]], tasks.query.inputs)[0]
        assert outputs.shape == (2, 3 * ways, ways)


@pytest.mark.parametrize("module", ANY_ORDER)
def test_who_makes_its_head_from_classes_cannot_predict_numbers(module):
    with pytest.raises(ConfigError, match="cannot predict numbers"):
        module.build(module.Config(), Problem(Network(nn.Linear(1, 1)), regression, "transductive", None))


def test_proto_maml_before_its_first_step_predicts_as_prototypes_do():
    tasks, learner = problems.picture_tasks(2), built(proto_maml)
    meta = problems.double(learner.init())
    found, expected = (
        one.predict([one.adapt(meta, tasks.support, 0)[0]], tasks.query.inputs)[0] for one in (learner, built(protonet))
    )
    assert torch.equal(found, expected)


def test_proto_mamls_meta_gradient_goes_through_the_head_it_starts_from():
    tasks, learner = problems.picture_tasks(2), built(proto_maml, inner_steps=0)
    meta = problems.double(learner.init())
    found, expected = (one.meta_gradient(meta, tasks)[0] for one in (learner, built(protonet)))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


def test_unicorns_gradient_is_the_sum_of_the_rows_of_mamls():
    tasks, rate = problems.picture_tasks(2), 0.3
    learner, plain = built(unicorn_maml, inner_lr=rate, inner_steps=2), built(maml, inner_lr=rate, inner_steps=2)
    meta = problems.double(learner.init())
    copied = {n: v.expand(problems.WAYS, *v.shape[1:]) if n.startswith("head.") else v for n, v in meta.params.items()}
    found = learner.meta_gradient(meta, tasks)[0].params
    expected = plain.meta_gradient(Meta(copied, {}), tasks)[0].params
    for name, value in expected.items():
        whole = value.sum(0, keepdim=True) if name.startswith("head.") else value
        torch.testing.assert_close(found[name], whole, rtol=1e-9, atol=1e-13)


def test_a_ridge_head_solves_the_penalised_least_squares_problem():
    features = torch.randn(2, 6, 9, dtype=torch.float64)
    targets = torch.arange(3).repeat_interleave(2).expand(2, -1)
    strength = torch.tensor(0.7, dtype=torch.float64)
    found = heads.ridge(Examples(features, targets), strength)
    for task in range(2):
        known = torch.cat([features[task], torch.ones(6, 1, dtype=torch.float64)], 1)
        system = torch.cat([known, strength.sqrt() * torch.eye(10, dtype=torch.float64)])
        aims = torch.cat([torch.eye(3, dtype=torch.float64)[targets[task]], torch.zeros(10, 3, dtype=torch.float64)])
        solution = torch.linalg.lstsq(system, aims).solution
        torch.testing.assert_close(found["head.weight"][task], solution[:-1].T, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found["head.bias"][task], solution[-1], rtol=1e-9, atol=1e-12)


def test_the_derivative_of_a_ridge_head_is_right():
    targets = torch.tensor([[0, 1, 2, 0]])
    features = torch.randn(1, 4, 3, dtype=torch.float64, requires_grad=True)
    strength = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, s: tuple(heads.ridge(Examples(x, targets), s).values()), (features, strength)
    )


def test_r2d2_learns_its_penalty_and_its_scale():
    learner = built(r2d2)
    found = learner.meta_gradient(problems.double(learner.init()), problems.picture_tasks(2))[0].coefficients
    assert found.keys() == {"log_ridge", "log_scale"}
    assert all(float(value) != 0 for value in found.values())


@pytest.mark.parametrize("module", FAMILY)
def test_with_support_statistics_no_query_sees_another(module):
    tasks, learner = problems.picture_tasks(2), built(module, statistics="support")
    meta = problems.double(learner.init())
    adapted = learner.adapt(meta, tasks.support, 1)[-1]
    together = learner.predict([adapted], tasks.query.inputs)[0]
    alone = learner.predict([adapted], tasks.query.inputs[:, :1])[0]
    torch.testing.assert_close(together[:, :1], alone, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("module", "settings"), ANY_WAYS + [(one, {}) for one in FAMILY if one not in ANY_ORDER])
def test_permuting_the_classes_permutes_the_predictions_only_where_no_head_is_tied_to_them(module, settings):
    tasks, learner = problems.picture_tasks(1), built(module, **settings)
    meta = problems.double(learner.init())
    order = torch.tensor([2, 0, 1])
    permuted = Examples(tasks.support.inputs, order[tasks.support.targets])
    one, two = (
        learner.predict([learner.adapt(meta, support, 1)[-1]], tasks.query.inputs)[0].softmax(-1)
        for support in (tasks.support, permuted)
    )
    assert torch.allclose(two[..., order], one, rtol=1e-8, atol=1e-12) == (learner.traits.ways is None)


def moved_coefficients(meta: Meta, by: float) -> Meta:
    """The same with every coefficient moved away from where it starts, by fixed random numbers."""
    generator = torch.Generator().manual_seed(3)
    moved = {
        name: value + by * torch.randn(value.shape, generator=generator, dtype=value.dtype)
        for name, value in meta.coefficients.items()
    }
    return Meta(meta.params, moved)


def test_curvature_that_bends_nothing_is_maml():
    tasks = problems.picture_tasks(3)
    learner, plain = (built(module, inner_lr=0.3, inner_steps=2) for module in (meta_curvature, maml))
    meta = problems.double(learner.init())
    found, expected = learner.meta_gradient(meta, tasks), plain.meta_gradient(Meta(meta.params, {}), tasks)
    torch.testing.assert_close(found[0].params, expected[0].params, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(found[1], expected[1])


def test_curvature_multiplies_every_axis_of_a_gradient():
    values = {"kernel": torch.randn(3, 2, 2, 2, dtype=torch.float64), "bias": torch.randn(3, dtype=torch.float64)}
    rule = chain(curvature(), fixed_rate(0.5))
    matrices = moved_coefficients(Meta({}, rule.init(values)), by=1.0).coefficients
    assert {name: list(value.shape) for name, value in matrices.items()} == {
        "kernel.outputs": [3, 3], "kernel.inputs": [2, 2], "kernel.places": [4, 4], "bias.outputs": [3, 3],
    }  # fmt: skip
    found, _ = rule.update(matrices, {}, {name: value.unsqueeze(0) for name, value in values.items()}, {}, 0)
    out, into, places = (matrices[f"kernel.{axis}"] for axis in ("outputs", "inputs", "places"))
    kernel = torch.einsum("ao,bi,cp,oip->abc", out, into, places, values["kernel"].flatten(2))
    torch.testing.assert_close(found["kernel"][0], -0.5 * kernel.view(3, 2, 2, 2))
    torch.testing.assert_close(found["bias"][0], -0.5 * matrices["bias.outputs"] @ values["bias"])


@pytest.mark.parametrize("name", ["meta_curvature", "maml_plus_plus", "cavia", "meta_sgd"])
def test_away_from_where_its_coefficients_start_finite_differences_agree_too(name):
    module, settings = EXACT[name]
    learner, task = built(module, **settings), problems.picture_tasks(1)
    meta = moved_coefficients(problems.double(learner.init()), by=0.05)
    gradient = learner.meta_gradient(meta, task)[0]
    slope, along = problems.slope_by_differences(lambda m: float(learner.meta_gradient(m, task)[1].loss.sum()), meta)
    assert abs(float(problems.flat(gradient) @ problems.flat(along)) - slope) / abs(slope) < 1e-6


PLAIN = {"learned_rates": False, "per_step_norm": False, "multi_step_iterations": 0}


def test_maml_without_a_remedy_is_maml():
    tasks = problems.picture_tasks(3)
    learner, plain = (
        built(maml_plus_plus, inner_lr=0.3, inner_steps=3, **PLAIN),
        built(maml, inner_lr=0.3, inner_steps=3),
    )
    meta = problems.double(learner.init())
    torch.testing.assert_close(
        learner.meta_gradient(meta, tasks, 0), plain.meta_gradient(meta, tasks), rtol=1e-10, atol=1e-14
    )
    assert learner.traits.most_steps is None


def test_rates_that_are_equal_and_learned_give_mamls_gradient_for_the_parameters():
    tasks = problems.picture_tasks(3)
    learner = built(maml_plus_plus, inner_lr=0.3, inner_steps=3, **PLAIN | {"learned_rates": True})
    plain = built(maml, inner_lr=0.3, inner_steps=3)
    meta = problems.double(learner.init())
    meta = meta._replace(coefficients={name: torch.full_like(v, 0.3) for name, v in meta.coefficients.items()})
    found, expected = learner.meta_gradient(meta, tasks)[0], plain.meta_gradient(Meta(meta.params, {}), tasks)[0]
    torch.testing.assert_close(found.params, expected.params, rtol=1e-10, atol=1e-14)
    assert {tuple(value.shape) for value in found.coefficients.values()} == {(3,)}


def test_the_gradient_of_a_tensors_rate_is_minus_the_product_of_its_gradients():
    task = problems.picture_tasks(1)
    learner = built(maml_plus_plus, inner_lr=0.3, inner_steps=1, **PLAIN | {"learned_rates": True})
    single = built(meta_sgd, inner_lr=0.3, inner_steps=1)
    meta = problems.double(learner.init())
    meta = meta._replace(coefficients={name: torch.full_like(v, 0.3) for name, v in meta.coefficients.items()})
    alike = Meta(meta.params, {name: torch.full_like(value, 0.3) for name, value in meta.params.items()})
    each = single.meta_gradient(alike, task)[0].coefficients
    for name, value in learner.meta_gradient(meta, task)[0].coefficients.items():
        torch.testing.assert_close(value[0], each[name].sum(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("iteration", [0, 1, 37, 99, 100, 1000])
def test_the_losses_after_each_step_count_one_in_all(iteration):
    assert sum(maml_plus_plus.multi_step_weights(5, iteration, 100)) == pytest.approx(1, abs=1e-12)


def test_the_last_loss_comes_to_count_alone():
    assert maml_plus_plus.multi_step_weights(5, 0, 10) == pytest.approx([0.2] * 5)
    assert maml_plus_plus.multi_step_weights(5, 5, 10) == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.6])
    assert maml_plus_plus.multi_step_weights(5, 10, 10) == [0, 0, 0, 0, 1]
    assert maml_plus_plus.multi_step_weights(5, 999, 1000) == pytest.approx([0.006] * 4 + [0.976])
    assert maml_plus_plus.multi_step_weights(5, 0, 0) == [0, 0, 0, 0, 1]


def test_at_first_the_loss_after_every_step_is_learned_from():
    tasks = problems.picture_tasks(2)
    learner = built(maml_plus_plus, inner_lr=0.3, inner_steps=3, multi_step_iterations=100)
    meta = problems.double(learner.init())
    after = [
        classification.loss(learner.predict([state], tasks.query.inputs)[0], tasks.query.targets)
        for state in learner.adapt(meta, tasks.support, 3)[1:]
    ]
    found = learner.meta_gradient(meta, tasks, 0)[1].loss
    torch.testing.assert_close(found, sum(after) / 3)
    assert not torch.allclose(found, learner.meta_gradient(meta, tasks, 100)[1].loss)


def test_the_order_of_the_derivative_rises_at_its_iteration_and_no_earlier():
    tasks = problems.picture_tasks(2)
    rising, first, second = (
        built(maml_plus_plus, inner_lr=0.3, inner_steps=3, multi_step_iterations=0, **more)
        for more in ({"first_order_iterations": 7}, {"second_order": False}, {})
    )
    meta = problems.double(first.init())
    expected = [problems.flat(learner.meta_gradient(meta, tasks)[0]) for learner in (first, second)]
    assert not torch.allclose(*expected)
    assert torch.equal(problems.flat(rising.meta_gradient(meta, tasks, 6)[0]), expected[0])
    assert torch.equal(problems.flat(rising.meta_gradient(meta, tasks, 7)[0]), expected[1])
    assert torch.equal(problems.flat(rising.meta_gradient(meta, tasks)[0]), expected[1])


def test_the_norm_of_a_step_serves_that_step_alone():
    tasks = problems.picture_tasks(2)
    learner = built(maml_plus_plus, inner_lr=0.3, inner_steps=3)
    meta = problems.double(learner.init())
    norms = [name for name, value in meta.params.items() if name in ("body.1.weight", "body.1.bias", "body.4.weight")]
    assert all(meta.params[name].shape == (3, 4) for name in norms)
    others = {name: value.clone() for name, value in meta.params.items()}
    for name in norms:
        others[name][1] += 0.5
    before, after = (learner.adapt(Meta(p, meta.coefficients), tasks.support, 3) for p in (meta.params, others))
    for step in (0, 1):
        assert all(torch.equal(value, after[step].params[name]) for name, value in before[step].params.items())
    assert not torch.equal(before[2].params["body.1.weight"], after[2].params["body.1.weight"])
    assert torch.equal(before[3].params["body.1.weight"], after[3].params["body.1.weight"])
    assert not torch.equal(before[3].params["body.0.weight"], after[3].params["body.0.weight"])


def test_a_context_in_a_network_without_norms_is_an_input_more():
    task, rate = problems.value_tasks(1), 0.2
    module = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    config = cavia.Config(context=3, inner_lr=rate, inner_steps=1)
    learner = cavia.build(config, Problem(Network(module), regression, "transductive", None))
    meta = problems.double(learner.init())
    reads = meta.coefficients["0.bias"]
    at = {name: value.unsqueeze(0).requires_grad_() for name, value in meta.params.items()}
    loss = regression.loss(Network(module)(at, task.support.inputs), task.support.targets).sum()
    (slope,) = torch.autograd.grad(loss, at["0.bias"])
    adapted = learner.adapt(meta, task.support, 1)[1].params
    torch.testing.assert_close(adapted["0.bias"][0], meta.params["0.bias"] - rate * reads @ reads.T @ slope[0])
    assert all(torch.equal(adapted[n][0], value) for n, value in meta.params.items() if n != "0.bias")


def test_a_context_starts_at_nothing_and_shifts_norms_alone():
    tasks, learner = problems.picture_tasks(2), built(cavia)
    meta = problems.double(learner.init())
    start, end = learner.adapt(meta, tasks.support, 1)
    for name, value in meta.params.items():
        assert torch.equal(start.params[name], value.expand_as(start.params[name]))
        assert torch.equal(start.params[name], end.params[name]) != (name in meta.coefficients)
    assert sorted(meta.coefficients) == ["body.1.bias", "body.1.weight", "body.4.bias", "body.4.weight"]


def test_a_network_that_has_nothing_to_shift_is_refused_by_cavia():
    with pytest.raises(ConfigError, match="norms or biases"):
        cavia.build(cavia.Config(), Problem(Network(nn.Linear(2, 2, bias=False)), regression, "transductive", None))


def test_the_nearest_class_is_that_of_the_nearest_mean_picture():
    tasks, learner = problems.picture_tasks(2), built(nearest)
    meta = problems.double(learner.init())
    found = learner.predict([learner.adapt(meta, tasks.support, 0)[0]], tasks.query.inputs)[0].argmax(-1)
    for task in range(2):
        known, asked = tasks.support.inputs[task].flatten(1), tasks.query.inputs[task].flatten(1)
        means = torch.stack([known[tasks.support.targets[task] == way].mean(0) for way in range(problems.WAYS)])
        assert torch.equal(found[task], torch.cdist(asked, means).argmin(1))
    assert not problems.flat(learner.meta_gradient(meta, tasks)[0]).any()


@pytest.mark.parametrize("statistics", ["transductive", "support"])
@pytest.mark.parametrize(
    ("module", "settings"),
    [(anil, {}), (anil, {"zero_head": True}), (baseline, {"classes": 9}), (baseline_plus_plus, {"classes": 9})],
)
def test_where_the_body_rests_queries_are_read_once_for_all_steps(module, settings, statistics, monkeypatch):
    read, features = [], Network.features
    monkeypatch.setattr(Network, "features", lambda self, *given: read.append(1) or features(self, *given))
    learner, tasks = built(module, statistics=statistics, **settings), problems.picture_tasks(3)
    meta, steps = problems.double(learner.init()), [0, 2, 3]
    states = learner.adapt(meta, tasks.support, 3)
    expected = [learner.predict([states[step]], tasks.query.inputs)[0] for step in steps]
    read.clear()
    found = learner.answers(meta, tasks.support, tasks.query.inputs, steps)
    assert len(read) == 2  # the support set, and the queries
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(expected[0], expected[2])


class Layered(nn.Module):
    """A network whose norms are of groups and of layers, one of them over more than one axis."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            TaskConv2d(1, 4, 3, stride=2, padding=1),
            TaskGroupNorm(2, 4),
            nn.Tanh(),
            nn.LayerNorm([4, 4, 4]),
            nn.Flatten(),
        )
        self.head = nn.Linear(64, problems.WAYS)


@pytest.mark.parametrize("module", [maml_plus_plus, cavia])
def test_norms_of_groups_and_layers_are_norms_too(module):
    network = Network(nn.Sequential(OrderedDict(Layered().named_children())))
    config = module.Config(inner_steps=2, inner_lr=0.3)
    learner = module.build(config, Problem(network, classification, "transductive", problems.WAYS))
    meta, task = moved_coefficients(problems.double(learner.init()), by=0.05), problems.picture_tasks(1)
    norms = {f"body.{place}.{name}" for place in (1, 3) for name in ("weight", "bias")}
    if module is cavia:
        assert set(meta.coefficients) == norms
        start, end = learner.adapt(meta, task.support, 1)
        assert {name for name, value in start.params.items() if not torch.equal(value, end.params[name])} == norms
    else:
        assert all((len(value) == 2) == (name in norms) for name, value in meta.params.items() if "body" in name)
    gradient = learner.meta_gradient(meta, task)[0]
    slope, along = problems.slope_by_differences(lambda m: float(learner.meta_gradient(m, task)[1].loss.sum()), meta)
    assert abs(float(problems.flat(gradient) @ problems.flat(along)) - slope) / abs(slope) < 1e-6


@pytest.mark.parametrize(("module", "settings"), EQUAL_ROWS)
def test_several_layers_of_a_head_whose_rows_begin_equal_would_learn_nothing_and_are_refused(module, settings):
    deep = problems.smooth_module()
    deep.head = nn.Sequential(nn.Linear(16, 4), nn.Linear(4, problems.WAYS))
    problem = Problem(Network(deep), classification, "transductive", problems.WAYS)
    with pytest.raises(ConfigError, match=r"learns nothing through several layers; .*parameters head\.0\.bias, "):
        module.build(module.Config(**settings), problem)


@pytest.mark.parametrize(("module", "settings"), EQUAL_ROWS)
def test_a_fixed_head_whose_rows_begin_equal_would_learn_nothing_and_is_refused(module, settings):
    fixed = problems.smooth_module()
    fixed.head.weight.requires_grad_(False)
    problem = Problem(Network(fixed), classification, "transductive", problems.WAYS)
    with pytest.raises(ConfigError, match=r"that of this backbone is fixed"):
        module.build(module.Config(**settings), problem)


@pytest.mark.parametrize("module", [maml, anil])
def test_a_regression_learns_from_a_zero_head_as_from_a_learned_one_of_zeros_whole_numbers_too(module):
    network = Network(nn.Sequential(OrderedDict(body=nn.Sequential(nn.Linear(2, 5), nn.Tanh()), head=nn.Linear(5, 1))))
    zero, plain = (
        module.build(module.Config(inner_steps=2, zero_head=at), Problem(network, regression, "transductive", None))
        for at in (True, False)
    )
    support = Examples(torch.randn(2, 4, 2, dtype=torch.float64), torch.tensor([[[7], [1], [2], [3]]] * 2))
    meta = problems.double(zero.init())
    found, expected = (one.adapt(meta, support, 2)[-1].params for one in (zero, plain))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("module", [maml, anil])
def test_without_inner_steps_a_zero_head_would_learn_nothing_and_is_refused(module):
    with pytest.raises(ConfigError, match=r"^algorithm\.inner_steps: found 0, but a zero head learns nothing"):
        built(module, inner_steps=0, zero_head=True)
