"""Running statistics: those of torch's batch norm, kept beside what is learned and read by no accident."""

import pytest
import torch
from torch import nn

from metalearn_cli.algorithms import baseline, imaml, maml, maml_plus_plus, meta_sgd, protonet
from metalearn_cli.backbones import custom
from metalearn_cli.core.meta import Learner, Meta, Problem
from metalearn_cli.core.objectives import classification
from metalearn_cli.core.running_statistics import with_running_statistics
from metalearn_cli.core.shared_parameters import for_tasks
from metalearn_cli.core.tasks import Examples
from metalearn_cli.errors import ConfigError
from metalearn_cli.experiment import Outer
from metalearn_cli.layers.network import Network
from metalearn_cli.layers.norm import TaskNorm
from metalearn_cli.runtime.machine.execution import Plan, running
from metalearn_cli.runtime.run.outer_step import move, optimizer_for
from metalearn_cli.testing import problems

MODULES = [maml, protonet, baseline, meta_sgd, maml_plus_plus, imaml]


def pair(module, reads: bool) -> tuple[Learner, Learner]:
    """A learner, and the same with running statistics; with `reads` its norms take them."""
    network, statistics = problems.smooth_network(), "running" if reads else "transductive"
    plain, reading = (
        module.build(module.Config(), Problem(network, classification, which, problems.WAYS))
        for which in ("transductive", statistics)
    )
    return plain, with_running_statistics(reading, network)


def moved(meta: Meta) -> Meta:
    """With running statistics that are not those of the start."""
    generator = torch.Generator().manual_seed(2)
    draw = {n: torch.rand(v.shape, generator=generator, dtype=v.dtype) + 0.5 for n, v in meta.statistics.items()}
    return meta._replace(statistics=draw)


def change(learner: Learner) -> float:
    """How far the first query's logits move when all other queries are replaced."""
    meta, tasks = moved(problems.double(learner.init())), problems.picture_tasks(2)
    support = Examples(tasks.support.inputs[:1], tasks.support.targets[:1])
    adapted = learner.adapt(meta, support, 2)[-1]
    others = torch.cat([tasks.query.inputs[:1, :1], tasks.query.inputs[1:, 1:]], 1)
    before, after = (learner.predict([adapted], queries)[0][0, 0] for queries in (tasks.query.inputs[:1], others))
    return float((before - after).abs().max())


@pytest.mark.parametrize("module", MODULES)
def test_where_they_are_read_no_query_changes_another(module):
    assert change(pair(module, reads=True)[1]) < 1e-13
    assert change(pair(module, reads=False)[1]) > 1e-4


@pytest.mark.parametrize("module", MODULES)
def test_where_they_are_not_read_the_learner_is_what_it_was(module):
    plain, kept = pair(module, reads=False)
    tasks, meta = problems.picture_tasks(2), problems.double(kept.init())
    learned = meta._replace(statistics={})
    (gradient, result), (found, scores) = plain.meta_gradient(learned, tasks), kept.meta_gradient(meta, tasks)
    assert torch.equal(problems.flat(gradient), problems.flat(found._replace(statistics={})))
    assert torch.equal(result.loss, scores.loss)
    assert found.statistics.keys() == meta.statistics.keys()


@pytest.mark.parametrize("module", MODULES)
def test_a_network_that_was_called_while_its_learner_was_built_keeps_them_all_the_same(module):
    network, tasks = problems.smooth_network(), problems.picture_tasks(2)
    network(for_tasks(network.initial(), 2), tasks.query.inputs.float())
    learner = with_running_statistics(
        module.build(module.Config(), Problem(network, classification, "running", problems.WAYS)), network
    )
    meta = problems.double(learner.init())
    assert all(value.abs().max() > 0 for value in learner.meta_gradient(meta, tasks)[0].statistics.values())
    assert torch.isfinite(learner.answers(meta, tasks.support, tasks.query.inputs, [1])[0]).all()


