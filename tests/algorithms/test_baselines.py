"""The baselines: a classifier of all training classes, then a new head on frozen features; all in float64."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from metalearn_cli.algorithms import baseline, baseline_plus_plus
from metalearn_cli.core import heads, inner_loop
from metalearn_cli.core.meta import Learner, Meta, Problem
from metalearn_cli.core.objectives import classification
from metalearn_cli.core.pretraining import shuffled_batches
from metalearn_cli.core.tasks import Examples, Task
from metalearn_cli.errors import ConfigError
from metalearn_cli.layers.network import Network
from metalearn_cli.testing import problems

BOTH = [baseline, baseline_plus_plus]
CLASSES = 7


def built(module, statistics="transductive", **settings) -> Learner:
    config = module.Config(**{"classes": CLASSES} | settings)
    return module.build(config, Problem(problems.smooth_network(), classification, statistics, problems.WAYS))


def renumbered(tasks: Task, by: int) -> Task:
    return Task(*(Examples(half.inputs, half.targets + by) for half in tasks))


def features_of(params, inputs):
    each = {name: value.expand(len(inputs), *value.shape) for name, value in params.items()}
    return problems.smooth_network().features(each, inputs)


def in_batches(number: int) -> tuple[list[int], ...]:
    """Which of six support pictures go together in pass `number`."""
    places = torch.arange(6).expand(1, -1)
    return tuple(one.targets[0].tolist() for one in shuffled_batches(Examples(places, places), number, 4))


@pytest.mark.parametrize("module", BOTH)
def test_a_training_task_is_a_batch_of_a_classifier_of_all_classes(module):
    tasks, learner = renumbered(problems.picture_tasks(1), 4), built(module)
    meta = problems.double(learner.init())
    at = Meta(*({name: value.requires_grad_() for name, value in part.items()} for part in meta))
    seen = features_of(at.params, torch.cat([tasks.support.inputs, tasks.query.inputs], 1))[0]
    if module is baseline:
        logits = seen @ at.coefficients["weight"].T + at.coefficients["bias"]
    else:
        logits = 10 * F.cosine_similarity(seen.unsqueeze(1), at.coefficients["weight"].unsqueeze(0), dim=-1)
    loss = F.cross_entropy(logits, torch.cat([tasks.support.targets, tasks.query.targets], 1)[0])
    leaves = [value for part in at for value in part.values()]
    expected = torch.autograd.grad(loss, leaves, materialize_grads=True, allow_unused=True)
    gradient, scores = learner.meta_gradient(meta, tasks)
    torch.testing.assert_close(scores.loss[0], loss.detach(), rtol=1e-12, atol=0)
    found = [value for part in gradient for value in part.values()]
    torch.testing.assert_close(found, list(expected), rtol=1e-9, atol=1e-13)
    assert gradient.coefficients["weight"].shape == (CLASSES, 16)


def test_a_tasks_linear_head_is_learned_from_zero_as_in_the_papers_code():
    task, learner = problems.picture_tasks(1), built(baseline, inner_lr=0.3, inner_steps=4, weight_decay=0.01)
    meta = problems.double(learner.init())
    seen, targets = features_of(meta.params, task.support.inputs)[0], task.support.targets[0]
    head = nn.Linear(16, problems.WAYS).double()
    for value in head.parameters():
        nn.init.zeros_(value)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.3, momentum=0.9, dampening=0.9, weight_decay=0.01)
    for number, state in enumerate(learner.adapt(meta, task.support, 4)):
        torch.testing.assert_close(state.params["head.weight"][0], head.weight.detach(), rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(state.params["head.bias"][0], head.bias.detach(), rtol=1e-10, atol=1e-13)
        for some in in_batches(number):
            optimizer.zero_grad()
            F.cross_entropy(head(seen[some]), targets[some]).backward()
            optimizer.step()


def test_every_pass_takes_every_picture_once_in_another_order():
    passes = [in_batches(number) for number in range(20)]
    assert all(sorted([*first, *last]) == list(range(6)) and len(first) == 4 for first, last in passes)
    assert len({str(one) for one in passes}) > 15


@pytest.mark.parametrize(("shots", "steps"), [(1, 200), (5, 700)])
@pytest.mark.parametrize("module", BOTH)
def test_by_default_a_head_takes_as_many_steps_as_in_the_paper(module, shots, steps, monkeypatch):
    counted, slope = [], inner_loop.support_gradient
    monkeypatch.setattr(inner_loop, "support_gradient", lambda *given: counted.append(1) or slope(*given))
    learner, tasks = built(module), problems.picture_tasks(1, ways=5, shots=shots)
    learner.answers(problems.double(learner.init()), tasks.support, tasks.query.inputs, [learner.traits.inner_steps])
    assert len(counted) == steps


def test_a_cosine_head_is_learned_from_the_mean_directions_as_in_the_papers_code():
    task, learner = problems.picture_tasks(1), built(baseline_plus_plus, inner_lr=0.3, scale=4.0)
    meta = problems.double(learner.init())
    seen = F.normalize(features_of(meta.params, task.support.inputs)[0], dim=-1)
    weight = torch.stack([seen[task.support.targets[0] == way].mean(0) for way in range(problems.WAYS)])
    weight = weight.detach().requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=0.3, momentum=0.9, dampening=0.9, weight_decay=0.001)
    for number, state in enumerate(learner.adapt(meta, task.support, 4)):
        expected = 4 * F.normalize(weight.detach(), dim=-1)
        torch.testing.assert_close(state.params["head.weight"][0], expected, rtol=1e-10, atol=1e-13)
        for some in in_batches(number):
            optimizer.zero_grad()
            F.cross_entropy(4 * seen[some] @ F.normalize(weight, dim=-1).T, task.support.targets[0][some]).backward()
            optimizer.step()


def test_the_outputs_of_the_second_are_cosines_times_the_scale():
    tasks, learner = problems.picture_tasks(2), built(baseline_plus_plus, scale=3.0)
    meta = problems.double(learner.init())
    adapted = learner.adapt(meta, tasks.support, 2)[-1]
    found = learner.predict([adapted], tasks.query.inputs)[0]
    query = features_of(meta.params, tasks.query.inputs)
    weight = adapted.params["head.weight"]
    expected = 3 * F.cosine_similarity(query.unsqueeze(2), weight.unsqueeze(1), dim=-1)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)
    assert float(found.abs().max()) <= 3


@pytest.mark.parametrize("module", BOTH)
def test_a_task_moves_its_head_alone_and_leaves_no_graph(module):
    task, learner = problems.picture_tasks(1), built(module)
    meta = problems.double(learner.init())
    at = Meta(*({name: value.requires_grad_() for name, value in part.items()} for part in meta))
    states = learner.adapt(at, task.support, 3)
    for state in states:
        assert not any(value.requires_grad for value in state.params.values())
        assert all(
            torch.equal(value[0], meta.params[name]) for name, value in state.params.items() if name.startswith("body.")
        )
    assert not torch.equal(states[0].params["head.weight"], states[3].params["head.weight"])


@pytest.mark.parametrize("module", BOTH)
def test_fewer_rows_than_a_task_has_classes_are_refused(module):
    with pytest.raises(ConfigError, match=r"algorithm\.classes: found 2, expected at least the 3 of task\.ways"):
        built(module, classes=2)


def test_a_cosine_head_reads_directions_alone():
    head, features = heads.CosineHead(5, 3).double(), torch.randn(4, 5, dtype=torch.float64)
    torch.testing.assert_close(head(features), head(7 * features))
    assert not torch.allclose(head(features), nn.functional.linear(features, head.weight, head.bias))


@pytest.mark.parametrize("module", BOTH)
def test_they_tell_classes_apart(module):
    with pytest.raises(ConfigError, match="cannot predict numbers"):
        module.build(module.Config(), Problem(Network(nn.Linear(1, 1)), None, "transductive", None))