@pytest.mark.parametrize("statistics", ["transductive", "support"])
@pytest.mark.parametrize("module", MODULES)
def test_tasks_at_once_equal_one_at_a_time(module, statistics):
    network = problems.smooth_network()
    reference, learner = (
        with_running_statistics(
            module.build(module.Config(), Problem(one, classification, statistics, problems.WAYS)), one
        )
        for one in (network.one_by_one(), network)
    )
    meta, tasks = moved(problems.double(learner.init())), problems.picture_tasks(5)
    with running(Plan("loop", 1, 1)) as runner:
        expected = runner.total(reference.meta_gradient, meta, tasks)
    with running(Plan("threads", 2, 2)) as runner:
        found = runner.total(learner.meta_gradient, meta, tasks)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    "outer", [Outer(), Outer(optimizer="adamw", weight_decay=0.5), Outer(optimizer="sgd", lr=9.0, clip_norm=1e-3)]
)
def test_they_are_those_of_torchs_batch_norm_whatever_the_optimizer(outer):

    network = Network(nn.Sequential(nn.Sequential(TaskNorm(1), nn.Flatten()), nn.Linear(64, problems.WAYS)))
    inner = maml.build(maml.Config(inner_steps=0), Problem(network, classification, "transductive", problems.WAYS))
    learner, other = with_running_statistics(inner, network), nn.BatchNorm2d(1).double()
    meta = problems.double(learner.init())
    optimizer = optimizer_for(outer, meta)
    for step in range(4):
        tasks = problems.picture_tasks(1, seed=step)
        move(outer, optimizer, meta, learner.meta_gradient(meta, tasks)[0], step)
        other(tasks.query.inputs[0])
    values = tasks.query.inputs[0].numel()
    torch.testing.assert_close(meta.statistics["0.0.mean"], other.running_mean, rtol=1e-12, atol=1e-14)
    # torch's is the unbiased estimate; at the start both are 1.
    mine, theirs, left = meta.statistics["0.0.variance"], other.running_var, 0.9**4
    torch.testing.assert_close((mine - left) * values / (values - 1), theirs - left, rtol=1e-10, atol=1e-12)


def test_where_they_are_read_the_answers_are_those_of_batch_norm_in_evaluation():
    norm, linear = TaskNorm(1), nn.Linear(64, problems.WAYS)
    network = Network(nn.Sequential(nn.Sequential(norm, nn.Flatten()), linear))
    inner = maml.build(maml.Config(), Problem(network, classification, "running", problems.WAYS))
    learner = with_running_statistics(inner, network)
    meta, tasks = moved(problems.double(learner.init())), problems.picture_tasks(1)
    found = learner.predict([learner.adapt(meta, tasks.support, 0)[0]], tasks.query.inputs)[0][0]
    other = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), linear).double().eval()
    other[0].running_mean, other[0].running_var = (meta.statistics[f"0.0.{name}"] for name in ("mean", "variance"))
    torch.testing.assert_close(found, other(tasks.query.inputs[0]), rtol=1e-10, atol=1e-12)


def test_a_network_without_norms_of_batches_has_none():
    network = Network(nn.Linear(2, 2))
    with pytest.raises(ConfigError, match=r"task\.running_statistics: the backbone has no norms"):
        with_running_statistics(pair(maml, False)[0], network)


def test_a_norm_that_comes_twice_has_the_mean_of_what_it_saw():
    norm = TaskNorm(1)
    body = nn.Sequential(norm, nn.Softplus(), norm, nn.Flatten())
    network = Network(nn.Sequential(body, nn.Linear(64, problems.WAYS)))
    inner = maml.build(maml.Config(inner_steps=0), Problem(network, classification, "transductive", problems.WAYS))
    learner, tasks = with_running_statistics(inner, network), problems.picture_tasks(2)
    meta = problems.double(learner.init())
    first = tasks.query.inputs.mean((1, 2, 3, 4))
    values = (tasks.query.inputs - first[:, None, None, None, None]) / (
        tasks.query.inputs.var((1, 2, 3, 4), correction=0)[:, None, None, None, None] + 1e-5
    ).sqrt()
    second = nn.functional.softplus(values).mean((1, 2, 3, 4))
    away = learner.meta_gradient(meta, tasks)[0].statistics["0.0.mean"]
    torch.testing.assert_close(-away, (first + second).sum(0, keepdim=True) / 2, rtol=1e-10, atol=1e-12)


def test_a_network_that_runs_under_vmap_is_refused_rather_than_watched_wrongly():
    config = custom.Config(call="tests.modules:Residual")
    network = Network(custom.build(config, (1, 16, 16), problems.WAYS))
    inner = maml.build(maml.Config(), Problem(network, classification, "transductive", problems.WAYS))
    learner = with_running_statistics(inner, network)
    with pytest.raises(ConfigError, match=r"task\.running_statistics: torch hides"):
        learner.meta_gradient(problems.double(learner.init()), problems.picture_tasks(2, shape=(1, 16, 16)))
